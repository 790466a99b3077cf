"""A synthetic checkpoint: random weights in a realistic shape, published by the publishing code.

What it imitates: tables whose leading columns carry more of the norm (nested training does that),
item biases that fall with popularity, a transition memory with long rows for popular items and
short ones for the rest, and a router whose choice differs from history to history. What it does
not: its recommendations mean nothing.
"""

# V catalog rows with padding, B batch, S served submodels, C router features

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from bench.synthetic_users import Histories, zipf_rows
from models.catalog import Catalog
from models.checkpoint.contents import CheckpointContents
from models.checkpoint.manifest import RouterEntry
from models.checkpoint.write import write_checkpoint
from models.config import MemoryConfig, Submodel, SupernetConfig
from models.cost import encoder_flops, scoring_flops
from models.memory import TransitionMemory
from models.ranker import Ranker, recent
from models.router import ROUTER_FEATURES, Router
from models.supernet import Supernet
from training.data.sequences import Sequences
from training.data.split import EvalCases
from training.publish.golden import golden_queries
from training.publish.publish import submodel_entries

HIDDEN = 32
_POPULAR = 10_000
_LEAST_ROW = 2
# Spread of the router's predicted qualities between histories; trained ones have about as much.
_QUALITY_SPREAD = 0.05
_PRICE_STEPS = 40
_HIGHEST_PRICE = 1e4


@dataclass(frozen=True, slots=True, kw_only=True)
class SyntheticModel:
    """What to make. `encoder_share` is the routed mean of encoder FLOPs over the full network's.

    With `newest` the full network is served besides as it reads so many newest items alone.
    The share is a target: the price is set so that the mix of submodels comes close to it on
    the histories given, at every catalog size the same.
    """

    items: int
    depth: int = 4
    width: int = 128
    emb_width: int = 64
    length: int = 50
    encoder_share: float = 0.3
    newest: int = 0
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
        """The submodels that are published, by rising cost; the last is the full network."""
        half, e = max(1, self.depth // 2), self.emb_width
        chosen = {
            Submodel(depth=1, width=self.width // 4, emb_width=e // 2),
            Submodel(depth=1, width=self.width // 2, emb_width=e),
            Submodel(depth=half, width=self.width // 2, emb_width=e),
            Submodel(depth=half, width=self.width, emb_width=e),
            Submodel(depth=self.depth, width=self.width, emb_width=e),
        }
        if self.newest:
            chosen.add(
                Submodel(depth=self.depth, width=self.width, emb_width=e, length=self.newest)
            )
        config = self.config
        return tuple(
            sorted(
                chosen,
                key=lambda one: (
                    encoder_flops(config, one, self.length) + scoring_flops(config, one)
                ),
            )
        )


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
    router = _router(len(model.served), model.seed)
    ranker = Ranker(supernet, memory, router, model.served)
    rows = histories.rows[: min(len(histories.rows), 500)]
    price = _settle_router(ranker, router, rows, model.encoder_share)
    catalog = Catalog(item_id(row) for row in range(1, config.num_items + 1))
    return write_ranker(
        root,
        supernet=supernet,
        ranker=ranker,
        catalog=catalog,
        cases=_cases(rows),
        price=price,
    )


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
                features=ROUTER_FEATURES,
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


def _router(num_submodels: int, seed: int) -> Router:
    generator = torch.Generator().manual_seed(seed)
    router = Router(features=ROUTER_FEATURES, hidden=HIDDEN, num_submodels=num_submodels)
    with torch.no_grad():
        for parameter in router.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3)
    return router.requires_grad_(False)


@torch.inference_mode()
def _settle_router(
    ranker: Ranker, router: Router, rows: list[list[int]], encoder_share: float
) -> float:
    """Give the random router no favourite, and return the price that meets the share."""
    most = ranker.config.max_length
    lengths_B = np.array([min(len(row), most) for row in rows])
    recent_BW = recent(rows)
    features_BC = torch.from_numpy(ranker.features(recent_BW, lengths_B))
    assert isinstance(router.feature_mean, Tensor)
    assert isinstance(router.feature_scale, Tensor)
    router.feature_mean.copy_(features_BC.mean(0))
    router.feature_scale.copy_(features_BC.std(0, unbiased=False).clamp(min=1e-3))
    quality_BS = router(features_BC)
    spread_S = quality_BS.std(0, unbiased=False).clamp(min=1e-6)
    router.output.weight.mul_((_QUALITY_SPREAD / spread_S)[:, None])
    router.output.bias.mul_(_QUALITY_SPREAD / spread_S)
    router.output.bias.add_(0.5 - router(features_BC).mean(0))
    encoder_BS = torch.tensor(
        [
            [
                ranker.cost(place, ranker.bucket(int(length)), routed=False).encoder
                for place in range(len(ranker.served))
            ]
            for length in lengths_B
        ],
        dtype=torch.float64,
    )

    def share(price: float) -> float:
        chosen_B = torch.from_numpy(ranker.route(recent_BW, lengths_B, price))
        spent = encoder_BS.gather(1, chosen_B[:, None]).sum()
        return float(spent / encoder_BS[:, -1].sum())

    low, high = 1e-6, _HIGHEST_PRICE
    for _ in range(_PRICE_STEPS):  # the share falls as the price rises
        middle = float(np.sqrt(low * high))
        low, high = (middle, high) if share(middle) > encoder_share else (low, middle)
    return high


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
