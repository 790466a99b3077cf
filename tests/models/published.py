"""A random but real checkpoint on disk, small enough to build in a test."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from models.catalog import Catalog
from models.checkpoint.contents import CheckpointContents
from models.checkpoint.golden import GoldenQuery
from models.checkpoint.manifest import RouterEntry, SubmodelEntry
from models.checkpoint.write import write_checkpoint
from models.config import SupernetConfig
from models.ranker import Ranker, stack
from models.router import ROUTER_FEATURES
from models.topk import top_rows
from tests.models.builders import random_memory, random_router, random_supernet, small_config

HIDDEN = 8
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
    full = ranker.full_cost(config.max_length).total
    entries = []
    for place, submodel in enumerate(ranker.served):
        cost = ranker.cost(place, config.max_length, routed=True)
        entries.append(
            SubmodelEntry(
                name=submodel.name,
                flops_router=cost.router,
                flops_encoder=cost.encoder,
                flops_scoring=cost.scoring,
                flops_ratio=cost.total / full,
            )
        )
    entries.sort(key=lambda entry: entry.flops)
    assert [entry.name for entry in entries] == [s.name for s in ranker.served]
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
            golden=_golden(ranker, catalog),
        ),
    )


@torch.inference_mode()
def _golden(ranker: Ranker, catalog: Catalog) -> list[GoldenQuery]:
    history = [3, 1, 7]
    ids_BL, lengths_B = stack([history], ranker.bucket(len(history)))
    queries = []
    for place, submodel in enumerate(ranker.served):
        query_BE = ranker.encode(place, ids_BL, lengths_B)
        scores_V = ranker.score(place, query_BE, ids_BL, lengths_B)[0]
        scores_V[history] = -torch.inf
        rows, scores = top_rows(scores_V, 10)
        queries.append(
            GoldenQuery(
                history=tuple(catalog.external_id(row) for row in history),
                submodel=submodel.name,
                items=tuple(catalog.external_id(row) for row in rows),
                scores=tuple(scores),
            )
        )
    return queries
