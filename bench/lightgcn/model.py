"""LightGCN (He et al., SIGIR 2020): embeddings averaged over the layers of a graph."""

# U users, I items, V = U + I nodes, E embedding width, B batch

from __future__ import annotations

import math
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

USERS, ITEMS = "users", "items"


class LightGCN(nn.Module):
    """`users` (U, E) and `items` (I, E) are all there is to learn."""

    def __init__(
        self, num_users: int, num_items: int, width: int, layers: int, generator: torch.Generator
    ) -> None:
        super().__init__()
        spread = math.sqrt(2 / (num_users + num_items))
        self.layers = layers
        self.users = nn.Parameter(torch.randn(num_users, width, generator=generator) * spread)
        self.items = nn.Parameter(torch.randn(num_items, width, generator=generator) * spread)

    def forward(self, graph: Tensor) -> tuple[Tensor, Tensor]:
        """Return (users_UE, items_IE): the mean over all layers and the embeddings."""
        layers = self.propagate(graph)
        mean_VE = torch.stack(layers).mean(0)
        return mean_VE[: len(self.users)], mean_VE[len(self.users) :]

    def propagate(self, graph: Tensor) -> list[Tensor]:
        """Return the node embeddings before and after every layer, each (V, E)."""
        found = [torch.cat([self.users, self.items])]
        for _ in range(self.layers):
            nodes_VE = _Propagate.apply(graph, found[-1])  # type: ignore[no-untyped-call]
            found.append(cast(Tensor, nodes_VE))
        return found


class _Propagate(torch.autograd.Function):
    """graph @ nodes; the graph is symmetric, so the gradient takes the same way."""

    @staticmethod
    def forward(ctx: Any, graph: Tensor, nodes_VE: Tensor) -> Tensor:
        ctx.graph = graph
        return graph @ nodes_VE

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[None, Tensor]:
        return None, ctx.graph @ gradients[0]


def bpr_loss(model: LightGCN, graph: Tensor, triples_B3: Tensor, *, penalty: float) -> Tensor:
    """Return mean -log sigmoid(positive - negative) plus the penalty on the embeddings drawn.

    `triples_B3` int64: user, item met, item drawn.
    """
    users_UE, items_IE = model(graph)
    user_B, met_B, drawn_B = triples_B3.unbind(1)
    lead_B = (users_UE[user_B] * (items_IE[met_B] - items_IE[drawn_B])).sum(1)
    own = (model.users[user_B], model.items[met_B], model.items[drawn_B])
    squares = torch.stack([one.square().sum() for one in own]).sum() / (2 * len(user_B))
    return -F.logsigmoid(lead_B).mean() + penalty * squares
