"""A random but real checkpoint on disk, small enough to build in a test."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from bench.synthetic_checkpoint import write_ranker
from models.catalog import Catalog
from models.config import SupernetConfig
from models.ranker import Ranker
from models.router import FEATURE_SETS
from tests.models.builders import random_memory, random_router, random_supernet, small_config
from training.data.sequences import gather
from training.data.split import EvalCases

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
    """Five served submodels of different depth, width and embedding width; one reads 8 items."""
    grid = config.submodels
    served = [grid[0], grid[3], grid[7], replace(grid[10], length=8), grid[-1]]
    features = FEATURE_SETS[config.memory is not None]
    router = random_router(len(served), seed, HIDDEN, features=features)
    return Ranker(random_supernet(config, seed), random_memory(config, seed), router, served)


def publish_random(root: Path, seed: int = 0, config: SupernetConfig | None = None) -> str:
    """Write a random checkpoint with true golden answers and return its version."""
    config = config or small_config()
    return write_ranker(
        root,
        supernet=random_supernet(config, seed),
        ranker=random_ranker(config, seed),
        catalog=Catalog(external_ids(config), attributes(config)),
        cases=CASES,
        price=0.2,
    )
