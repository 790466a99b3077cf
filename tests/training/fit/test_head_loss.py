"""The chunked head gives the losses and gradients that plain autograd gives."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from models.network import encode_all
from models.ranker import stack
from models.supernet import Supernet
from models.table.layout import TableLayout
from tests.models.builders import (
    PREFIXES,
    PROJECTED,
    random_histories,
    random_memory,
    random_supernet,
    small_config,
)
from tests.training.fit.gradients import check_gradients
from training.fit.head_loss import (
    Columns,
    Member,
    MemoryEntries,
    all_columns,
    drawn_columns,
    head_backward,
)

CONFIG = small_config()
DRAWN = (CONFIG.largest, CONFIG.smallest, CONFIG.submodels[7])


def batch() -> tuple[Tensor, Tensor, Tensor]:
    ids_BL = torch.from_numpy(stack(random_histories(CONFIG, 4, 3), CONFIG.max_length)[0])
    places_P = ids_BL.reshape(-1).nonzero().squeeze(1)
    generator = torch.Generator().manual_seed(1)
    targets_P = torch.randint(1, CONFIG.num_items + 1, (len(places_P),), generator=generator)
    return ids_BL, places_P, targets_P


def members(supernet: Supernet, ids_BL: Tensor, places_P: Tensor, students: int) -> list[Member]:
    drawn = []
    for index, submodel in enumerate(DRAWN):
        weights = supernet.slice(submodel)
        flat = encode_all(weights, ids_BL).view(-1, submodel.emb_width)
        chosen = places_P if index == 0 else places_P[:students]
        drawn.append(Member(weights=weights, query_PE=flat[chosen]))
    return drawn


def dense_evidence(entries: MemoryEntries, positions: int) -> Tensor:
    dense = torch.zeros(positions, CONFIG.num_items + 1)
    dense.index_put_((entries.rows_N, entries.items_N), entries.weights_N, accumulate=True)
    return torch.log1p(dense)


def oracle(
    drawn: list[Member],
    supernet: Supernet,
    targets_P: Tensor,
    columns: Columns,
    evidence: Tensor,
    distillation: float,
) -> list[Tensor]:
    """The same losses written plainly over the whole logits."""
    losses: list[Tensor] = []
    teacher: Tensor | None = None
    total = torch.zeros(())
    for member in drawn:
        rows = len(member.query_PE)
        table = supernet.item_table.dense()[:, : member.query_PE.shape[1]]
        scores = member.query_PE @ table.T + supernet.item_bias
        scores = scores + member.weights.memory_gain * evidence[:rows]
        correction = torch.full((CONFIG.num_items + 1,), -torch.inf)
        correction[columns.items_C] = columns.correction_C
        correction = correction.expand(rows, -1).clone()
        correction[torch.arange(rows), targets_P[:rows]] = 0.0
        logs = torch.log_softmax(scores + correction, 1)
        cross_entropy = -logs[torch.arange(rows), targets_P[:rows]].mean()
        losses.append(cross_entropy.detach())
        if teacher is None:
            teacher = logs.detach().exp()
            total = total + cross_entropy
        else:
            kept = torch.where(teacher[:rows] > 0, logs, 0.0)
            soft = -(teacher[:rows] * kept).sum(1).mean()
            total = total + (1 - distillation) * cross_entropy + distillation * soft
    torch.autograd.backward(total)
    return losses


@pytest.mark.parametrize("sampled", [False, True])
@pytest.mark.parametrize("chunk_cells", [100, 1_000_000])
@pytest.mark.parametrize("table", [None, PROJECTED, PREFIXES])
def test_losses_and_gradients_equal_autograds(
    sampled: bool, chunk_cells: int, table: TableLayout | None
) -> None:
    config = replace(CONFIG, table=table)
    ids_BL, places_P, targets_P = batch()
    memory = random_memory(CONFIG)
    assert memory is not None
    recent_PW = torch.randint(0, CONFIG.num_items + 1, (len(places_P), memory.config.window))
    entries = MemoryEntries(
        **dict(zip(("rows_N", "items_N", "weights_N"), memory.entries(recent_PW), strict=True))
    )
    inclusion_V = torch.full((CONFIG.num_items + 1,), 0.4)
    inclusion_V[0] = 0.0
    columns = (
        drawn_columns(targets_P, inclusion_V, torch.Generator().manual_seed(5))
        if sampled
        else all_columns(CONFIG.num_items)
    )
    ours = random_supernet(config, 2, spread=0.3).requires_grad_(True)
    theirs = random_supernet(config, 2, spread=0.3).requires_grad_(True)
    losses = head_backward(
        ours,
        members(ours, ids_BL, places_P, 11),
        targets_P,
        columns,
        entries,
        distillation=0.4,
        chunk_cells=chunk_cells,
    )
    expected = oracle(
        members(theirs, ids_BL, places_P, 11),
        theirs,
        targets_P,
        columns,
        dense_evidence(entries, len(places_P)),
        0.4,
    )
    assert losses == pytest.approx([float(loss) for loss in expected], rel=1e-4)
    check_gradients(ours, theirs)


def test_the_logq_correction_is_unbiased() -> None:
    """Averaged over draws, the corrected partition function is the full one."""
    generator = torch.Generator().manual_seed(0)
    scores_V = torch.randn(30, generator=generator)
    inclusion_V = torch.rand(30, generator=generator) * 0.8 + 0.1
    inclusion_V[0] = 0.0
    target = 7
    full = float(scores_V[1:].exp().sum())
    estimates = []
    for _ in range(20_000):
        columns = drawn_columns(torch.tensor([target]), inclusion_V, generator)
        terms = (scores_V[columns.items_C] + columns.correction_C).exp()
        terms[columns.place_V[target]] = scores_V[target].exp()
        estimates.append(float(terms.sum()))
    assert sum(estimates) / len(estimates) == pytest.approx(full, rel=0.02)
