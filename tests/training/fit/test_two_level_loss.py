"""The two levels' losses and gradients are those of torch's adaptive softmax and of autograd."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from models.network import encode_all
from models.supernet import Supernet
from tests.models.builders import random_supernet
from tests.models.test_tokens import CONFIG, adaptive
from tests.training.fit.gradients import check_gradients
from tests.training.fit.test_head_loss import batch, members
from training.fit.head_loss import Member
from training.fit.two_level_loss import two_level_backward


def plain_levels(supernet: Supernet, query_PE: Tensor) -> list[Tensor]:
    """Log probabilities of each level: items of the first block and tokens; each tail block."""
    columns = query_PE.shape[1]
    table_VE = supernet.item_table.dense()[:, :columns]
    scores_PV = query_PE @ table_VE.T + supernet.item_bias
    first, *tails = supernet.item_table.parts
    tokens_PT = query_PE @ supernet.block_tokens[:, :columns].T + supernet.block_token_bias
    head = torch.cat([scores_PV[:, 1 : first.stop], tokens_PT], 1)
    return [
        head.log_softmax(1),
        *(scores_PV[:, part.start : part.stop].log_softmax(1) for part in tails),
    ]


def oracle(
    drawn: list[Member], supernet: Supernet, targets_P: Tensor, distillation: float
) -> list[Tensor]:
    """The same losses, position by position."""
    losses: list[Tensor] = []
    total = torch.zeros(())
    parts = supernet.item_table.parts
    teacher: list[Tensor] = []
    for member in drawn:
        levels = plain_levels(supernet, member.query_PE)
        teacher = teacher or [level.detach().exp() for level in levels]
        hard, soft = torch.zeros(()), torch.zeros(())
        for position, target in enumerate(targets_P[: len(member.query_PE)].tolist()):
            block = next(place for place, part in enumerate(parts) if target < part.stop)
            places = [target - 1 if block == 0 else parts[0].stop - 1 + block - 1]
            met = [0]
            if block:
                places.append(target - parts[block].start)
                met.append(block)
            for level, place in zip(met, places, strict=True):
                hard = hard - levels[level][position, place]
                soft = soft - (teacher[level][position] * levels[level][position]).sum()
        hard, soft = hard / len(member.query_PE), soft / len(member.query_PE)
        losses.append(hard.detach())
        weight = distillation if len(losses) > 1 else 0.0
        total = total + (1 - weight) * hard + weight * soft
    torch.autograd.backward(total)
    return losses


@pytest.mark.parametrize("chunk_cells", [60, 1_000_000])
def test_losses_and_gradients_equal_autograds(chunk_cells: int) -> None:
    """Teacher and students of other widths, every parameter, in chunks and at once."""
    ids_BL, places_P, targets_P = batch()
    ours = random_supernet(CONFIG, 2, spread=0.3).requires_grad_(True)
    theirs = random_supernet(CONFIG, 2, spread=0.3).requires_grad_(True)
    losses = two_level_backward(
        ours,
        members(ours, ids_BL, places_P, 11),
        targets_P,
        distillation=0.4,
        chunk_cells=chunk_cells,
    )
    expected = oracle(members(theirs, ids_BL, places_P, 11), theirs, targets_P, 0.4)
    assert losses == pytest.approx([float(loss) for loss in expected], rel=1e-4)
    check_gradients(ours, theirs)


def test_the_loss_is_torchs_adaptive_softmaxs() -> None:
    ids_BL, places_P, targets_P = batch()
    supernet = random_supernet(CONFIG, 3, spread=0.3)
    supernet.item_bias[8:] = 0.0  # torch's tails have no biases
    expected = adaptive(supernet)
    supernet.requires_grad_(True)
    weights = supernet.slice(CONFIG.largest)
    query_PE = encode_all(weights, ids_BL).view(-1, 12)[places_P].detach().requires_grad_(True)
    member = Member(weights=weights, query_PE=query_PE)
    (loss,) = two_level_backward(
        supernet, [member], targets_P, distillation=0.0, chunk_cells=1_000_000
    )
    again_PE = query_PE.detach().clone().requires_grad_(True)
    found = expected(again_PE, targets_P - 1).loss
    torch.autograd.backward(found)
    assert loss == pytest.approx(float(found.detach()), rel=1e-5)
    torch.testing.assert_close(query_PE.grad, again_PE.grad, rtol=1e-5, atol=1e-6)
    head = expected.head.weight.grad
    assert head is not None
    first = supernet.item_table.parts[0]
    assert first.rows_NR.grad is not None
    assert supernet.block_tokens.grad is not None
    found_grad = torch.cat([first.rows_NR.grad[1:], supernet.block_tokens.grad])
    torch.testing.assert_close(found_grad, head, rtol=1e-5, atol=1e-6)


def test_a_tail_block_costs_only_the_positions_whose_target_it_holds() -> None:
    """Without a target there, its rows get no gradient at all, not even zeros."""
    supernet = random_supernet(CONFIG).requires_grad_(True)
    weights = supernet.slice(CONFIG.largest)
    query_PE = torch.randn(4, 12, generator=torch.Generator().manual_seed(0)).requires_grad_(True)
    two_level_backward(
        supernet,
        [Member(weights=weights, query_PE=query_PE)],
        torch.tensor([1, 3, 9, 12]),
        distillation=0.0,
        chunk_cells=1_000_000,
    )
    _, middle, last = supernet.item_table.parts
    assert middle.rows_NR.grad is not None
    assert last.rows_NR.grad is None
    assert last.projection_RE is not None
    assert last.projection_RE.grad is None
