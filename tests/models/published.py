"""A random but real checkpoint on disk, small enough to build in a test."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from models.catalog import Catalog
from models.checkpoint.contents import CheckpointContents
from models.checkpoint.manifest import RouterEntry
from models.checkpoint.write import write_checkpoint
from models.config import SupernetConfig
from models.ranker import Ranker
from models.router import ROUTER_FEATURES
from tests.models.builders import random_memory, random_router, random_supernet, small_config
from training.data.sequences import gather
from training.data.split import EvalCases
from training.publish.golden import golden_queries
from training.publish.publish import submodel_entries

HIDDEN = 8
CASES = EvalCases(
    histories=gather(np.array([3, 1, 7, 5]), np.array([0, 0]), np.array([3, 4])),
    targets=np.array([2, 2]),
    users=np.array([0, 1]),
)
GENRES = ("drama", "comedy", "noir")


def external_ids(config: SupernetConfig) -> list[str]:
    return [f"item-{row}" for row in range(1, config.num_items + 1)]


def attributes(config: SupernetConfig) -> list[dict[str, Any]]:
    return [
        {"title": f"Title {row}", "genres": [GENRES[row % 3]], "new": row % 2 == 0}
        for row in range(1, config.num_items + 1)
    ]


def random_ranker(config: SupernetConfig, seed: int = 0) -> Ranker:
    """Five served submodels of different depth, width and embedding width."""
    grid = config.submodels
    served = [grid[0], grid[3], grid[7], grid[10], grid[-1]]
    router = random_router(len(served), seed, HIDDEN)
    return Ranker(random_supernet(config, seed), random_memory(config, seed), router, served)


def publish_random(root: Path, seed: int = 0, config: SupernetConfig | None = None) -> str:
    """Write a random checkpoint with true golden answers and return its version."""
    config = config or small_config()
    ranker = random_ranker(config, seed)
    assert ranker.router is not None
    memory = random_memory(config, seed)
    assert memory is not None
    catalog = Catalog(external_ids(config), attributes(config))
    entries = submodel_entries(ranker)
    assert entries == sorted(entries, key=lambda entry: entry.flops)
    supernet = random_supernet(config, seed)
    tensors = {f"supernet.{name}": t for name, t in supernet.state_dict().items()}
    tensors.update({f"router.{name}": t for name, t in ranker.router.state_dict().items()})
    tensors["memory.offsets"] = memory.offsets
    tensors["memory.items"] = memory.items
    tensors["memory.weights"] = memory.weights
    return write_checkpoint(
        root,
        CheckpointContents(
            config=config,
            submodels=entries,
            router=RouterEntry(
                submodels=tuple(entry.name for entry in entries),
                hidden=HIDDEN,
                features=ROUTER_FEATURES,
                price=0.2,
            ),
            tensors={name: tensor.detach().contiguous() for name, tensor in tensors.items()},
            catalog=catalog,
            popular=[(external, 1.0 / row) for row, external in enumerate(catalog.external_ids, 1)],
            golden=golden_queries(ranker, catalog, CASES),
        ),
    )
