"""Other checkpoints' rows in the same table: a plain network, or the published method."""

# U cases, S submodels

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.checkpoint.contents import Checkpoint
from models.checkpoint.ranker import ranker_of
from models.checkpoint.read import read_checkpoint
from models.checkpoint.store import current
from training.data.interactions import Interactions
from training.data.reading import make_split
from training.data.split import EvalCases
from training.evaluate.lines import Line, by_metric
from training.evaluate.quality import (
    cpu_milliseconds,
    lengths_read,
    ranks_by_submodel,
    routed_places,
    totals,
)
from training.progress import Progress

# plain: the checkpoint's full network answers everybody. canet: its router does, at its price.
BESIDE = ("plain", "canet")
_CPU_CASES = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Contender:
    """One row to be: ranks_U float64 on the table's own cases, and what a case costs on average."""

    name: str
    submodel: str | None
    price: float | None
    ranks_U: NDArray[np.float64]
    flops: float
    cpu_ms: float

    def line(self) -> Line:
        """Return its row to be."""
        return Line(
            name=self.name,
            metrics=by_metric(self.ranks_U),
            flops=self.flops,
            cpu_ms=self.cpu_ms,
            submodel=self.submodel,
            price=self.price,
        )


def read_contenders(pairs: Sequence[str]) -> list[tuple[str, Checkpoint]]:
    """Return (name, checkpoint) of every `NAME=ROOT`, the version that CURRENT names.

    ValueError for another form, an unknown name or a root without CURRENT; CheckpointError.
    """
    found = []
    for pair in pairs:
        name, equals, root = pair.partition("=")
        if not equals or not root:
            raise ValueError(f"{pair!r} is not of the form NAME=ROOT, such as plain=models-plain")
        if name not in BESIDE:
            raise ValueError(f"{name!r} is unknown; known are {', '.join(BESIDE)}")
        version = current(Path(root))
        if version is None:
            raise ValueError(f"{root} has no CURRENT; train a checkpoint into it")
        found.append((name, read_checkpoint(Path(root) / version)))
    return found


def contend(
    name: str,
    checkpoint: Checkpoint,
    interactions: Interactions,
    *,
    split: str,
    against: Checkpoint,
    cases: EvalCases,
    exclude_seen: bool,
    progress: Progress,
) -> Contender:
    """Rank the cases of `against` with another checkpoint, seen items by the same rule.

    ValueError where that would not be the same task: other items, other users or other targets.
    """
    own = same_cases(checkpoint, interactions, split=split, against=against, cases=cases, name=name)
    manifest = checkpoint.manifest
    routed = name == "canet"
    ranker = ranker_of(checkpoint)
    full = len(ranker.served) - 1
    price = manifest.router.price if routed else None
    places_U = np.full(len(own), full)
    if price is not None:
        places_U = routed_places(ranker, own, price)
    needed = np.unique(places_U)
    ranks_US = ranks_by_submodel(
        ranker, own, exclude_seen=exclude_seen, places=needed.tolist(), progress=progress
    )
    users = np.arange(len(own))
    cost_US, _ = totals(ranker, lengths_read(ranker, own.histories), routed=routed)
    cpu_S, router_cpu = cpu_milliseconds(ranker, own, most=_CPU_CASES)
    return Contender(
        name=name,
        submodel=None if routed else ranker.served[full].name,
        price=price,
        ranks_U=ranks_US[users, np.searchsorted(needed, places_U)],
        flops=float(cost_US[users, places_U].mean()),
        cpu_ms=float(np.asarray(cpu_S)[places_U].mean()) + (router_cpu if routed else 0.0),
    )


def same_cases(
    checkpoint: Checkpoint,
    interactions: Interactions,
    *,
    split: str,
    against: Checkpoint,
    cases: EvalCases,
    name: str,
) -> EvalCases:
    """Return `cases`, which are in rows of `against`, in rows of `checkpoint`; in the same order.

    ValueError, beginning with `name`, for other items, other users or other targets.
    """
    catalog = checkpoint.catalog
    if set(catalog.external_ids) != set(against.catalog.external_ids):
        raise ValueError(
            f"{name}: checkpoint {checkpoint.version} knows {len(catalog):,} items, "
            f"{against.version} {len(against.catalog):,}, not the same; train both on one file"
        )
    own = make_split(interactions, split, catalog=catalog).open_test()
    rows_V = np.array([0, *map(catalog.item_id, against.catalog.external_ids)], dtype=np.int64)
    if not (
        np.array_equal(own.users, cases.users)
        and np.array_equal(own.targets, rows_V[cases.targets])
        and np.array_equal(own.histories.items, rows_V[cases.histories.items])
    ):
        raise ValueError(
            f"{name}: checkpoint {checkpoint.version} is tested on {len(own):,} cases, not the "
            f"{len(cases):,} of {against.version}; train both on one file and split"
        )
    return own
