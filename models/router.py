"""The router: from a history's cheap statistics to the quality each submodel would reach.

Serving picks `argmax_s quality_s - price * cost_s`: deterministic, and `price` is the one knob.
CANet's router reads an item table of its own and samples Gumbel noise at test time; this one
reads the leading columns of the shared table and a few numbers per item derived from it.
"""

# B batch, L length, V catalog rows with padding, G numbers seen of an item, T table columns read,
# W newest items read, R hidden units, S submodels, C features

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from models.memory import TransitionMemory
from models.surprise import SURPRISE_FEATURES
from models.table.lookup import RowLookup
from models.table.table import ItemTable

Floats = NDArray[np.float32]
Ids = NDArray[np.int64]

TABLE_COLUMNS = 16
NEWEST = 10
ITEM_STATISTICS = 3
FEATURE_LIMIT = 5.0
_TINY = 1e-6
ROUTER_FEATURES = 5 + 2 * ITEM_STATISTICS + 2 * TABLE_COLUMNS
TABLE_FEATURES = (
    *(3, 4),
    *range(5 + ITEM_STATISTICS, 5 + ITEM_STATISTICS + TABLE_COLUMNS),
    *range(ROUTER_FEATURES - TABLE_COLUMNS, ROUTER_FEATURES),
)
"""The features that depend on the item table: see `features`."""
FEATURE_SETS = (ROUTER_FEATURES, ROUTER_FEATURES + SURPRISE_FEATURES)
"""How many features a router may read: its width says which. The second needs a memory."""


def item_statistics(rows: int, memory: TransitionMemory | None) -> Tensor:
    """Return (V, 3) float32 of `rows` items: popularity rank, the memory's mass and its focus.

    Rows stand by falling popularity, so the rank is the row. Derived from the checkpoint, not
    stored in it. Padding's row is zero.
    """
    rank_V = torch.log1p(torch.arange(rows, dtype=torch.float32)) / math.log1p(rows)
    mass_V = torch.zeros(rows)
    focus_V = torch.zeros(rows)
    if memory is not None:
        counts = (memory.offsets[1:] - memory.offsets[:-1]).long()
        owners = torch.repeat_interleave(torch.arange(rows), counts)
        mass_V.index_add_(0, owners, memory.weights)
        heaviest_V = torch.zeros(rows).scatter_reduce_(0, owners, memory.weights, reduce="amax")
        focus_V = heaviest_V / mass_V.clamp(min=1e-6)
    statistics_VS = torch.stack([rank_V, torch.log1p(mass_V), focus_V], 1)
    statistics_VS[0] = 0.0
    return statistics_VS


class ItemView:
    """What the router sees of items: calling it with int64 ids gives (*ids.shape, 3 + 16) float32.

    Their statistics and the leading columns of their embeddings; tables narrower than 16 columns
    are padded with zeros. Of a table that is stored whole the columns are copied, so that one
    lookup finds all; from one in blocks, made to be small, or with `live`, they are looked up in
    the table as it is then.
    """

    def __init__(
        self, table: ItemTable, memory: TransitionMemory | None, *, live: bool = False
    ) -> None:
        self._statistics = item_statistics(len(table), memory).numpy()
        self._look_up: RowLookup | None = None
        if live or not table.is_dense:
            self._look_up = RowLookup(table)
            return
        prefix_VT = table.dense()[1:, :TABLE_COLUMNS]
        prefix_VT = F.pad(prefix_VT, (0, TABLE_COLUMNS - prefix_VT.shape[1], 1, 0))
        self._statistics = np.concatenate([self._statistics, prefix_VT.numpy()], axis=1)

    @property
    def num_bytes(self) -> int:
        """Bytes held beside the table."""
        return self._statistics.nbytes

    def __call__(self, ids: Ids) -> Floats:
        """Return what is seen of `ids`; of padding, zeros."""
        known = self._statistics.take(ids, axis=0)
        if self._look_up is None:
            return known
        seen: Floats = np.zeros((*ids.shape, ITEM_STATISTICS + TABLE_COLUMNS), dtype=np.float32)
        seen[..., :ITEM_STATISTICS] = known
        prefix = self._look_up(ids)[..., :TABLE_COLUMNS]
        seen[..., ITEM_STATISTICS : ITEM_STATISTICS + prefix.shape[-1]] = prefix
        seen[ids == 0] = 0.0
        return seen


def features(stats_BWG: Floats, lengths_B: Ids, max_length: int, *, room: int = 0) -> Floats:
    """Return the router's view of histories, (B, ROUTER_FEATURES + room) float32.

    `stats_BWG` is what an `ItemView` sees of the NEWEST newest items, newest first, zeros where
    there are fewer; `lengths_B` int64 counts the items the network reads, at least one. The view:
    length, the newest item's statistics, the mean over the newest ten, how alike these are, and the
    newest item's and the mean table prefix. Depends on no other history of the batch. The last
    `room` columns are left to the caller.
    """
    from models.kernels import routing

    out_BC = np.empty((len(lengths_B), ROUTER_FEATURES + room), dtype=np.float32)
    routing.features(stats_BWG, lengths_B, max_length, ITEM_STATISTICS, _TINY, out_BC)
    return out_BC


class Router(nn.Module):
    """One hidden layer on standardised features; output s predicts the quality of submodel s.

    Quality is the expected 1 / log2(1 + rank of the next item), in 0..1. It reads ROUTER_FEATURES
    features, or SURPRISE_FEATURES more, those of the memory's surprise (`FEATURE_SETS`).
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
        standard_BC = ((features_BC - self.feature_mean) / self.feature_scale).clamp(
            -FEATURE_LIMIT, FEATURE_LIMIT
        )
        out: Tensor = self.output(torch.relu(self.hidden(standard_BC)))
        return out


class RouterForward:
    """A router's forward pass on plain arrays: equal to the module's, without its overhead.

    The weights are the module's own memory. A history's quality depends on no other of the batch.
    """

    def __init__(self, router: Router) -> None:
        from models.kernels import routing

        self._kernel = routing.forward
        arrays = {name: tensor.numpy() for name, tensor in router.state_dict().items()}
        self._weights = tuple(
            arrays[name]
            for name in (
                *("feature_mean", "feature_scale"),
                *("hidden.weight", "hidden.bias", "output.weight", "output.bias"),
            )
        )
        self._submodels = len(arrays["output.bias"])

    def __call__(self, features_BC: Floats) -> Floats:
        """Return quality_BS, float32."""
        quality_BS: Floats = np.empty((len(features_BC), self._submodels), dtype=np.float32)
        self._kernel(features_BC, *self._weights, FEATURE_LIMIT, quality_BS)
        return quality_BS


def choose_places(
    quality_BS: NDArray[np.floating],
    cost_BS: NDArray[np.floating],
    price: float,
    allowed_BS: NDArray[np.bool_] | None = None,
) -> Ids:
    """Return the chosen submodel per history, (B,) int64.

    Maximises quality minus price times cost; the first, cheapest one wins a tie. `cost_BS` is
    relative to the full network at full length. A row of `allowed_BS` that allows nothing gets
    submodel 0, the cheapest.
    """
    value_BS = quality_BS - cost_BS * cost_BS.dtype.type(price)
    if allowed_BS is not None:
        value_BS[~allowed_BS] = -np.inf
    places: Ids = value_BS.argmax(axis=1)
    return places
