"""A checkpoint of a few hundred bytes, and the shapes it promises."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from models.catalog import Catalog
from models.checkpoint.contents import CheckpointContents
from models.checkpoint.golden import GoldenQuery
from models.checkpoint.manifest import Manifest, PricePoint, RouterEntry, SubmodelEntry
from models.checkpoint.tensors import TensorSpec
from models.checkpoint.write import write_checkpoint
from models.config import MemoryConfig, SupernetConfig

CONFIG = SupernetConfig(
    num_items=5,
    max_length=4,
    depths=(1, 2),
    widths=(4, 8),
    emb_widths=(4,),
    memory=MemoryConfig(window=2, row_limit=3),
)
IDS = ("a", "b", "é", "d d", "e-5")


def tiny_shapes(manifest: Manifest) -> dict[str, TensorSpec]:
    config = manifest.config
    return {
        "supernet.table": TensorSpec(shape=(config.num_items + 1, config.emb_width)),
        "supernet.gain": TensorSpec(shape=()),
        "router.weight": TensorSpec(
            shape=(len(manifest.router.submodels), manifest.router.features)
        ),
    }


def tiny_contents(seed: int = 0, *, parent: str | None = None) -> CheckpointContents:
    generator = torch.Generator().manual_seed(seed)
    return CheckpointContents(
        config=CONFIG,
        submodels=(
            SubmodelEntry(
                name="d1-w4-e4",
                flops_router=10,
                flops_encoder=100,
                flops_scoring=40,
                flops_ratio=0.3,
            ),
            SubmodelEntry(
                name="d2-w8-e4",
                flops_router=10,
                flops_encoder=460,
                flops_scoring=40,
                flops_ratio=1.02,
            ),
        ),
        router=RouterEntry(
            submodels=("d1-w4-e4", "d2-w8-e4"),
            hidden=3,
            features=3,
            price=0.1,
            price_curve=(PricePoint(price=0.1, flops_ratio=0.5, ndcg_10=0.07),),
        ),
        tensors={
            "supernet.table": torch.randn(6, 4, generator=generator),
            "supernet.gain": torch.ones(()),
            "router.weight": torch.randn(2, 3, generator=generator),
            "memory.offsets": torch.tensor([0, 0, 2, 3, 3, 3, 4], dtype=torch.int32),
            "memory.items": torch.tensor([2, 3, 1, 5], dtype=torch.int32),
            "memory.weights": torch.tensor([2.0, 1.0, 4.0, 0.5]),
        },
        catalog=Catalog(IDS, [{"title": "A", "genres": ["x", "y"]}, {}, {"year": 1999}, {}, {}]),
        popular=[("a", 9.0), ("b", 4.0), ("d d", 4.0)],
        golden=[
            GoldenQuery(history=("a", "b"), submodel=name, items=("é", "e-5"), scores=(0.5, 0.25))
            for name in ("d1-w4-e4", "d2-w8-e4")
        ],
        evaluation={"routed": {"ndcg_10": 0.07}},
        metrics={"ndcg_10": 0.07},
        training={"seed": seed, "method": "sandwich", "seconds": 1.5, "rows": 12},
        repeats=False,
        data_until="2026-11-20T00:00:00+00:00",
        code_revision="1a2b3c4",
        parent=parent,
    )


@dataclass(frozen=True, slots=True)
class Tiny:
    """What the tests of this room share."""

    contents: Callable[..., CheckpointContents] = tiny_contents
    shapes: Callable[[Manifest], dict[str, TensorSpec]] = tiny_shapes

    def publish(self, root: Path, *, seed: int = 0, make_current: bool = True) -> str:
        return write_checkpoint(
            root, tiny_contents(seed), make_current=make_current, shapes=tiny_shapes
        )


@pytest.fixture(scope="session")
def tiny() -> Tiny:
    torch.set_num_threads(1)
    return Tiny()
