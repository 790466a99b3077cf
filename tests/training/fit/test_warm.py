"""Weights follow external ids into a new catalog, whatever moved, came or went."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.catalog import Catalog
from models.supernet import Supernet
from tests.models.builders import random_supernet, small_config
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
    start = warm_start(tensors, old, new, sequences(rows))
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
    start = warm_start(tensors, old, new, sequences([3, 21, 3, 21, 3, 22]))
    table = torch.nn.functional.normalize(start.state["table"][1:], dim=1)
    likeness = table[20] @ table[:20].T
    assert int(likeness.argmax()) == 2
    lengths = start.state["table"][1:21].norm(dim=1)
    assert lengths.min() <= start.state["table"][21].norm() <= lengths.max()


def test_the_parent_is_not_touched() -> None:
    parent = random_supernet(small_config(5))
    tensors = {f"supernet.{name}": tensor for name, tensor in parent.state_dict().items()}
    catalog = Catalog(["a", "b", "c", "d", "e"])
    start = warm_start(tensors, catalog, catalog, sequences([1, 2]))
    start.state["table"].zero_()
    assert parent.table[1:].any()
