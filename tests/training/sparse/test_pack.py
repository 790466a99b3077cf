"""What is left out adds nothing: packed, masked and sliced score alike, in every submodel."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.density import density
from models.ranker import Ranker, stack
from models.supernet import Supernet
from tests.models.builders import (
    random_histories,
    random_memory,
    random_router,
    random_supernet,
    small_config,
)
from training.sparse.config import SparseConfig
from training.sparse.pack import packed
from training.sparse.pools import make_pools

CONFIG = small_config()


def thinned(seed: int, share: float, row_blocks: int) -> Supernet:
    """A network whose units lived through a few exchanges."""
    supernet = random_supernet(CONFIG, seed)
    draws = torch.Generator().manual_seed(seed)
    tensors = {name: one.detach() for name, one in supernet.named_parameters()}
    config = SparseConfig(density=share, granularity="unit", row_blocks=row_blocks)
    for pool in make_pools(supernet, config):
        pool.choose_randomly(tensors, draws)
        for _ in range(3):
            pool.silence(tensors)
            wanted = {n: torch.randn(tensors[n].shape, generator=draws) for n in pool.watched}
            for name, born in pool.explore(0.4, tensors, wanted).items():
                noise = torch.randn(born.shape, generator=draws)
                tensors[name].copy_(torch.where(born, noise, tensors[name]))
        pool.silence(tensors)
        pool.clear(tensors)
    return supernet


@settings(max_examples=4, deadline=None)
@given(st.integers(0, 2**20), st.sampled_from([0.1, 0.3, 0.5, 0.9]), st.sampled_from([1, 4, 7]))
def test_packed_equals_masked(seed: int, share: float, row_blocks: int) -> None:
    masked = thinned(seed, share, row_blocks)
    small = packed(masked, row_blocks)
    assert density(small) == pytest.approx(density(masked))
    memory, served = random_memory(CONFIG), CONFIG.submodels
    rankers = [Ranker(one, memory, random_router(len(served)), served) for one in (masked, small)]
    ids_BL, lengths_B = stack(random_histories(CONFIG, 4, seed), CONFIG.max_length)
    for place in range(len(served)):
        left, right = (
            one.score(place, one.encode(place, ids_BL, lengths_B), ids_BL, lengths_B)[:, 1:]
            for one in rankers
        )
        assert float((left - right).abs().max()) <= 1e-5 * max(1.0, float(left.abs().max()))
    full = len(served) - 1
    scoring = [one.cost(full, 20, routed=False).scoring for one in rankers]
    assert scoring[1] <= scoring[0]
    if share <= 0.5:
        assert rankers[1].table.num_bytes < 0.6 * rankers[0].table.num_bytes + 4 * 40 * 4
        assert scoring[1] < scoring[0]


def test_a_whole_network_stays_as_it_is() -> None:
    supernet = random_supernet(CONFIG)
    assert packed(supernet, 4) is supernet
