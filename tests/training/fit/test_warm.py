"""Weights follow external ids into a new catalog, whatever moved, came or went."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.catalog import Catalog
from models.config import SupernetConfig
from models.supernet import Supernet
from tests.models.builders import layout, random_supernet, small_config
from training.data.sequences import Sequences
from training.fit.warm import warm_start

IDS = [f"i{n}" for n in range(30)]
catalogs = st.lists(st.sampled_from(IDS), min_size=1, unique=True)


def sequences(rows: list[int]) -> Sequences:
    return Sequences(offsets=np.array([0, len(rows)]), items=np.array(rows, dtype=np.int64))


@settings(deadline=None, max_examples=60)
@given(before=catalogs, now=catalogs, data=st.data())
def test_every_known_item_keeps_its_weights_and_every_new_one_is_usable(
    before: list[str], now: list[str], data: st.DataObject
) -> None:
    config = small_config(len(before))
    parent = random_supernet(config)
    tensors = {f"supernet.{name}": tensor for name, tensor in parent.state_dict().items()}
    tensors["memory.offsets"] = torch.zeros(3, dtype=torch.int32)
    rows = data.draw(st.lists(st.integers(1, len(now)), max_size=40))
    old, new = Catalog(before), Catalog(now)
    after = config.with_items(len(now))
    start = warm_start(tensors, old, new, sequences(rows), was=config, becomes=after)
    kept = set(before) & set(now)
    assert (start.kept, start.new, start.gone) == (
        len(kept),
        len(now) - len(kept),
        len(before) - len(kept),
    )
    table, bias = start.state["table"], start.state["item_bias"]
    assert table.shape == (len(now) + 1, config.emb_width)
    assert bias.shape == (len(now) + 1,)
    assert torch.isfinite(table).all()
    assert not table[0].any()
    for external in kept:
        here, there = new.item_id(external), old.item_id(external)
        assert torch.equal(table[here], parent.table[there])
        assert torch.equal(bias[here], parent.item_bias[there])
    for name, tensor in parent.state_dict().items():
        if name not in {"table", "item_bias"}:
            assert torch.equal(start.state[name], tensor)
    Supernet(small_config(len(now))).load_state_dict(dict(start.state))


def test_a_new_item_starts_beside_those_it_is_met_with() -> None:
    config = small_config(20)
    parent = random_supernet(config)
    tensors = {f"supernet.{name}": tensor for name, tensor in parent.state_dict().items()}
    old = Catalog([f"i{n}" for n in range(20)])
    new = Catalog([*old.external_ids, "new", "lonely"])
    walk = sequences([3, 21, 3, 21, 3, 22])
    start = warm_start(tensors, old, new, walk, was=config, becomes=config.with_items(22))
    table = torch.nn.functional.normalize(start.state["table"][1:], dim=1)
    likeness = table[20] @ table[:20].T
    assert int(likeness.argmax()) == 2
    lengths = start.state["table"][1:21].norm(dim=1)
    assert lengths.min() <= start.state["table"][21].norm() <= lengths.max()


def test_the_parent_is_not_touched() -> None:
    config = small_config(5)
    parent = random_supernet(config)
    tensors = {f"supernet.{name}": tensor for name, tensor in parent.state_dict().items()}
    catalog = Catalog(["a", "b", "c", "d", "e"])
    start = warm_start(tensors, catalog, catalog, sequences([1, 2]), was=config, becomes=config)
    start.state["table"].zero_()
    assert parent.table[1:].any()


WHOLE = small_config(30)
BLOCKED = small_config(30, table=layout((8, 12), (20, 5), (31, 2), projected=True))
PREFIXED = small_config(30, table=layout((8, 12), (20, 5), (31, 2), projected=False))


@pytest.mark.parametrize("was", [WHOLE, BLOCKED, PREFIXED])
@pytest.mark.parametrize("becomes", [WHOLE, BLOCKED, PREFIXED])
def test_weights_follow_into_another_layout(was: SupernetConfig, becomes: SupernetConfig) -> None:
    parent = random_supernet(was)
    tensors = {f"supernet.{name}": tensor for name, tensor in parent.state_dict().items()}
    old = Catalog(IDS)
    new = Catalog([*IDS[25:], "new", *IDS[:20]])
    after = becomes.with_items(26)
    walk = sequences([6, 7, 6])
    start = warm_start(tensors, old, new, walk, was=was, becomes=after)
    child = Supernet(after)
    child.load_state_dict(dict(start.state))
    assert (start.kept, start.new, start.gone) == (25, 1, 5)
    before_VE, now_VE = parent.item_table.dense(), child.item_table.detach().dense()
    # The first block holds every column: whoever comes to stand there keeps all it had.
    for row, external in enumerate(new.external_ids[:7], start=1):
        known = old.item_id(external)
        if known is not None:
            torch.testing.assert_close(now_VE[row], before_VE[known])
    assert now_VE[6].any()
    assert torch.isfinite(now_VE).all()
    for external in IDS:
        here, there = new.item_id(external), old.item_id(external)
        if here is not None:
            assert child.item_bias[here] == parent.item_bias[there]


def test_a_row_that_stays_in_its_block_keeps_its_numbers() -> None:
    parent = random_supernet(BLOCKED)
    tensors = {f"supernet.{name}": tensor for name, tensor in parent.state_dict().items()}
    moved = [*IDS[:10], *IDS[20:22], *IDS[10:20], *reversed(IDS[22:])]
    old, new = Catalog(IDS), Catalog(moved)
    start = warm_start(tensors, old, new, sequences([1]), was=BLOCKED, becomes=BLOCKED)
    for row in range(23, 31):  # rows 20 and up are the last block, before and now
        was = (old.item_id(moved[row - 1]) or 0) - 20
        kept = start.state["table_blocks.rows.2"][row - 20]
        assert torch.equal(kept, parent.table_blocks.rows[2][was])
    for name in ("table_blocks.projections.1", "table_blocks.projections.2"):
        assert torch.equal(start.state[name], parent.state_dict()[name])
