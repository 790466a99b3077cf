"""A checkpoint whose item table stands in blocks: published, refused when forged, and served."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.checkpoint.errors import CheckpointError, Reason
from models.checkpoint.manifest import name_digest
from models.checkpoint.read import read_checkpoint
from models.ranker import Ranker
from models.search.search import INDEX_FROM_ROWS
from service.engine.contract import Query
from service.engine.torch_engine import TorchEngine
from service.lifecycle.trial import prove
from tests.models.builders import (
    PREFIXES,
    PROJECTED,
    random_memory,
    random_router,
    random_supernet,
    small_config,
)
from tests.models.published import HIDDEN, publish_random, random_ranker
from tests.service.engine.test_torch_engine import (
    answers_equal_brute_force,
    brute_force,
    queries,
)

KINDS = {"projected": PROJECTED, "prefixes": PREFIXES}
CONFIGS = {
    **{kind: small_config(table=table) for kind, table in KINDS.items()},
    "two levels": small_config(table=PROJECTED, two_level=True),
}
RANKERS = {kind: random_ranker(config) for kind, config in CONFIGS.items()}


@pytest.fixture(scope="module", params=list(CONFIGS))
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def path(kind: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp(kind)
    return root / publish_random(root, config=CONFIGS[kind])


@pytest.fixture(scope="module", params=["product", "index"])
def engine(path: Path, request: pytest.FixtureRequest) -> TorchEngine:
    index_from = 0 if request.param == "index" else INDEX_FROM_ROWS
    engine = TorchEngine(read_checkpoint(path), index_from=index_from)
    assert engine.info.search == request.param
    return engine


@cache
def whole(kind: str) -> Ranker:
    """The same network with its table stored whole."""
    blocked = random_supernet(CONFIGS[kind])
    config = small_config()
    supernet = random_supernet(config)
    state = {name: t for name, t in blocked.state_dict().items() if "table" not in name}
    supernet.load_state_dict({**state, "table": blocked.item_table.dense()})
    served = RANKERS[kind].served
    router = random_router(len(served), 0, HIDDEN)
    return Ranker(supernet, random_memory(config), router, served)


@settings(max_examples=40, deadline=None)
@given(batch=st.lists(queries, min_size=1, max_size=6))
def test_answers_equal_brute_force_whatever_the_batch(
    kind: str, engine: TorchEngine, batch: list[Query]
) -> None:
    answers_equal_brute_force(engine, batch, RANKERS[kind])


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=20, deadline=None)
@given(query=queries)
def test_packed_scores_are_those_of_the_whole_table(kind: str, query: Query) -> None:
    dense = whole(kind)
    for place in range(len(dense.served)):
        expected = dict(brute_force(query, place, dense))
        for name, score in brute_force(query, place, RANKERS[kind]):
            if name in expected:  # the last places may tie
                assert score == pytest.approx(expected[name], abs=1e-4)


def test_it_is_told_and_proven(kind: str, path: Path, engine: TorchEngine) -> None:
    prove(engine, path)
    config = CONFIGS[kind]
    stored = sum(
        tensor.numel() * tensor.element_size()
        for name, tensor in read_checkpoint(path).tensors.items()
        if name.startswith("supernet.table")
    )
    assert engine.info.table_bytes == config.layout.num_bytes(12) == stored
    assert stored < small_config().layout.num_bytes(12) == 4 * 41 * 12
    table_VE = RANKERS[kind].table.dense()
    cosine = torch.nn.functional.cosine_similarity(table_VE, table_VE[4][None])
    found = engine.similar("item-4", 5)
    assert [one.score for one in found] == pytest.approx(
        [float(cosine[int(one.external_id.split("-")[1])]) for one in found], abs=1e-5
    )
    assert found[0].score == pytest.approx(
        float(cosine[[row for row in range(1, 41) if row != 4]].max()), abs=1e-5
    )


def _block(manifest: dict[str, Any], place: int, **values: int) -> None:
    manifest["architecture"]["table"]["blocks"][place].update(values)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda m: m["architecture"].pop("table"), Reason.TENSOR_NAMES),
        (lambda m: m["architecture"]["table"]["blocks"].pop(0), Reason.TENSOR_NAMES),
        (lambda m: _block(m, 0, stop=9), Reason.TENSOR_SHAPE),
        (lambda m: _block(m, -1, stop=42), Reason.BAD_MANIFEST),
        (lambda m: _block(m, 1, width=4), Reason.TENSOR_SHAPE),
        (lambda m: m["architecture"]["table"].update(projected=None), Reason.BAD_MANIFEST),
        (lambda m: m["architecture"]["table"].update(rank=1), Reason.BAD_MANIFEST),
        (lambda m: m["architecture"].update(two_level=1), Reason.BAD_MANIFEST),
    ],
)
def test_another_layout_than_the_tensors_is_refused(
    kind: str,
    path: Path,
    tmp_path: Path,
    change: Callable[[dict[str, Any]], object],
    reason: Reason,
) -> None:
    values = json.loads((path / "manifest.json").read_bytes())
    change(values)
    if kind == "two levels" and "table" not in values["architecture"]:
        reason = Reason.BAD_MANIFEST
    data = json.dumps(values).encode()
    version = f"{path.name[:17]}{name_digest(data, path.name)}"
    forged = tmp_path / version
    forged.mkdir()
    for file in path.iterdir():
        (forged / file.name).write_bytes(file.read_bytes())
    (forged / "manifest.json").write_bytes(data.replace(path.name.encode(), version.encode(), 1))
    with pytest.raises(CheckpointError) as caught:
        read_checkpoint(forged)
    assert caught.value.reason is reason


def test_an_engine_tells_its_head(engine: TorchEngine, kind: str) -> None:
    assert engine.info.head == ("two_level" if kind == "two levels" else "flat_lowrank")
