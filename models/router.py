"""The router: from a history's cheap statistics to the quality each submodel would reach.

Serving picks `argmax_s quality_s - price * cost_s`: deterministic, and `price` is the one knob.
CANet's router reads an item table of its own and samples Gumbel noise at test time; this one
reads the leading columns of the shared table and a few numbers per item derived from it.
"""

# B batch, L length, V catalog rows with padding, G statistics per item, T table columns read,
# W newest items read, R hidden units, S submodels, C features

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.memory import TransitionMemory

TABLE_COLUMNS = 16
NEWEST = 10
ITEM_STATISTICS = 3
ROUTER_FEATURES = 5 + 2 * ITEM_STATISTICS + 2 * TABLE_COLUMNS


def item_statistics(table_VE: Tensor, memory: TransitionMemory | None) -> Tensor:
    """Return (V, 3 + 16) float32 per row: popularity rank, memory's mass and focus, table prefix.

    Rows stand by falling popularity, so the rank is the row. Tables narrower than 16 columns are
    padded with zeros. Derived from the checkpoint, not stored in it.
    """
    rows = len(table_VE)
    rank_V = torch.log1p(torch.arange(rows, dtype=torch.float32)) / math.log1p(rows)
    mass_V = torch.zeros(rows)
    focus_V = torch.zeros(rows)
    if memory is not None:
        counts = (memory.offsets[1:] - memory.offsets[:-1]).long()
        owners = torch.repeat_interleave(torch.arange(rows), counts)
        mass_V.index_add_(0, owners, memory.weights)
        heaviest_V = torch.zeros(rows).scatter_reduce_(0, owners, memory.weights, reduce="amax")
        focus_V = heaviest_V / mass_V.clamp(min=1e-6)
    prefix_VT = table_VE[:, :TABLE_COLUMNS].detach()
    prefix_VT = F.pad(prefix_VT, (0, TABLE_COLUMNS - prefix_VT.shape[1]))
    return torch.cat([torch.stack([rank_V, torch.log1p(mass_V), focus_V], 1), prefix_VT], 1)


def features(
    statistics_VG: Tensor, recent_BW: Tensor, lengths_B: Tensor, max_length: int
) -> Tensor:
    """Return the router's view of histories, (B, ROUTER_FEATURES) float32.

    `recent_BW` int64 holds the NEWEST newest items, newest first, 0 where there are fewer, at
    least one. The view: length, the newest item's statistics, the mean over the newest ten, how
    alike these are, and the newest item's and the mean table prefix. Depends on no other
    history of the batch.
    """
    present_BW1 = (recent_BW > 0).unsqueeze(2).to(torch.float32)
    count_B1 = present_BW1.sum(1)
    stats_BWG = statistics_VG[recent_BW] * present_BW1
    newest_BG = stats_BWG[:, 0]
    mean_BG = stats_BWG.sum(1) / count_B1
    spread_B = ((stats_BWG[:, :, 0] - mean_BG[:, :1]).square() * present_BW1[:, :, 0]).sum(1)
    prefix_BWT = stats_BWG[:, :, ITEM_STATISTICS:]
    mean_BT = mean_BG[:, ITEM_STATISTICS:]
    norms_B = prefix_BWT.norm(dim=2).sum(1) / count_B1[:, 0]
    lengths = lengths_B.to(torch.float32)
    columns = [
        torch.log1p(lengths) / math.log1p(max_length),
        lengths / max_length,
        (spread_B / count_B1[:, 0]).sqrt(),
        mean_BT.norm(dim=1) / norms_B.clamp(min=1e-6),
        F.cosine_similarity(newest_BG[:, ITEM_STATISTICS:], mean_BT, dim=1, eps=1e-6),
    ]
    return torch.cat([torch.stack(columns, 1), newest_BG, mean_BG], 1)


class Router(nn.Module):
    """One hidden layer on standardised features; output s predicts the quality of submodel s.

    Quality is the expected 1 / log2(1 + rank of the next item), in 0..1.
    """

    def __init__(self, *, features: int, hidden: int, num_submodels: int) -> None:
        super().__init__()
        self.register_buffer("feature_mean", torch.zeros(features))
        self.register_buffer("feature_scale", torch.ones(features))
        self.hidden = nn.Linear(features, hidden)
        self.output = nn.Linear(hidden, num_submodels)

    def forward(self, features_BC: Tensor) -> Tensor:
        """Return quality_BS, float32."""
        assert isinstance(self.feature_mean, Tensor)
        assert isinstance(self.feature_scale, Tensor)
        standard_BC = ((features_BC - self.feature_mean) / self.feature_scale).clamp(-5.0, 5.0)
        out: Tensor = self.output(torch.relu(self.hidden(standard_BC)))
        return out


def choose(
    quality_BS: Tensor, cost_BS: Tensor, price: float, allowed_BS: Tensor | None = None
) -> Tensor:
    """Return the chosen submodel per history, (B,) int64.

    Maximises quality minus price times cost; the first, cheapest one wins a tie. `cost_BS` is
    relative to the full network at full length. A row of `allowed_BS` (bool) that allows nothing
    gets submodel 0, the cheapest.
    """
    value_BS = quality_BS - price * cost_BS
    if allowed_BS is not None:
        value_BS = value_BS.masked_fill(~allowed_BS, -torch.inf)
    best_B1 = value_BS.max(dim=1, keepdim=True).values
    return (value_BS >= best_B1).to(torch.int8).argmax(dim=1)
