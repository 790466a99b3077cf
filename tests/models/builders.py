"""Small random supernets, memories and routers for tests."""

from __future__ import annotations

import torch

from models.config import BACKBONES, MemoryConfig, SupernetConfig
from models.layer_plan import SHARING
from models.memory import TransitionMemory
from models.router import ROUTER_FEATURES, Router
from models.supernet import Supernet
from models.table.layout import TableBlock, TableLayout


def small_config(
    num_items: int = 40,
    *,
    memory: bool = True,
    backbone: str = "transformer",
    layer_sharing: str = "none",
    table: TableLayout | None = None,
    two_level: bool = False,
) -> SupernetConfig:
    return SupernetConfig(
        num_items=num_items,
        max_length=20,
        depths=(1, 2, 3),
        widths=(8, 16, 24),
        emb_widths=(8, 12),
        num_heads=2,
        backbone=backbone,
        layer_sharing=layer_sharing,
        memory=MemoryConfig(window=3, row_limit=6) if memory else None,
        table=table,
        two_level=two_level,
    )


def layout(*blocks: tuple[int, int], projected: bool) -> TableLayout:
    """Return the layout of (stop, width) blocks."""
    return TableLayout(tuple(TableBlock(*block) for block in blocks), projected=projected)


PROJECTED = layout((8, 12), (20, 5), (41, 2), projected=True)
"""For `small_config()`: a block without projection, a narrow one, a narrower one."""
PREFIXES = layout((8, 12), (20, 3), (33, 10), (41, 1), projected=False)
COLUMNS = TableLayout(
    (
        TableBlock(8, 12),
        TableBlock(20, 3, (1, 4, 9)),
        TableBlock(33, 2, (10, 11)),
        TableBlock(41, 4, (0, 1, 2, 7)),
    ),
    projected=False,
)
"""Of the third block a query of 8 columns meets none."""
COMBINATIONS = [(backbone, sharing) for backbone in BACKBONES for sharing in SHARING]


def random_supernet(config: SupernetConfig, seed: int = 0, spread: float = 0.7) -> Supernet:
    """Every parameter random, norms and gains included: nothing is close to the identity."""
    generator = torch.Generator().manual_seed(seed)
    supernet = Supernet(config)
    supernet.initialise(generator)
    with torch.no_grad():
        for name, parameter in supernet.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if "norm" in name or "gain" in name or "bias" in name:
                parameter.add_(spread * noise)
            else:
                parameter.mul_(1 + 0.3 * noise)
        supernet.item_table.parts[0].rows_NR[0] = 0.0
    return supernet.requires_grad_(False)


def random_memory(config: SupernetConfig, seed: int = 0) -> TransitionMemory | None:
    if config.memory is None:
        return None
    generator = torch.Generator().manual_seed(seed)
    counts = torch.randint(0, config.memory.row_limit + 1, (config.num_items,), generator=generator)
    rows = [
        torch.randperm(config.num_items, generator=generator)[:count] + 1
        for count in counts.tolist()
    ]
    offsets = torch.cat([torch.zeros(2, dtype=torch.int64), counts.cumsum(0)]).to(torch.int32)
    items = torch.cat(rows).to(torch.int32)
    weights = torch.rand(len(items), generator=generator) * 5 + 0.1
    return TransitionMemory(config=config.memory, offsets=offsets, items=items, weights=weights)


def random_router(
    num_submodels: int, seed: int = 0, hidden: int = 8, *, features: int = ROUTER_FEATURES
) -> Router:
    generator = torch.Generator().manual_seed(seed)
    router = Router(features=features, hidden=hidden, num_submodels=num_submodels)
    with torch.no_grad():
        for parameter in router.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3)
    return router.requires_grad_(False)


def random_histories(config: SupernetConfig, count: int, seed: int = 0) -> list[list[int]]:
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(1, config.max_length + 1, (count,), generator=generator).tolist()
    return [
        torch.randint(1, config.num_items + 1, (length,), generator=generator).tolist()
        for length in lengths
    ]
