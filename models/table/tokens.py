"""CpRec's two-level softmax: a first softmax finds the block, a second one the item within it.

The first one is over the items of the first block and a *token* for each other block (a *tail*
block); the second over the items of one tail block. In logarithms that is one number for each
query and tail block, added to all scores of the block:

    log p(v) = token_i - log(sum over block i of exp(score)) + score_v - (the same for all v)

so that a softmax over all shifted scores is the two-level one, and everything that adds to scores
or ranks them works as with one softmax.
"""

# B batch, E embedding width, T tail blocks, V catalog rows with padding

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from models.table.table import ItemTable

STATE = ("block_tokens", "block_token_bias")
"""The names of `tokens_TE` and `bias_T` in a supernet's state."""


@dataclass(frozen=True, slots=True)
class BlockTokens:
    """What stands for each tail block in the first softmax: `tokens_TE` and `bias_T`, float32."""

    tokens_TE: Tensor
    bias_T: Tensor

    def slice(self, columns: int) -> BlockTokens:
        """Return the tokens of an embedding cut to its leading `columns`, as views."""
        if columns == self.tokens_TE.shape[1]:
            return self
        return BlockTokens(self.tokens_TE[:, :columns], self.bias_T)

    def scores(self, query_BE: Tensor) -> Tensor:
        """Return scores_BT of the tail blocks, beside those of the first block's items."""
        return torch.addmm(self.bias_T, query_BE, self.tokens_TE.T)

    def shifts(self, table: ItemTable, scores_BV: Tensor, query_BE: Tensor) -> Tensor:
        """Return shifts_BT: what two levels add to all scores of each tail block.

        `scores_BV` are the table's own, which a softmax over all rows would be taken of. Its
        columns beyond the table are not read.
        """
        sums = [
            torch.logsumexp(scores_BV[:, part.start : part.stop], 1) for part in table.parts[1:]
        ]
        return self.scores(query_BE) - torch.stack(sums, 1)

    def shifted(self, table: ItemTable, scores_BV: Tensor, query_BE: Tensor) -> Tensor:
        """Return the two-level scores; differentiable."""
        shifts_BT = self.shifts(table, scores_BV, query_BE)
        blocks = [scores_BV[:, : table.parts[0].stop]]
        for place, part in enumerate(table.parts[1:]):
            blocks.append(scores_BV[:, part.start : part.stop] + shifts_BT[:, place, None])
        return torch.cat(blocks, 1)

    def shift_into(self, table: ItemTable, scores_BV: Tensor, query_BE: Tensor) -> None:
        """Write the two-level scores over the table's own, without autograd."""
        shifts_BT = self.shifts(table, scores_BV, query_BE)
        for place, part in enumerate(table.parts[1:]):
            scores_BV[:, part.start : part.stop] += shifts_BT[:, place, None]


def first_tokens(table: ItemTable, item_bias_V: Tensor) -> tuple[Tensor, Tensor]:
    """Return (tokens_TE, bias_T) for a table that has none: copies, without autograd.

    A token is its block's mean embedding, its bias the sum of what the items' biases are the
    logarithms of: the block's own share where all of its items are scored alike.
    """
    with torch.no_grad():
        tails = table.parts[1:]
        means = [part.embeddings(part.rows_NR.mean(0)[None], table.emb_width) for part in tails]
        sums = [torch.logsumexp(item_bias_V[part.start : part.stop], 0) for part in tails]
        return torch.cat(means).contiguous(), torch.stack(sums)
