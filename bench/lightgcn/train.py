"""Train LightGCN densely or sparsely, pick the epoch on validation, read the test part once."""

# V nodes, E embedding width

from __future__ import annotations

import math
import time
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from bench.lightgcn.data import GraphData, Pairs
from bench.lightgcn.macs import propagation, training_step
from bench.lightgcn.model import ITEMS, USERS, LightGCN, bpr_loss
from bench.lightgcn.ranking import Quality, quality
from training.sparse.config import SparseConfig
from training.sparse.controller import SparseController
from training.sparse.element import ElementPool


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """One training: the reference's optimiser (Adam, cosine), BPR and penalty; larger batches."""

    width: int = 64
    layers: int = 3
    epochs: int = 60
    evaluate_every: int = 3
    batch: int = 8192
    rate: float = 1e-2
    last_rate: float = 1e-4
    penalty: float = 1e-4
    seed: int = 0
    sparse: SparseConfig | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What one training gave. Multiply-adds are those of ideal sparse kernels; see `macs`."""

    validation: Quality
    test: Quality
    best_epoch: int
    density: float
    training_macs: int
    inference_macs: int
    seconds: float


def train(data: GraphData, plan: Plan) -> Outcome:
    """Return the outcome at the epoch of the best validation NDCG@20."""
    began = time.perf_counter()
    draws = torch.Generator().manual_seed(plan.seed)
    rng = np.random.default_rng(plan.seed)
    graph = data.adjacency()
    model = LightGCN(data.num_users, data.num_items, plan.width, plan.layers, draws)
    optimizer = torch.optim.Adam(model.parameters(), lr=plan.rate)
    sparse = _controller(model, optimizer, plan)
    steps = math.ceil(len(data.training_N2) / plan.batch)
    best: tuple[Quality, int, list[Tensor]] | None = None
    macs = 0
    for epoch in range(plan.epochs):
        if sparse is not None and sparse.begin_epoch(
            epoch / plan.epochs, 1 / (plan.epochs * steps)
        ):
            best = best if plan.sparse is None or plan.sparse.method != "one-shot" else None
        for group in optimizer.param_groups:
            group["lr"] = _rate(plan, epoch)
        macs += steps * training_step(model, graph, living=_living(model, sparse))
        for triples_B3 in _triples(data, plan.batch, rng):
            optimizer.zero_grad(set_to_none=True)
            loss = bpr_loss(model, graph, triples_B3, penalty=plan.penalty)
            torch.autograd.backward(loss)
            if sparse is not None:
                sparse.before_step()
            optimizer.step()
            if sparse is not None:
                sparse.after_step()
        if (epoch + 1) % plan.evaluate_every == 0 or epoch + 1 == plan.epochs:
            found = _quality(model, graph, data.validation_N2, data.training_N2)
            if best is None or found.ndcg > best[0].ndcg:
                best = found, epoch, [one.detach().clone() for one in model.parameters()]
    assert best is not None
    with torch.no_grad():
        for parameter, kept in zip(model.parameters(), best[2], strict=True):
            parameter.copy_(kept)
    known_N2 = np.concatenate([data.training_N2, data.validation_N2])
    weights = sum(one.numel() for one in model.parameters())
    return Outcome(
        validation=best[0],
        test=_quality(model, graph, data.test_N2, known_N2),
        best_epoch=best[1] + 1,
        density=sum(int(torch.count_nonzero(one)) for one in model.parameters()) / weights,
        training_macs=macs,
        inference_macs=propagation(model, graph),
        seconds=time.perf_counter() - began,
    )


def _controller(
    model: LightGCN, optimizer: torch.optim.Optimizer, plan: Plan
) -> SparseController | None:
    if plan.sparse is None or not plan.sparse.masks:
        return None
    tensors = {USERS: model.users, ITEMS: model.items}
    pools = [
        ElementPool(name, tensor, plan.sparse.density, tuple((size,) for size in tensor.shape))
        for name, tensor in tensors.items()
    ]
    return SparseController(plan.sparse, pools, tensors, optimizer, {}, given=False, seed=plan.seed)


def _living(model: LightGCN, sparse: SparseController | None) -> Tensor | None:
    """Return which numbers of the nodes' embeddings live, None for all of them."""
    if sparse is None:
        return None
    ones = {USERS: torch.ones_like(model.users), ITEMS: torch.ones_like(model.items)}
    if not sparse.whole:
        for pool in sparse.pools:
            pool.silence(ones)
    return torch.cat([ones[USERS], ones[ITEMS]]) > 0


def _rate(plan: Plan, epoch: int) -> float:
    return plan.last_rate + (plan.rate - plan.last_rate) / 2 * (
        1 + math.cos(math.pi * epoch / plan.epochs)
    )


def _triples(data: GraphData, batch: int, rng: np.random.Generator) -> list[Tensor]:
    """Return every training pair once, shuffled, with an item that its user has not met."""
    pairs_N2: Pairs = data.training_N2[rng.permutation(len(data.training_N2))]
    met = np.sort(data.training_N2[:, 0] * data.num_items + data.training_N2[:, 1])
    drawn = rng.integers(data.num_items, size=len(pairs_N2))
    for _ in range(10):
        keys = pairs_N2[:, 0] * data.num_items + drawn
        again = met[np.minimum(np.searchsorted(met, keys), len(met) - 1)] == keys
        if not again.any():
            break
        drawn[again] = rng.integers(data.num_items, size=int(again.sum()))
    triples_N3 = torch.from_numpy(np.column_stack([pairs_N2, drawn]))
    return list(torch.split(triples_N3, batch))


@torch.no_grad()
def _quality(model: LightGCN, graph: Tensor, held_N2: Pairs, known_N2: Pairs) -> Quality:
    users_UE, items_IE = model(graph)
    return quality(users_UE, items_IE, held_N2, known_N2)
