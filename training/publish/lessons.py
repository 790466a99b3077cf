"""What the router learns from: how every served submodel did at positions of unseen users."""

# N cases, S submodels

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from models.config import Submodel
from models.ranker import Ranker
from training.data.split import EvalCases, Split
from training.evaluate.quality import (
    cost_order,
    cpu_milliseconds,
    lengths_read,
    ranks_by_submodel,
    totals,
)
from training.fit.fitted import Fitted
from training.fit.held_out import held_out_cases
from training.fit.memory_folds import build_memory
from training.fit.served import candidates, pick_served
from training.progress import Progress

_CPU_CASES = 40


@dataclass(frozen=True, slots=True, kw_only=True)
class Lessons:
    """Cases of users that the weights had not seen, and quality_NS float32, 1 / log2(1 + rank)."""

    served: tuple[Submodel, ...]
    cases: EvalCases
    quality_NS: Tensor


def choose_served(
    fitted: Fitted, cases: EvalCases, *, exclude_seen: bool, progress: Progress
) -> tuple[Submodel, ...]:
    """Return the submodels worth serving by validation and cost, full last.

    Cost is the geometric mean of FLOPs and of CPU time as measured here, each relative to the
    full network: time alone is too noisy to tell small submodels apart, FLOPs alone too kind.
    """
    grid = candidates(fitted.supernet.config, cases.histories.lengths())
    ranker = Ranker(fitted.supernet, fitted.memory, None, grid)
    ranks_NS = ranks_by_submodel(ranker, cases, exclude_seen=exclude_seen, progress=progress)
    flops_S = totals(ranker, lengths_read(ranker, cases.histories))[0].mean(0)
    spent_S, _ = cpu_milliseconds(ranker, cases, most=_CPU_CASES)
    quality_S = (1 / np.log2(1 + ranks_NS)).mean(0)
    cost_S = np.sqrt(flops_S / flops_S[-1] * np.asarray(spent_S) / spent_S[-1])
    return tuple(pick_served(grid, quality_S.tolist(), cost_S.tolist()))


def in_cost_order(
    fitted: Fitted, served: tuple[Submodel, ...], lessons: Lessons | None
) -> tuple[tuple[Submodel, ...], Lessons | None]:
    """Return both by rising FLOPs of the network as it is now: packing may have changed them."""
    order = cost_order(Ranker(fitted.supernet, fitted.memory, None, served))
    served = tuple(served[place] for place in order)
    if lessons is not None:
        lessons = replace(lessons, served=served, quality_NS=lessons.quality_NS[:, order])
    return served, lessons


def lessons_of(
    fitted: Fitted,
    split: Split,
    served: tuple[Submodel, ...],
    *,
    most: int,
    exclude_seen: bool,
    seed: int,
    progress: Progress,
) -> Lessons | None:
    """Return what up to `most` positions of the held-out users teach; None without such users.

    They are ranked with a memory that has not counted those users, scaled up to the whole.
    """
    if not fitted.held_U.any():
        return None
    cases = held_out_cases(split.training, fitted.held_U, most=most, seed=seed)
    if not len(cases):
        return None
    config = fitted.supernet.config
    memory = None
    if config.memory is not None:
        memory = build_memory(
            split.training,
            num_items=config.num_items,
            config=config.memory,
            users=~fitted.held_U,
            scale=1 / (1 - float(fitted.held_U.mean())),
        )
    ranker = Ranker(fitted.supernet, memory, None, served)
    ranks_NS = ranks_by_submodel(ranker, cases, exclude_seen=exclude_seen, progress=progress)
    return Lessons(
        served=served,
        cases=cases,
        quality_NS=torch.from_numpy((1 / np.log2(1 + ranks_NS)).astype(np.float32)),
    )
