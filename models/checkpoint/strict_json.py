"""JSON from a stranger: UTF-8, no duplicate keys, no NaN, bounded depth, no lone surrogates."""

from __future__ import annotations

import json
import math
from typing import Any

from models.checkpoint.errors import CheckpointError, Reason

MAX_DEPTH = 32


def parse_json(data: bytes, what: str) -> Any:
    """Return the JSON value in `data`, which `what` names in errors.

    Raises CheckpointError `bad_json` for anything but plain JSON in UTF-8 of at most `MAX_DEPTH`
    nested values: duplicate keys, NaN, infinite numbers and lone surrogates are refused.
    """
    try:
        text = data.decode("utf-8")
        value = _DECODER.decode(text)
        if "\\u" in text:  # it may spell a lone surrogate
            json.dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeError:
        raise CheckpointError(Reason.BAD_JSON, f"{what} is not valid UTF-8") from None
    except RecursionError:
        raise _too_deep(what) from None
    except ValueError as error:
        raise CheckpointError(Reason.BAD_JSON, f"{what} is not plain JSON: {error}") from None
    # Few brackets cannot nest deep: most rows are spared the walk.
    if data.count(b"[") + data.count(b"{") > MAX_DEPTH and not _shallower_than(value, MAX_DEPTH):
        raise _too_deep(what)
    return value


def render_json(value: Any) -> bytes:
    """Return `value` as compact JSON in UTF-8; ValueError for NaN and infinities."""
    return _ENCODER.encode(value).encode("utf-8")


def _too_deep(what: str) -> CheckpointError:
    return CheckpointError(Reason.BAD_JSON, f"{what} nests deeper than {MAX_DEPTH} levels")


def _shallower_than(value: Any, limit: int) -> bool:
    level = [value]
    for _ in range(limit):
        level = [
            child
            for node in level
            if isinstance(node, dict | list)
            for child in (node.values() if isinstance(node, dict) else node)
        ]
        if not level:
            return True
    return False


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) != len(pairs):
        raise ValueError("a key stands twice in one object")
    return values


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError("a number is too large for float64")
    return number


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not a JSON number")


_DECODER = json.JSONDecoder(
    object_pairs_hook=_unique, parse_float=_finite, parse_constant=_refuse_constant
)
_ENCODER = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"))
