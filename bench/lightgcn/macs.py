"""Multiply-adds of LightGCN where zeros are never touched: what ideal sparse kernels would do.

A layer multiplies every number of a node's embedding once per edge. The embeddings that are
learned may be sparse; those after a layer are sums over neighbours and hardly are. Backwards the
gradient is dense, and only its last step, onto the embeddings themselves, can skip the dead.
"""

from __future__ import annotations

import torch
from torch import Tensor

from bench.lightgcn.model import LightGCN


@torch.no_grad()
def propagation(model: LightGCN, graph: Tensor) -> int:
    """Return the multiply-adds of one forward pass over the whole graph."""
    edges_V = graph.crow_indices().diff()
    return sum(
        int((edges_V * torch.count_nonzero(nodes_VE, 1)).sum())
        for nodes_VE in model.propagate(graph)[:-1]
    )


@torch.no_grad()
def training_step(model: LightGCN, graph: Tensor, *, living: Tensor | None) -> int:
    """Return the multiply-adds of one step's passes over the graph, forward and backward.

    `living` bool: which numbers of the nodes' embeddings (V, E) have a gradient that is used;
    None: all of them.
    """
    edges_V = graph.crow_indices().diff()
    width = model.users.shape[1]
    dense = int(edges_V.sum()) * width
    used_V = torch.full_like(edges_V, width) if living is None else living.sum(1)
    last = int((edges_V * used_V).sum()) if model.layers else 0
    return propagation(model, graph) + dense * max(0, model.layers - 1) + last
