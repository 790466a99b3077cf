"""Whatever is exchanged, as many live as before, the dead are 0, every submodel has its share."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from models.config import BACKBONES
from models.density import density, is_weight
from models.supernet import Supernet
from models.table.layout import TableLayout
from tests.models.builders import COLUMNS, PREFIXES, PROJECTED, random_supernet, small_config
from training.sparse.blocks import BlockPool
from training.sparse.channels import ChannelPool
from training.sparse.config import SparseConfig
from training.sparse.element import ElementPool
from training.sparse.exchange import exchange, keep_count
from training.sparse.pool import Pool
from training.sparse.pools import make_pools

CONFIG = small_config()


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def weights(seed: int) -> tuple[Supernet, dict[str, Tensor]]:
    supernet = random_supernet(CONFIG, seed)
    return supernet, {name: tensor.detach() for name, tensor in supernet.named_parameters()}


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 60), st.integers(0, 2**31), st.floats(0.01, 0.99))
def test_an_exchange_is_even_and_takes_the_smallest_for_the_most_wanted(
    size: int, seed: int, rate: float
) -> None:
    draws = generator(seed)
    live = torch.rand(size, generator=draws) < 0.5
    fresh = live & (torch.rand(size, generator=draws) < 0.3)
    magnitude, gradient = torch.rand(2, size, generator=draws)
    died, born = exchange(live, fresh, magnitude, gradient, rate)
    assert int(died.sum()) == int(born.sum())
    assert not (died & ~live).any()
    assert not (died & fresh).any()
    assert not (born & live).any()
    stayed = live & ~fresh & ~died
    if died.any() and stayed.any():
        assert magnitude[died].max() <= magnitude[stayed].min()
    left = ~live & ~born
    if born.any() and left.any():
        assert gradient[born].min() >= gradient[left].max()


def test_a_count_is_never_none() -> None:
    assert keep_count(0.5, 7) == 4
    assert keep_count(0.001, 7) == 1


@settings(max_examples=10, deadline=None)
@given(
    st.sampled_from(["element", "unit"]),
    st.sampled_from([0.1, 0.3, 0.5, 0.9]),
    st.booleans(),
    st.lists(st.floats(0.05, 0.9), min_size=1, max_size=4),
    st.integers(0, 2**31),
)
def test_explorations_keep_the_budget_and_the_dead_at_zero(
    granularity: str, share: float, given_weights: bool, rates: list[float], seed: int
) -> None:
    supernet, tensors = weights(seed % 7)
    draws = generator(seed)
    for pool in make_pools(supernet, SparseConfig(density=share, granularity=granularity)):
        if given_weights:
            pool.choose_largest(tensors, draws)
        else:
            pool.choose_randomly(tensors, draws)
        pool.silence(tensors)
        live, total = pool.counts()
        assert 0 < live <= total
        for rate in rates:
            gradients = {
                name: torch.randn(tensors[name].shape, generator=draws) for name in pool.watched
            }
            before = {name: tensors[name].clone() for name in pool.watched}
            changed = pool.explore(rate, tensors, gradients)
            assert pool.counts() == (live, total)
            pool.silence(tensors)
            for name in pool.watched:
                # Whoever was not exchanged is as it was; newborns are still 0.
                same = torch.where(changed[name], tensors[name], before[name])
                assert torch.equal(tensors[name], same)
                assert not tensors[name][changed[name]].any()
        again = make_pools(supernet, SparseConfig(density=share, granularity=granularity))
        match = next(one for one in again if one.watched == pool.watched)
        match.load_state(pool.state())
        assert match.counts() == (live, total)


@pytest.mark.parametrize("backbone", BACKBONES)
@pytest.mark.parametrize("share", [0.1, 0.5])
def test_single_weights_leave_every_submodel_the_same_density(share: float, backbone: str) -> None:
    """Energy in the first columns, as nested training makes it, starves nobody."""
    supernet = random_supernet(small_config(backbone=backbone), 0)
    tensors = {name: tensor.detach() for name, tensor in supernet.named_parameters()}
    for tensor in tensors.values():
        if tensor.dim() > 1:
            tensor.mul_(torch.linspace(9, 0.1, tensor.shape[-1]))
    for pool in make_pools(supernet, SparseConfig(density=share)):
        pool.choose_largest(tensors, generator(0))
        pool.silence(tensors)
    for submodel in CONFIG.submodels:
        network = supernet.slice(submodel)
        for tensor in (
            network.table.dense()[1:],
            network.input_weight_DE,
            network.output_weight_ED,
            *(tensor for tensor in network.layers.tensors() if tensor.dim() > 1),
        ):
            left = int(torch.count_nonzero(tensor)) / tensor.numel()
            # One weight of rounding for each box.
            assert abs(left - share) <= 18 / tensor.numel()


@pytest.mark.parametrize(
    ("backbone", "sharing"), [("nextitnet", "none"), ("transformer", "adjacent_layer")]
)
@pytest.mark.parametrize("table", [None, PROJECTED, PREFIXES, COLUMNS])
def test_every_architecture_is_thinned(
    backbone: str, sharing: str, table: TableLayout | None
) -> None:
    """Convolutions, shared kernels, tables in blocks: every weight, and every budget exact."""
    supernet = random_supernet(small_config(backbone=backbone, layer_sharing=sharing, table=table))
    tensors = {name: tensor.detach() for name, tensor in supernet.named_parameters()}
    config = SparseConfig(density=0.5)
    pools = make_pools(supernet, config)
    assert {name for pool in pools for name in pool.watched} == set(filter(is_weight, tensors))
    for pool in pools:
        pool.choose_largest(tensors, generator(0))
        pool.silence(tensors)
    share = 0.4 if table in (PREFIXES, COLUMNS) else 0.5
    assert density(supernet) == pytest.approx(share, abs=0.1)
    units = make_pools(supernet, SparseConfig(density=0.5, granularity="unit"))
    layers = {"none": 0, "adjacent_layer": 2}[sharing]
    assert len(units) == (table is None) + 2 * layers


def test_norms_biases_and_positions_live() -> None:
    supernet, tensors = weights(0)
    before = {name: tensor.clone() for name, tensor in tensors.items()}
    for granularity in ("element", "unit"):
        for pool in make_pools(supernet, SparseConfig(density=0.1, granularity=granularity)):
            pool.choose_randomly(tensors, generator(0))
            pool.silence(tensors)
    for name, tensor in tensors.items():
        if "norm" in name or "bias" in name or "gain" in name or name == "positions":
            assert torch.equal(tensor, before[name]), name


def test_a_table_keeps_leading_columns_and_the_smallest_submodel_its_share() -> None:
    supernet, tensors = weights(0)
    pool = BlockPool("table", supernet.table, 0.5, row_blocks=4, column_block=4)
    pool.choose_randomly(tensors, generator(1))
    for step in range(6):
        pool.silence(tensors)
        pool.explore(0.4, tensors, {"table": torch.randn(41, 12, generator=generator(step))})
    pool.silence(tensors)
    live_VE = torch.cat([tensors["table"][:1] + 1, tensors["table"][1:]]) != 0
    ends_V = live_VE.sum(1)
    columns = torch.arange(12)
    newborn = pool.state()["width.table"].repeat_interleave(10) * 4
    assert torch.equal(live_VE[1:], columns < ends_V[1:, None])
    assert (ends_V[1:] <= newborn).all()
    assert int((newborn.clamp(max=8)).sum()) >= 0.5 * 8 * 40


def test_a_popular_block_that_is_wanted_grows_wide() -> None:
    supernet, tensors = weights(0)
    pool = BlockPool("table", supernet.table, 0.5, row_blocks=4, column_block=2)
    pool.choose_largest(tensors, generator(0))
    wanted = torch.zeros(41, 12)
    wanted[1:11] = 1.0
    for _ in range(12):
        pool.silence(tensors)
        pool.explore(0.3, tensors, {"table": wanted})
        tensors["table"][1:11] = 1.0  # what grew was trained
    assert pool.state()["width.table"][0] == 6
    assert pool.state()["width.table"].min() >= 1


def test_a_column_block_has_to_divide_the_table() -> None:
    supernet, _ = weights(0)
    with pytest.raises(ValueError, match="columns of 5 do not divide a table of 12"):
        BlockPool("table", supernet.table, 0.5, row_blocks=4, column_block=5)


@pytest.mark.parametrize(
    "make",
    [
        lambda tensors: ElementPool("blocks.0.ffn_in_weight", tensors, 0.5, ((96,), (24,))),
        lambda tensors: ChannelPool(
            ("blocks.0.ffn_out_weight", 1),
            (("blocks.0.ffn_in_weight", 0),),
            (("blocks.0.ffn_in_bias", 0),),
            0.5,
            (96,),
        ),
    ],
)
def test_those_born_last_time_are_spared(make: Callable[[Tensor], Pool]) -> None:
    supernet, tensors = weights(0)
    pool = make(dict(supernet.named_parameters())["blocks.0.ffn_in_weight"])
    pool.choose_randomly(tensors, generator(0))
    pool.silence(tensors)
    wanted = {
        name: torch.rand(tensors[name].shape, generator=generator(1)) for name in pool.watched
    }
    first = {n: m.clone() for n, m in pool.explore(0.2, tensors, wanted).items()}
    pool.silence(tensors)
    state = pool.state()
    fresh = next(tensor for name, tensor in state.items() if name.startswith("fresh"))
    live = next(tensor for name, tensor in state.items() if name.startswith("live"))
    assert fresh.any()
    assert first
    pool.explore(0.2, tensors, wanted)
    now = next(tensor for name, tensor in pool.state().items() if name.startswith("live"))
    # Newborns are 0, smaller than all others, and yet none of them died.
    assert (now & fresh).sum() == fresh.sum()
    assert (live & ~now).any()


def test_channels_that_sleep_are_woken_and_cleared() -> None:
    supernet, tensors = weights(0)
    name = "blocks.0.ffn_in_weight"
    tensors[name].zero_()
    pool = next(
        one
        for one in make_pools(supernet, SparseConfig(density=0.5, granularity="unit"))
        if one.watched == ("blocks.0.ffn_out_weight",)
    )
    pool.choose_randomly(tensors, generator(0))
    pool.silence(tensors)
    assert (tensors[name] != 0).all()
    pool.clear(tensors)
    silent = (tensors["blocks.0.ffn_out_weight"] == 0).all(0)
    assert silent.any()
    assert not tensors[name][silent].any()
    assert not tensors["blocks.0.ffn_in_bias"][silent].any()
    assert tensors[name][~silent].any()
