"""The JSON files beside the tensors: items.jsonl, popular.json, golden.jsonl, eval.json."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from io import BytesIO
from itertools import pairwise
from typing import Any, Final

from models.catalog import Attributes, Catalog
from models.checkpoint.errors import CheckpointError, Reason
from models.checkpoint.golden import GoldenQuery
from models.checkpoint.manifest import EVALUATION_FILE, GOLDEN_FILE, ITEMS_FILE, POPULAR_FILE
from models.checkpoint.strict_json import parse_json, render_json

MAX_EXTERNAL_ID: Final = 256
MAX_ROW_BYTES: Final = 2**20
MAX_POPULAR: Final = 10_000
MAX_GOLDEN: Final = 10_000
MAX_GOLDEN_HISTORY: Final = 1_000
MAX_GOLDEN_ITEMS: Final = 500


def render_items(catalog: Catalog) -> bytes:
    """Return items.jsonl: one row per item, in row order, attributes where the source had any."""
    rows: list[dict[str, Any]] = [{"item_id": external} for external in catalog.external_ids]
    if catalog.attributes is not None:
        for row, attributes in zip(rows, catalog.attributes, strict=True):
            row["attributes"] = dict(attributes)
    return _lines(rows)


def parse_items(data: bytes, *, num_items: int) -> Catalog:
    """Return the catalog in items.jsonl; CheckpointError `bad_items` or `bad_json`."""
    rows = data.count(b"\n")
    if rows != num_items:
        raise _bad_items(f"holds {rows} rows, the architecture {num_items} items")
    external_ids: list[str] = []
    attributes: list[Attributes] = []
    described = False
    for number, row in _rows(data, ITEMS_FILE):
        if not isinstance(row, dict) or not {"item_id"} <= row.keys() <= {"item_id", "attributes"}:
            raise _bad_items(f"line {number} must hold item_id and, if any, attributes")
        external = row["item_id"]
        if not is_external_id(external):
            raise _bad_items(
                f"line {number}: item_id must be a string of 1 to {MAX_EXTERNAL_ID} characters "
                "without control characters"
            )
        own = row.get("attributes", {})
        if not _are_attributes(own):
            raise _bad_items(
                f"line {number}: attributes must be strings, numbers, booleans or lists of strings"
            )
        described = described or "attributes" in row
        external_ids.append(external)
        attributes.append(own)
    try:
        return Catalog(external_ids, attributes if described else None)
    except ValueError as error:
        raise _bad_items(str(error)) from None


def render_popular(popular: Sequence[tuple[str, float]]) -> bytes:
    """Return popular.json: [external id, score] pairs, best first."""
    return render_json([[external, score] for external, score in popular])


def parse_popular(data: bytes, catalog: Catalog) -> list[tuple[str, float]]:
    """Return (external id, score), best first; CheckpointError `bad_popular` or `bad_json`."""
    values = parse_json(data, POPULAR_FILE)
    if not isinstance(values, list) or not 1 <= len(values) <= MAX_POPULAR:
        raise _bad_popular(f"must hold a list of 1 to {MAX_POPULAR} pairs")
    popular: list[tuple[str, float]] = []
    for pair in values:
        if not isinstance(pair, list) or len(pair) != 2 or not _is_number(pair[1]):
            raise _bad_popular("holds something other than [item_id, score]")
        if not isinstance(pair[0], str) or pair[0] not in catalog:
            raise _bad_popular("names an item that is not in the catalog")
        popular.append((pair[0], float(pair[1])))
    if len({external for external, _ in popular}) != len(popular):
        raise _bad_popular("names an item twice")
    if not _falling([score for _, score in popular]):
        raise _bad_popular("does not stand by falling score")
    return popular


def render_golden(golden: Sequence[GoldenQuery]) -> bytes:
    """Return golden.jsonl: one query with its answer per row."""
    return _lines(
        {
            "history": list(query.history),
            "submodel": query.submodel,
            "items": list(query.items),
            "scores": list(query.scores),
        }
        for query in golden
    )


def parse_golden(data: bytes, catalog: Catalog | None, served: Sequence[str]) -> list[GoldenQuery]:
    """Return the golden queries; at least one for each of the `served` submodels.

    Ids are looked up in `catalog` when there is one.
    Raises CheckpointError `bad_golden` or `bad_json`.
    """
    golden: list[GoldenQuery] = []
    for number, row in _rows(data, GOLDEN_FILE):
        if number > MAX_GOLDEN:
            raise _bad_golden(f"holds more than {MAX_GOLDEN} rows")
        finding = _golden_fault(row, catalog, served)
        if finding is not None:
            raise _bad_golden(f"line {number}: {finding}")
        golden.append(
            GoldenQuery(
                history=tuple(row["history"]),
                submodel=row["submodel"],
                items=tuple(row["items"]),
                scores=tuple(float(score) for score in row["scores"]),
            )
        )
    uncovered = sorted(set(served) - {query.submodel for query in golden})
    if uncovered:
        raise _bad_golden(f"has no query for {', '.join(uncovered)}")
    return golden


def render_evaluation(evaluation: Mapping[str, Any]) -> bytes:
    """Return eval.json."""
    return render_json(evaluation) + b"\n"


def parse_evaluation(data: bytes) -> dict[str, Any]:
    """Return the object in eval.json; CheckpointError `bad_evaluation` or `bad_json`."""
    values = parse_json(data, EVALUATION_FILE)
    if not isinstance(values, dict):
        raise CheckpointError(Reason.BAD_EVALUATION, f"{EVALUATION_FILE} must hold one object")
    return values


def is_external_id(value: object) -> bool:
    """Whether `value` may name an item: 1 to 256 characters, none of them a control character."""
    if not isinstance(value, str) or not 1 <= len(value) <= MAX_EXTERNAL_ID:
        return False
    return value.isprintable() or not any(unicodedata.category(char) == "Cc" for char in value)


def _golden_fault(row: Any, catalog: Catalog | None, served: Sequence[str]) -> str | None:
    if not isinstance(row, dict) or set(row) != {"history", "submodel", "items", "scores"}:
        return "must hold history, submodel, items and scores"
    history, items, scores = row["history"], row["items"], row["scores"]
    if row["submodel"] not in served:
        return "names a submodel that is not served"
    for ids, least, most in ((history, 1, MAX_GOLDEN_HISTORY), (items, 0, MAX_GOLDEN_ITEMS)):
        if not isinstance(ids, list) or not least <= len(ids) <= most:
            return f"history and items must be lists of {least} to {most} item ids"
        if not all(is_external_id(external) for external in ids):
            return "history and items must hold item ids"
        if catalog is not None and not all(external in catalog for external in ids):
            return "names an item that is not in the catalog"
    if len(set(items)) != len(items):
        return "names an item of the answer twice"
    if not isinstance(scores, list) or not all(_is_number(score) for score in scores):
        return "scores must be finite numbers"
    if len(scores) != len(items) or not _falling(scores):
        return "scores must match the items and fall"
    return None


def _lines(rows: Any) -> bytes:
    return b"".join(render_json(row) + b"\n" for row in rows)


def _rows(data: bytes, file: str) -> Iterator[tuple[int, Any]]:
    if data and not data.endswith(b"\n"):
        raise CheckpointError(Reason.BAD_JSON, f"{file} does not end with a line feed")
    for number, line in enumerate(BytesIO(data), start=1):
        if len(line) > MAX_ROW_BYTES:
            raise CheckpointError(
                Reason.TOO_LARGE, f"{file} line {number} is longer than {MAX_ROW_BYTES} bytes"
            )
        yield number, parse_json(line, f"{file} line {number}")


def _are_attributes(value: Any) -> bool:
    return isinstance(value, dict) and all(map(_is_attribute, value.values()))


def _is_attribute(value: Any) -> bool:
    if isinstance(value, int):
        return abs(value) < 2**63
    if isinstance(value, list):
        return all(map(_is_text, value))
    return isinstance(value, str | float)


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_number(value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return abs(value) < 1e300 and math.isfinite(value)


def _falling(scores: Sequence[float]) -> bool:
    return all(before >= after for before, after in pairwise(scores))


def _bad_items(finding: str) -> CheckpointError:
    return CheckpointError(Reason.BAD_ITEMS, f"{ITEMS_FILE} {finding}")


def _bad_popular(finding: str) -> CheckpointError:
    return CheckpointError(Reason.BAD_POPULAR, f"{POPULAR_FILE} {finding}")


def _bad_golden(finding: str) -> CheckpointError:
    return CheckpointError(Reason.BAD_GOLDEN, f"{GOLDEN_FILE} {finding}")
