"""Forgery of the JSON files: digests and names fit, the content is hostile."""

from __future__ import annotations

import json
import pickle
import random
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from models.checkpoint.errors import CheckpointError, Reason
from models.checkpoint.read import read_checkpoint

if TYPE_CHECKING:
    from tests.models.checkpoint.conftest import Tiny


def reason_of(path: Path) -> Reason:
    with pytest.raises(CheckpointError) as caught:
        read_checkpoint(path)
    assert len(str(caught.value)) < 1000
    return caught.value.reason


def test_a_forged_but_sound_checkpoint_is_read(path: Path, tiny: Tiny) -> None:
    (path / "eval.json").write_bytes(b'{"routed": "better"}')
    assert read_checkpoint(tiny.sign(path)).evaluation == {"routed": "better"}


MANIFESTS: list[tuple[str, Callable[[dict[str, Any]], object], Reason]] = [
    ("unknown key", lambda m: m.update(extra=1), Reason.BAD_MANIFEST),
    ("missing key", lambda m: m.pop("submodels"), Reason.BAD_MANIFEST),
    ("format 2", lambda m: m.update(format_version=2), Reason.UNKNOWN_FORMAT),
    ("format '1'", lambda m: m.update(format_version="1"), Reason.UNKNOWN_FORMAT),
    ("format true", lambda m: m.update(format_version=True), Reason.UNKNOWN_FORMAT),
    ("no format", lambda m: m.pop("format_version"), Reason.UNKNOWN_FORMAT),
    ("traversing file", lambda m: _rename_file(m, "../x.json"), Reason.BAD_MANIFEST),
    ("absolute file", lambda m: _rename_file(m, "/etc/passwd"), Reason.BAD_MANIFEST),
    ("pickle listed", lambda m: m["files"].update({"m.pkl": _entry()}), Reason.BAD_MANIFEST),
    ("upper-case digest", lambda m: _upper(m["files"]["eval.json"]), Reason.BAD_MANIFEST),
    ("size as text", lambda m: m["files"]["eval.json"].update(size="28"), Reason.BAD_MANIFEST),
    ("huge size", lambda m: m["files"]["eval.json"].update(size=2**70), Reason.BAD_MANIFEST),
    ("large size", lambda m: m["files"]["eval.json"].update(size=2**40), Reason.SIZE_MISMATCH),
    ("negative size", lambda m: m["files"]["eval.json"].update(size=-1), Reason.BAD_MANIFEST),
    ("version elsewhere", lambda m: m.update(parent="../../etc"), Reason.BAD_MANIFEST),
    ("no time zone", lambda m: m.update(created_at="2026-11-21T00:00:00"), Reason.BAD_MANIFEST),
    ("metric as text", lambda m: m["metrics"].update(ndcg_10="1"), Reason.BAD_MANIFEST),
    ("unknown axis", lambda m: m["architecture"].update(experts=4), Reason.BAD_MANIFEST),
    ("depth bomb", lambda m: m["architecture"].update(depths=[10**9]), Reason.BAD_MANIFEST),
    ("width bomb", lambda m: m["architecture"].update(widths=[2**60]), Reason.BAD_MANIFEST),
    ("items bomb", lambda m: m["architecture"].update(num_items=10**15), Reason.BAD_MANIFEST),
    ("ffn bomb", lambda m: m["architecture"].update(ffn_multiplier=10**9), Reason.BAD_MANIFEST),
    ("axis bomb", lambda m: m["architecture"].update(depths=[*range(1, 99)]), Reason.BAD_MANIFEST),
    ("axis of text", lambda m: m["architecture"].update(depths="12"), Reason.BAD_MANIFEST),
    ("axis of floats", lambda m: m["architecture"].update(depths=[1.0, 2.0]), Reason.BAD_MANIFEST),
    ("memory of text", lambda m: m["architecture"].update(memory="yes"), Reason.BAD_MANIFEST),
    ("memory key", lambda m: m["architecture"]["memory"].update(x=1), Reason.BAD_MANIFEST),
    ("another item count", lambda m: m["architecture"].update(num_items=6), Reason.BAD_ITEMS),
    ("another width", lambda m: m["architecture"].update(emb_widths=[4, 6]), Reason.BAD_MANIFEST),
    ("longer history", lambda m: m["architecture"].update(max_length=9), Reason.TENSOR_SHAPE),
    ("another ffn", lambda m: m["architecture"].update(ffn_multiplier=2), Reason.TENSOR_SHAPE),
    ("another backbone", lambda m: m["architecture"].update(backbone="lstm"), Reason.BAD_MANIFEST),
    ("backbone list", lambda m: m["architecture"].update(backbone=["x"]), Reason.BAD_MANIFEST),
    ("unlike", lambda m: m["architecture"].update(backbone="nextitnet"), Reason.TENSOR_NAMES),
    ("a scheme", lambda m: m["architecture"].update(layer_sharing="all"), Reason.BAD_MANIFEST),
    (
        "shared after all",
        lambda m: m["architecture"].update(layer_sharing="cross_layer"),
        Reason.TENSOR_NAMES,
    ),
    ("dilation bomb", lambda m: m["architecture"].update(dilations=[10**9]), Reason.BAD_MANIFEST),
    ("dilation of text", lambda m: m["architecture"].update(dilations="14"), Reason.BAD_MANIFEST),
    ("no dilations", lambda m: m["architecture"].update(dilations=[]), Reason.BAD_MANIFEST),
    ("no memory", lambda m: m["architecture"].update(memory=None), Reason.TENSOR_NAMES),
    ("table of text", lambda m: m["architecture"].update(table="4"), Reason.BAD_MANIFEST),
    ("table of rank 0", lambda m: _table(m, (6, 0)), Reason.BAD_MANIFEST),
    ("table too short", lambda m: _table(m, (5, 2)), Reason.BAD_MANIFEST),
    ("table too wide", lambda m: _table(m, (6, 5)), Reason.BAD_MANIFEST),
    ("table of rising ranks", lambda m: _table(m, (2, 1), (6, 2)), Reason.BAD_MANIFEST),
    ("table back and forth", lambda m: _table(m, (3, 2), (2, 1), (6, 1)), Reason.BAD_MANIFEST),
    ("table in blocks", lambda m: _table(m, (3, 4), (6, 2)), Reason.TENSOR_NAMES),
    ("served twice", lambda m: m["submodels"].insert(0, m["submodels"][0]), Reason.BAD_MANIFEST),
    ("off the grid", lambda m: m["submodels"][0].update(name="d1-w6-e4"), Reason.BAD_MANIFEST),
    ("falling cost", lambda m: m["submodels"].reverse(), Reason.BAD_MANIFEST),
    ("no full network", lambda m: m["submodels"].pop(), Reason.BAD_MANIFEST),
    ("nothing served", lambda m: m.update(submodels=[]), Reason.BAD_MANIFEST),
    ("negative FLOPs", lambda m: m["submodels"][0].update(flops_router=-1), Reason.BAD_MANIFEST),
    ("unserved choice", lambda m: m["router"].update(submodels=["d1-w8-e4"]), Reason.BAD_MANIFEST),
    ("fewer choices", lambda m: m["router"]["submodels"].pop(), Reason.TENSOR_SHAPE),
    ("other features", lambda m: m["router"].update(features=7), Reason.BAD_MANIFEST),
    (
        "surprise without a memory",
        lambda m: (m["router"].update(features=48), m["architecture"].update(memory=None)),
        Reason.BAD_MANIFEST,
    ),
    ("wider router", lambda m: m["router"].update(hidden=4), Reason.TENSOR_SHAPE),
    ("router bomb", lambda m: m["router"].update(hidden=2**60), Reason.BAD_MANIFEST),
    ("negative price", lambda m: m["router"].update(price=-0.1), Reason.BAD_MANIFEST),
]


def _table(manifest: dict[str, Any], *blocks: tuple[int, int]) -> None:
    manifest["architecture"]["table"] = {
        "blocks": [{"stop": stop, "width": width} for stop, width in blocks],
        "projected": True,
    }


def _entry() -> dict[str, Any]:
    return {"sha256": "0" * 64, "size": 1}


def _rename_file(manifest: dict[str, Any], name: str) -> None:
    manifest["files"][name] = manifest["files"].pop("eval.json")


def _upper(entry: dict[str, Any]) -> None:
    entry["sha256"] = entry["sha256"].upper()


@pytest.mark.parametrize(
    ("change", "reason"), [case[1:] for case in MANIFESTS], ids=[case[0] for case in MANIFESTS]
)
def test_a_forged_manifest_is_refused(
    path: Path, tiny: Tiny, change: Callable[[dict[str, Any]], object], reason: Reason
) -> None:
    values = json.loads((path / "manifest.json").read_bytes())
    change(values)
    assert reason_of(tiny.sign_manifest(path, json.dumps(values).encode())) is reason


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"null",
        b"{" * 5000,
        b'{"a":' * 50_000 + b"1" + b"}" * 50_000,
        b"\xff\xfe{}",
        b'{"format_version": 1, "format_version": 1}',
        b'{"format_version": NaN}',
        b'{"format_version": 1e999}',
        b'{"format_version": ' + b"9" * 10_000 + b"}",
        b'{"format_version": "\\ud800"}',
        b"\x80\x04\x95.",
        b"\x00" * 100,
    ],
    ids=range(13),
)
def test_a_manifest_that_is_no_plain_json_object_is_refused(
    path: Path, tiny: Tiny, data: bytes
) -> None:
    expected = Reason.BAD_MANIFEST if data in {b"[]", b"null"} else Reason.BAD_JSON
    assert reason_of(tiny.sign_manifest(path, data)) is expected


def test_a_manifest_of_another_version_signed_for_this_one_is_refused(
    path: Path, tiny: Tiny
) -> None:
    values = json.loads((path / "manifest.json").read_bytes())
    values["version"] = "20261121T041200Z-1a2b3c4d"
    assert reason_of(tiny.sign_manifest(path, json.dumps(values).encode())) is Reason.BAD_MANIFEST


def test_a_huge_manifest_is_refused(path: Path, tiny: Tiny) -> None:
    data = (path / "manifest.json").read_bytes() + b" " * (4 * 2**20)
    assert reason_of(tiny.sign_manifest(path, data)) is Reason.TOO_LARGE


ITEM = b'{"item_id":"%s"}\n'
FOUR = b"".join(ITEM % name for name in (b"b", b"c", b"d", b"e"))
ROWS: list[tuple[str, str, bytes, Reason]] = [
    ("too few items", "items.jsonl", FOUR, Reason.BAD_ITEMS),
    ("an item twice", "items.jsonl", FOUR + ITEM % b"b", Reason.BAD_ITEMS),
    ("empty id", "items.jsonl", FOUR + ITEM % b"", Reason.BAD_ITEMS),
    ("long id", "items.jsonl", FOUR + ITEM % (b"x" * 257), Reason.BAD_ITEMS),
    ("control id", "items.jsonl", FOUR + ITEM % b"\\u0000", Reason.BAD_ITEMS),
    ("number id", "items.jsonl", FOUR + b'{"item_id":5}\n', Reason.BAD_ITEMS),
    ("unknown key", "items.jsonl", FOUR + b'{"item_id":"a","x":1}\n', Reason.BAD_ITEMS),
    ("key twice", "items.jsonl", FOUR + b'{"item_id":"a","item_id":"f"}\n', Reason.BAD_JSON),
    (
        "deep attribute",
        "items.jsonl",
        FOUR + b'{"item_id":"a","attributes":{"x":{"y":1}}}\n',
        Reason.BAD_ITEMS,
    ),
    (
        "null attribute",
        "items.jsonl",
        FOUR + b'{"item_id":"a","attributes":{"x":null}}\n',
        Reason.BAD_ITEMS,
    ),
    ("nesting", "items.jsonl", FOUR + b"[" * 90_000 + b"\n", Reason.BAD_JSON),
    ("nested", "items.jsonl", FOUR + b"[" * 500 + b"]" * 500 + b"\n", Reason.BAD_JSON),
    ("lone surrogate", "items.jsonl", FOUR + ITEM % b"\\udfff", Reason.BAD_JSON),
    ("Latin-1", "items.jsonl", FOUR + ITEM % b"\xe9", Reason.BAD_JSON),
    ("long row", "items.jsonl", FOUR + ITEM % (b"x" * 2**20), Reason.TOO_LARGE),
    ("blank row", "items.jsonl", FOUR + b"\n", Reason.BAD_JSON),
    ("no popular items", "popular.json", b"[]", Reason.BAD_POPULAR),
    ("popular object", "popular.json", b'{"a":1}', Reason.BAD_POPULAR),
    ("rising popular", "popular.json", b'[["a",1],["b",2]]', Reason.BAD_POPULAR),
    ("popular twice", "popular.json", b'[["a",1],["a",1]]', Reason.BAD_POPULAR),
    ("unknown popular", "popular.json", b'[["zz",1]]', Reason.BAD_POPULAR),
    ("popular score", "popular.json", b'[["a","1"]]', Reason.BAD_POPULAR),
    ("popular flag", "popular.json", b'[["a",true]]', Reason.BAD_POPULAR),
    ("popular id list", "popular.json", b"[[[],1]]", Reason.BAD_POPULAR),
    ("popular NaN", "popular.json", b'[["a",NaN]]', Reason.BAD_JSON),
    ("popular flood", "popular.json", b"[" + b"[]," * 10_001 + b"[]]", Reason.BAD_POPULAR),
    ("no golden", "golden.jsonl", b"", Reason.BAD_GOLDEN),
    ("golden array", "golden.jsonl", b"[]\n", Reason.BAD_GOLDEN),
    ("no line feed", "golden.jsonl", b"{}", Reason.BAD_JSON),
    ("evaluation list", "eval.json", b"[]", Reason.BAD_EVALUATION),
    ("evaluation bomb", "eval.json", b"[" * 100_000, Reason.BAD_JSON),
    ("pickle as JSON", "eval.json", pickle.dumps({"a": 1}), Reason.BAD_JSON),
]


@pytest.mark.parametrize(
    ("name", "data", "reason"), [case[1:] for case in ROWS], ids=[case[0] for case in ROWS]
)
def test_forged_rows_are_refused(
    path: Path, tiny: Tiny, name: str, data: bytes, reason: Reason
) -> None:
    (path / name).write_bytes(data)
    assert reason_of(tiny.sign(path)) is reason


@pytest.mark.parametrize(
    "change",
    [
        {"history": []},
        {"history": ["nobody"]},
        {"history": ["a"] * 1001},
        {"history": "a"},
        {"history": [["a"]]},
        {"submodel": "d1-w8-e4"},
        {"submodel": ["d1-w4-e4"]},
        {"items": ["a", "a"]},
        {"items": ["a", 1]},
        {"items": [], "scores": [1]},
        {"scores": [0.25, 0.5]},
        {"scores": [0.5]},
        {"scores": [10**400, 1]},
        {"scores": None},
        {"more": 1},
    ],
    ids=str,
)
def test_forged_golden_queries_are_refused(path: Path, tiny: Tiny, change: dict[str, Any]) -> None:
    rows = [json.loads(row) for row in (path / "golden.jsonl").read_bytes().splitlines()]
    rows[0].update(change)
    (path / "golden.jsonl").write_bytes(b"".join(json.dumps(row).encode() + b"\n" for row in rows))
    assert reason_of(tiny.sign(path)) is Reason.BAD_GOLDEN


@pytest.mark.parametrize("seed", range(4))
def test_random_manifests_never_raise_anything_else(path: Path, tiny: Tiny, seed: int) -> None:
    rng = random.Random(seed)
    sound = (path / "manifest.json").read_bytes()
    odd: list[Any] = [
        None,
        True,
        -1,
        0,
        1e300,
        2**70,
        "",
        "x" * 300,
        [],
        {},
        [[]],
        {"a": 1},
        "\x00",
    ]
    for _ in range(60):
        values = json.loads(sound)
        values["version"] = path.name
        node: Any = values
        while True:
            keys = list(node) if isinstance(node, dict) else list(range(len(node)))
            key = rng.choice(keys)
            child = node[key]
            if not isinstance(child, dict | list) or not child or rng.random() < 0.3:
                break
            node = child
        node[key] = rng.choice(odd)
        path = tiny.sign_manifest(path, json.dumps(values).encode())
        try:
            read_checkpoint(path)
        except CheckpointError:
            continue
