"""Groups that keep any blocks of columns: ordered by validation, servable, told, refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bench.__main__ import main as bench
from cli.main import main
from models.checkpoint.elastic import ElasticEntry
from models.checkpoint.read import read_checkpoint
from models.checkpoint.store import current
from models.checkpoint.write import write_checkpoint
from models.search.quantise import index_bytes
from models.table.layout import TableBlock, TableLayout
from models.table.resident import aligned, bias_bytes, resident_bytes
from service.engine.contract import Query
from service.engine.torch_engine import load_engine
from service.lifecycle.trial import prove
from tests.e2e.live import ids, live
from tests.training.elastic.conftest import Trained
from training.data.reading import read
from training.elastic.config import ElasticPlan
from training.elastic.narrow import narrowing_of
from training.elastic.run import make_step
from training.elastic.specialize import specialize
from training.elastic.values import problem_of
from training.pipeline import build
from training.plan import TrainPlan
from training.progress import Silent

BUDGET = 3_000


def entry_of(trained: Trained) -> ElasticEntry:
    entry = trained.checkpoint.manifest.elastic
    assert entry is not None
    return entry


def specialised(trained: Trained, root: Path, budget: int = BUDGET) -> Any:
    version = write_checkpoint(root, specialize(trained.checkpoint, budget=budget).contents)
    return read_checkpoint(root / version)


def test_training_leaves_an_order_of_the_blocks_of_every_group(in_blocks: Trained) -> None:
    entry = entry_of(in_blocks)
    assert (entry.blocks, entry.widths) == (16, (4, 8, 32, 64))
    training = in_blocks.checkpoint.manifest.training
    assert training["elastic"] == {"blocks": 16, "diversity": 1.0}
    assert entry.orders is not None
    assert all(sorted(order) == list(range(16)) for order in entry.orders)
    assert len(set(entry.orders)) > 1
    assert any(any(row) for row in entry.scale)


def test_wider_is_what_narrower_kept_and_more(in_blocks: Trained) -> None:
    """A chain of nested sets, each of whole blocks."""
    elastic = narrowing_of(entry_of(in_blocks)).elastic
    for group in range(len(elastic.stops)):
        before: set[int] = set()
        for place, width in enumerate(elastic.widths):
            columns = elastic.columns(group, place) or tuple(range(width))
            assert len(columns) == width
            assert before < set(columns)
            assert all(4 * (one // 4) + inside in columns for one in columns for inside in range(4))
            before = set(columns)


def test_a_specialised_table_keeps_each_groups_own_columns(
    in_blocks: Trained, tmp_path: Path
) -> None:
    elastic = narrowing_of(entry_of(in_blocks)).elastic
    checkpoint = specialised(in_blocks, tmp_path)
    table, done = checkpoint.config.table, checkpoint.manifest.specialized
    assert table is not None
    blocks = {stop: block for block in table.blocks for stop in elastic.stops if stop == block.stop}
    for group, (stop, width) in enumerate(zip(elastic.stops, done.widths, strict=True)):
        if stop in blocks:
            columns = elastic.columns(group, elastic.widths.index(width))
            assert (blocks[stop].width, blocks[stop].columns) == (width, columns)
    assert any(block.columns is not None for block in table.blocks)
    assert done.table_bytes <= BUDGET
    whole = in_blocks.checkpoint.config
    for submodel in whole.submodels:
        kept = sum(
            size * sum(c < submodel.emb_width for c in block.columns or range(block.width))
            for size, block in zip(table.sizes, table.blocks, strict=True)
        )
        assert table.parameters(whole.emb_width, submodel.emb_width) == (kept, 0)


def test_neighbours_are_one_block_only_with_the_same_columns(in_blocks: Trained) -> None:
    elastic = narrowing_of(entry_of(in_blocks)).elastic
    orders = tuple(tuple(np.roll(range(16), -shift).tolist()) for shift in (0, 3, 3, 5))
    layout = replace(elastic, orders=orders).layout(np.array([1, 1, 1, 1]))
    assert layout.blocks == (
        TableBlock(16, 8),
        TableBlock(46, 8, tuple(range(12, 20))),
        TableBlock(61, 8, tuple(range(20, 28))),
    )
    assert len(replace(elastic, orders=orders).layout(elastic.whole).blocks) == 1


def test_bytes_count_the_list_of_columns() -> None:
    layout = TableLayout((TableBlock(17, 12), TableBlock(41, 9, tuple(range(1, 10)))), False)
    # 17 * 12 * 4 = 816 -> 832, 24 * 9 * 4 = 864 -> 896, 9 * 8 = 72 -> 128, 41 * 4 = 164 -> 192
    assert resident_bytes(layout, 2) == 832 + 896 + 128 + 192 + 32
    long = TableLayout((TableBlock(150_000, 3, (1, 2, 5)),), projected=False)
    rows = aligned(4 * 150_000 * 3) + 64 + index_bytes(150_000, 3, 2)
    assert resident_bytes(long, 2) == rows + bias_bytes(150_000) + 16


def test_groups_of_a_few_rows_have_bytes_that_rise_with_the_width(in_blocks: Trained) -> None:
    """A list of columns may take more than the columns that it saves."""
    entry = entry_of(in_blocks)
    few = entry.model_copy(update={"stops": (1, 2, 4, 5)})
    problem = problem_of(few, 10**6, 2)
    assert (np.diff(problem.bytes_GW, axis=1) > 0).all()
    elastic = narrowing_of(few).elastic
    for place in range(4):
        choice_G = np.full(4, place)
        assert resident_bytes(elastic.layout(choice_G), 2) <= problem.bytes_of(choice_G)


@pytest.mark.parametrize(
    ("orders", "told"),
    [
        (lambda orders: orders[:3], "an order of blocks for each group"),
        (lambda orders: (*orders[:3], orders[3][:-1]), "name the blocks 0 to 15 once"),
        (lambda orders: (*orders[:3], (0, *orders[3][1:])), "name the blocks 0 to 15 once"),
        (lambda orders: tuple(tuple(range(17)) for _ in orders), "whole numbers of the 17 blocks"),
        (lambda orders: tuple(tuple(range(8)) for _ in orders), "whole numbers of the 8 blocks"),
        (lambda orders: tuple((-1, *order[1:]) for order in orders), "greater than or equal"),
        (lambda orders: tuple((0,) for _ in orders), "at least 2 items"),
    ],
)
def test_orders_that_are_none_are_refused(in_blocks: Trained, orders: Any, told: str) -> None:
    entry = entry_of(in_blocks)
    values = entry.model_dump()
    wrong = values | {"orders": orders(tuple((*range(1, 16), 0) for _ in range(4)))}
    with pytest.raises(ValueError, match=told):
        ElasticEntry.model_validate(wrong)
    assert ElasticEntry.model_validate(values) == entry


def test_prefixes_are_written_as_before(trained: Trained) -> None:
    text = (trained.checkpoint.path / "manifest.json").read_text(encoding="utf-8")
    assert "orders" not in json.loads(text)["elastic"]
    assert entry_of(trained).orders is None
    narrow = specialize(trained.checkpoint, budget=BUDGET).contents.config
    assert "columns" not in json.dumps(narrow.to_json())
    assert "elastic" not in trained.checkpoint.manifest.training


async def test_it_serves_recommends_and_tells_its_bytes(
    in_blocks: Trained, tmp_path: Path, redis_url: str
) -> None:
    checkpoint = specialised(in_blocks, tmp_path)
    table = checkpoint.config.table
    assert table is not None
    async with live(tmp_path, redis_url) as service:
        answer = await service.recommend(history=["i1", "i3", "i5"], k=10)
        assert answer["model_version"] == checkpoint.version
        assert answer["source"] == "model"
        assert len(set(ids(answer))) == 10
        model = (await service.client.get("/v1/model")).json()
        in_table = model["catalog"]["table_bytes"]
        assert in_table == table.num_bytes(64) < checkpoint.manifest.specialized.table_bytes
        assert service.metric("model_table_bytes", variant="stable") == in_table
        similar = await service.client.get("/v1/items/i1/similar", params={"k": 3})
        assert similar.status_code == 200


def test_the_commands_take_it_as_any_other(
    in_blocks: Trained, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["specialize", str(in_blocks.root), "--out", str(tmp_path), "--memory", "3000"]
    assert main([*command, "--data", str(in_blocks.data)]) == 0
    assert "measured" in capsys.readouterr().out
    assert main(["checkpoints", "show", str(in_blocks.root)]) == 0
    told = "widths 4, 8, 32, 64 of any 16 blocks of 4 columns: canet specialize"
    assert told in capsys.readouterr().out
    assert main(["checkpoints", "show", str(tmp_path)]) == 0
    assert ": columns " in capsys.readouterr().out
    assert main(["checkpoints", "verify", str(tmp_path)]) == 0
    assert main(["evaluate", str(tmp_path), "--data", str(in_blocks.data), "--json"]) == 0
    capsys.readouterr()
    compare = ["elastic", str(in_blocks.root), "--data", str(in_blocks.data), "--quick", "--json"]
    assert bench([*compare, "--shares", "0.2", "--randoms", "1"]) == 0
    assert len(json.loads(capsys.readouterr().out)["rows"]) == 5


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--elastic-blocks", "16"], "--elastic-blocks has no effect without --elastic"),
        (["--elastic", "--elastic-diversity", "1"], "no effect without --elastic-blocks"),
        (["--elastic", "--elastic-blocks", "4", "--elastic-diversity", "-1"], "at least 0"),
    ],
)
def test_options_that_do_not_go_together_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], told: str
) -> None:
    command = ["train", "--data", "x.csv", "--out", str(tmp_path), *options]
    assert main(command) == 2
    assert told in capsys.readouterr().err


def test_blocks_that_do_not_divide_the_embedding_are_refused(
    in_blocks: Trained, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["train", "--data", str(in_blocks.data), "--out", str(tmp_path), "--elastic"]
    assert main([*command, "--elastic-blocks", "12"]) != 0
    assert "12 elastic blocks do not divide the embedding's 64 columns" in capsys.readouterr().err
    assert current(tmp_path) is None


def test_calibration_goes_on_only_with_as_many_blocks(in_blocks: Trained, trained: Trained) -> None:
    entry, grid = entry_of(in_blocks), in_blocks.checkpoint.config

    def initial(plan: ElasticPlan, parent: Trained) -> Any:
        return make_step(plan, grid, None, parent.checkpoint).keywords["initial"]  # type: ignore[attr-defined]

    plan = ElasticPlan(groups=4, widths=(4, 8, 32), blocks=16)
    same = initial(plan, in_blocks)
    assert torch.equal(same.scale, torch.tensor(entry.scale)[:, :-1])
    for blocks in (None, 8):
        widths = (4, 8, 32) if blocks is None else (8, 16, 32)
        other = ElasticPlan(groups=4, widths=widths, blocks=blocks)
        assert initial(other, in_blocks) is None
    of_prefixes = ElasticPlan(groups=4, widths=(2, 8, 32))
    assert initial(of_prefixes, trained) is not None
    assert initial(plan, trained) is None


def test_a_narrow_table_of_blocks_is_trained_on_and_stays_narrow(
    in_blocks: Trained, tmp_path: Path
) -> None:
    narrow = specialised(in_blocks, tmp_path)
    interactions = read(in_blocks.data, None, strict=False, progress=Silent())
    plan = TrainPlan(out=tmp_path, epochs=1, threads=1, resume=False)
    again = build(plan, interactions, Silent(), parent=narrow)
    assert again.fitted.supernet.config.table == narrow.config.table
    assert again.warm
    with pytest.raises(ValueError, match=f"root that holds {in_blocks.checkpoint.version}"):
        build(
            TrainPlan(out=tmp_path, epochs=1, elastic=ElasticPlan(groups=4, blocks=16)),
            interactions,
            Silent(),
            parent=narrow,
        )


def test_golden_answers_are_those_of_the_engine(in_blocks: Trained, tmp_path: Path) -> None:
    for budget in (1_700, 20_000):
        checkpoint = specialised(in_blocks, tmp_path, budget)
        engine = load_engine(checkpoint.path, price=None, allowed=None)
        prove(engine, checkpoint.path)
        (ranking,), _ = engine.recommend([Query(history=("i1", "i2"), k=5)])
        assert len(ranking.items) == 5
