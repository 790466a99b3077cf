"""Counted FLOPs equal torch's own counter, for every submodel and padded length."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from models.backbone.registry import backbone_of
from models.body import TorchBody
from models.config import BACKBONES, Submodel, SupernetConfig
from models.cost import (
    encoder_flops,
    parameter_counts,
    router_flops,
    scoring_flops,
    weight_bytes,
)
from models.lengths import buckets, check_length, padded_length
from models.memory import TransitionMemory
from models.network import score_all
from models.router import NEWEST, ROUTER_FEATURES, ItemView, features
from models.submodel import extract
from models.table.layout import TableLayout
from tests.models.builders import (
    COLUMNS,
    PREFIXES,
    PROJECTED,
    random_memory,
    random_router,
    random_supernet,
    small_config,
)

CONFIG = small_config()
LAYOUTS = (None, PROJECTED, PREFIXES, COLUMNS)


def counted(mode: FlopCounterMode) -> int:
    return int(mode.get_total_flops())


@pytest.mark.parametrize(
    ("backbone", "table", "two_level"),
    [
        *(("transformer", table, False) for table in LAYOUTS),
        ("transformer", PROJECTED, True),
        ("nextitnet", None, False),
        ("nextitnet", PROJECTED, False),
    ],
)
@pytest.mark.parametrize("submodel", CONFIG.submodels, ids=lambda s: s.name)
def test_encoder_and_scoring_equal_torchs_counter(
    submodel: Submodel, backbone: str, table: TableLayout | None, two_level: bool
) -> None:
    config = replace(CONFIG, table=table, two_level=two_level, backbone=backbone)
    weights = extract(random_supernet(config), submodel)
    for length in buckets(config.max_length):
        for batch in (1, 3):
            embedded_BLE = np.ones((batch, length, submodel.emb_width), dtype=np.float32)
            lengths_B = np.full(batch, length)
            body = TorchBody(weights)
            # The counter does not know the CPU's fused attention kernel; the plain one it does.
            with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as encoder:
                query_BE = torch.from_numpy(body(embedded_BLE, lengths_B))
            with FlopCounterMode(display=False) as scoring:
                score_all(weights, query_BE)
            with FlopCounterMode(display=False) as lookup:  # row 10 lies in the dearest block
                seen = min(length, backbone_of(config).window(config, submodel))
                weights.table.embed(torch.full((batch, seen), 10))
            spent = counted(encoder) + counted(lookup)
            assert spent == batch * encoder_flops(config, submodel, length)
            assert counted(scoring) == batch * scoring_flops(config, submodel)


def test_router_equals_torchs_counter() -> None:
    supernet, router = random_supernet(CONFIG), random_router(5, hidden=16)
    view = ItemView(supernet.item_table, random_memory(CONFIG))
    recent_BW, lengths_B = np.ones((1, NEWEST), dtype=np.int64), np.array([12])
    seen_BC = torch.from_numpy(features(view(recent_BW), lengths_B, CONFIG.max_length))
    with FlopCounterMode(display=False) as mode:
        router(seen_BC)
    assert counted(mode) == router_flops(ROUTER_FEATURES, 16, 5)


def test_a_worked_example_by_hand() -> None:
    """One layer of width 4, embedding 2, 3 items, 2 positions, feed-forward 4 wide."""
    config = SupernetConfig(
        num_items=3,
        max_length=2,
        depths=(1,),
        widths=(4,),
        emb_widths=(2,),
        num_heads=2,
        ffn_multiplier=1,
        memory=None,
    )
    newest = 2 * (8 * 4 + 8 * 4 + 2 * 4 * 4)  # query, output (two heads), feed-forward
    attention = 2 * (2 * 2 * 8)  # scores and mixing of one query, two heads, over two positions
    ends = 2 * (2 * 2 * 4) + 2 * (2 * 4)  # input map of two positions, output map of one
    assert encoder_flops(config, config.largest, 2) == newest + attention + ends
    assert scoring_flops(config, config.largest) == 2 * 2 * 4


def test_a_worked_example_of_convolutions_by_hand() -> None:
    """One block of dilation 1, width 4, embedding 2; a history padded to 20."""
    config = SupernetConfig(
        num_items=3,
        max_length=20,
        depths=(1,),
        widths=(4,),
        emb_widths=(2,),
        backbone="nextitnet",
        memory=None,
    )
    second = 2 * (1 * 12 * 4)  # one position, three taps of four channels
    first = 2 * (3 * 12 * 4)  # the three positions that those taps meet
    ends = 2 * (7 * 2 * 4) + 2 * (2 * 4)  # seven items lie within reach
    assert encoder_flops(config, config.largest, 20) == second + first + ends
    norms, kernels = 2 * 2 * 4, 2 * (3 * 4 * 4 + 4)
    assert parameter_counts(config, config.largest)["body"] == norms + kernels + (
        2 * 4 + 4 + 2 * 4 + 4 * 2 + 2 + 1
    )


def test_memory_is_charged_by_its_longest_row() -> None:
    memory = random_memory(CONFIG)
    assert isinstance(memory, TransitionMemory)
    longest = int((memory.offsets[1:] - memory.offsets[:-1]).max())
    assert memory.flops(20) == memory.flops(3) == 2 * 3 * longest
    assert memory.flops(2) == 2 * 2 * longest
    recent_BW = torch.randint(1, CONFIG.num_items + 1, (50, 3))
    rows, _, _ = memory.entries(recent_BW)
    assert int(torch.bincount(rows).max()) * 2 <= memory.flops(3)


@pytest.mark.parametrize("backbone", BACKBONES)
def test_cost_grows_along_every_axis(backbone: str) -> None:
    config = replace(CONFIG, backbone=backbone)
    for length in buckets(CONFIG.max_length):
        for small in CONFIG.submodels:
            for large in CONFIG.submodels:
                if (
                    small != large
                    and small.depth <= large.depth
                    and small.width <= large.width
                    and small.emb_width <= large.emb_width
                ):
                    assert encoder_flops(config, small, length) < encoder_flops(
                        config, large, length
                    )


@pytest.mark.parametrize(
    ("table", "two_level"), [*((table, False) for table in LAYOUTS), (PROJECTED, True)]
)
@pytest.mark.parametrize("submodel", CONFIG.submodels, ids=lambda s: s.name)
def test_bytes_equal_the_tensors(
    submodel: Submodel, table: TableLayout | None, two_level: bool
) -> None:
    config = replace(CONFIG, table=table, two_level=two_level)
    weights = extract(random_supernet(config), submodel)
    tables = weights.table.num_bytes // 4 + weights.item_bias_V.numel()
    assert parameter_counts(config, submodel)["table"] == tables
    assert weight_bytes(config, submodel) == 4 * tables + weights.body_bytes()


def test_padded_lengths() -> None:
    assert buckets(20) == (8, 16, 20)
    assert buckets(16) == (8, 16)
    assert [padded_length(n, 20) for n in (1, 8, 9, 16, 17, 20)] == [8, 8, 16, 16, 20, 20]
    assert padded_length(3, 5) == 5
    with pytest.raises(ValueError, match=r"21 is outside 1\.\.20"):
        padded_length(21, 20)


def test_a_submodel_reads_few_items_a_padded_length_or_everything() -> None:
    shorter = Submodel(depth=1, width=8, emb_width=8, length=16)
    check_length(shorter, 20)
    check_length(shorter.slice, 20)
    with pytest.raises(ValueError, match=r"d1-w8-e8-l16 reads 16 items.* may read 1, 2, 4, 8$"):
        check_length(shorter, 16)
    check_length(replace(shorter, length=4), 8)
    with pytest.raises(ValueError, match="may read nothing less"):
        check_length(shorter, 1)


@pytest.mark.parametrize("length", [8, 16, 20])
def test_what_is_not_read_is_not_charged(length: int) -> None:
    most = CONFIG.largest
    shorter = replace(most, length=8)
    assert encoder_flops(CONFIG, shorter, length) == encoder_flops(CONFIG, most, 8)
    assert scoring_flops(CONFIG, shorter) == scoring_flops(CONFIG, most)


@pytest.mark.parametrize("table", LAYOUTS)
def test_items_out_of_reach_cost_nothing(table: TableLayout | None) -> None:
    """One block of convolutions reaches seven items; their table is not looked up further."""
    config = replace(CONFIG, backbone="nextitnet", table=table)
    one, two = config.smallest, replace(config.smallest, depth=2)
    assert encoder_flops(config, one, 8) == encoder_flops(config, one, 20)
    assert encoder_flops(config, two, 8) < encoder_flops(config, two, 20)
