"""A synthetic checkpoint: random weights in a realistic shape, published by the publishing code.

What it imitates: tables whose leading columns carry more of the norm (nested training does that),
item biases that fall with popularity, a transition memory with long rows for popular items and
short ones for the rest, the submodels that training serves, and a router whose choice differs from
history to history. What it does not: its recommendations mean nothing.
"""

# V catalog rows with padding

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from bench.synthetic_router import price_of_share, random_router, settle
from bench.synthetic_users import Histories, zipf_rows
from models.catalog import Catalog
from models.checkpoint.contents import CheckpointContents
from models.checkpoint.manifest import RouterEntry
from models.checkpoint.ranker import ranker_of
from models.checkpoint.read import read_checkpoint
from models.checkpoint.write import write_checkpoint
from models.config import MemoryConfig, Submodel, SupernetConfig
from models.cost import encoder_flops, scoring_flops
from models.lengths import buckets
from models.memory import TransitionMemory
from models.ranker import Ranker
from models.supernet import Supernet
from training.data.sequences import Sequences
from training.data.split import EvalCases
from training.publish.golden import golden_queries
from training.publish.publish import submodel_entries

_POPULAR = 10_000
_LEAST_ROW = 2
# Histories on which prices are set.
_MOST_HISTORIES = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class SyntheticModel:
    """What to make. `encoder_share` is the routed mean of encoder FLOPs over the full network's.

    The share is a target: the price is set so that the mix of submodels comes close to it on
    the histories given, at every catalog size the same. `more` is served besides.
    """

    items: int
    depth: int = 4
    width: int = 128
    emb_width: int = 64
    length: int = 50
    encoder_share: float = 0.12
    more: tuple[Submodel, ...] = ()
    seed: int = 0

    def __post_init__(self) -> None:
        for name, least in (("items", 2), ("depth", 1), ("width", 16), ("emb_width", 2)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least {least}")
        if self.width % 16:
            raise ValueError(f"width is {self.width}; give a multiple of 16")
        if not 0 < self.encoder_share <= 1:
            raise ValueError(f"encoder_share is {self.encoder_share}; give a share of 1")

    @property
    def config(self) -> SupernetConfig:
        """The supernet's architecture: halves and quarters of the full network beside it."""
        depths = {1, max(1, self.depth // 2), self.depth}
        return SupernetConfig(
            num_items=self.items,
            max_length=self.length,
            depths=tuple(sorted(depths)),
            widths=(self.width // 4, self.width // 2, self.width),
            emb_widths=(self.emb_width // 2, self.emb_width),
            memory=MemoryConfig(),
        )

    @property
    def served(self) -> tuple[Submodel, ...]:
        """The submodels that are published, by rising cost; the last is the full network.

        Those that training serves on MovieLens 1M (docs/log.md, reading less), in halves and
        quarters of this network: all but the full one read the newest items alone.
        """
        half = max(1, self.depth // 2)
        quarter_width, half_width = self.width // 4, self.width // 2
        shorter = buckets(self.length)[:-1]
        chosen = {
            self._reading(1, quarter_width, 16),
            self._reading(1, half_width, 32),
            self._reading(half, half_width, 16),
            self._reading(half, self.width, 32),
            self._reading(self.depth, self.width, shorter[-1] if shorter else 0),
            self.config.largest,
            *self.more,
        }
        config = self.config
        return tuple(
            sorted(
                chosen,
                key=lambda one: (
                    encoder_flops(config, one, self.length) + scoring_flops(config, one)
                ),
            )
        )

    def _reading(self, depth: int, width: int, length: int) -> Submodel:
        """Return a submodel that reads so many items, everything where histories are no longer."""
        reads = length if length in buckets(self.length)[:-1] else 0
        return Submodel(depth=depth, width=width, emb_width=self.emb_width, length=reads)


def item_id(row: int) -> str:
    """Return the external id of table row `row`, 1 and up."""
    return f"item-{row}"


def publish_synthetic(root: Path, model: SyntheticModel, histories: Histories) -> str:
    """Publish the checkpoint under `root`, CURRENT included, and return its version.

    `histories` are those of the users that will ask: the price is set on them.
    """
    config = model.config
    supernet = _supernet(config, model.seed)
    memory = _memory(config, model.seed)
    router = random_router(len(model.served), model.seed)
    ranker = Ranker(supernet, memory, router, model.served)
    rows = histories.rows[:_MOST_HISTORIES]
    settle(ranker, router, rows)
    price = price_of_share(ranker, rows, model.encoder_share)
    catalog = Catalog(item_id(row) for row in range(1, config.num_items + 1))
    return write_ranker(
        root,
        supernet=supernet,
        ranker=ranker,
        catalog=catalog,
        cases=_cases(rows),
        price=price,
    )


def price_at(directory: Path, histories: Histories, encoder_share: float) -> float:
    """Return the price at which a published version spends this share on these users' encoder."""
    ranker = ranker_of(read_checkpoint(directory))
    return price_of_share(ranker, histories.rows[:_MOST_HISTORIES], encoder_share)


def write_ranker(
    root: Path,
    *,
    supernet: Supernet,
    ranker: Ranker,
    catalog: Catalog,
    cases: EvalCases,
    price: float,
) -> str:
    """Publish a ranker that no training made, with true golden answers; return its version."""
    router, memory = ranker.router, ranker.memory
    assert router is not None, "a checkpoint holds a router"
    entries = submodel_entries(ranker)
    tensors = {f"supernet.{name}": t for name, t in supernet.state_dict().items()}
    tensors |= {f"router.{name}": t for name, t in router.state_dict().items()}
    if memory is not None:
        tensors["memory.offsets"] = memory.offsets
        tensors["memory.items"] = memory.items
        tensors["memory.weights"] = memory.weights
    return write_checkpoint(
        root,
        CheckpointContents(
            config=ranker.config,
            submodels=entries,
            router=RouterEntry(
                submodels=tuple(entry.name for entry in entries),
                hidden=router.hidden.out_features,
                features=router.hidden.in_features,
                price=price,
            ),
            tensors={name: tensor.detach().contiguous() for name, tensor in tensors.items()},
            catalog=catalog,
            popular=[
                (external, 1.0 / row)
                for row, external in enumerate(catalog.external_ids[:_POPULAR], 1)
            ],
            golden=golden_queries(ranker, catalog, cases),
        ),
    )


def _supernet(config: SupernetConfig, seed: int) -> Supernet:
    generator = torch.Generator().manual_seed(seed)
    supernet = Supernet(config)
    supernet.initialise(generator)
    with torch.no_grad():
        columns_E = torch.arange(config.emb_width, dtype=torch.float32)
        fall_E = (1 + columns_E / 8).rsqrt()
        supernet.table.mul_(fall_E / fall_E.square().mean().sqrt())
        ranks_V = torch.arange(1, config.num_items + 1, dtype=torch.float32)
        supernet.item_bias[1:] = -0.3 * torch.log(ranks_V)
        supernet.memory_gain.fill_(0.5)
    return supernet.requires_grad_(False)


def _memory(config: SupernetConfig, seed: int) -> TransitionMemory:
    """Rows of `row_limit` successors for the popular head, falling to two for the tail."""
    assert config.memory is not None
    rng = np.random.default_rng(seed)
    ranks = np.arange(1, config.num_items + 1)
    head = 2 * np.sqrt(config.num_items)
    most = min(config.memory.row_limit, config.num_items)
    counts = np.clip(most * (head / ranks) ** 0.7, min(_LEAST_ROW, most), most).astype(np.int64)
    total = int(counts.sum())
    items = zipf_rows(rng, config.num_items, total)
    return TransitionMemory(
        config=config.memory,
        offsets=torch.from_numpy(np.concatenate([[0, 0], counts.cumsum()]).astype(np.int32)),
        items=torch.from_numpy(items.astype(np.int32)),
        weights=torch.from_numpy((rng.random(total) * 5 + 0.1).astype(np.float32)),
    )


def _cases(rows: list[list[int]]) -> EvalCases:
    chosen = [rows[place] for place in sorted({0, len(rows) // 2, len(rows) - 1})]
    lengths = [len(row) for row in chosen]
    return EvalCases(
        histories=Sequences(
            offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
            items=np.concatenate([np.asarray(row, dtype=np.int64) for row in chosen]),
        ),
        targets=np.ones(len(chosen), dtype=np.int64),
        users=np.arange(len(chosen)),
    )
