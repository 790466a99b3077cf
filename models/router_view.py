"""What the router sees of histories: the items themselves, and how they follow one another."""

# B batch, W newest items read, C features

from __future__ import annotations

from models.arrays import Floats, Ids
from models.memory import TransitionMemory
from models.router import NEWEST, ROUTER_FEATURES, ItemView, Router, features
from models.surprise import SURPRISE_FEATURES, Surprise
from models.table.table import ItemTable


class RouterView:
    """The features of one router; all that can be had while there is none.

    A router that was taught without the memory's surprise is not shown it. `live` as in ItemView.
    """

    def __init__(
        self,
        table: ItemTable,
        memory: TransitionMemory | None,
        router: Router | None,
        *,
        max_length: int,
        live: bool,
    ) -> None:
        self._items = ItemView(table, memory, live=live)
        self._most = max_length
        self._surprise: Surprise | None = None
        if memory is not None and (router is None or router.hidden.in_features > ROUTER_FEATURES):
            self._surprise = Surprise(memory)
        self._room = SURPRISE_FEATURES if self._surprise is not None else 0

    @property
    def memory_flops(self) -> int:
        """The most FLOPs that reading the memory costs one history."""
        return self._surprise.flops(NEWEST) if self._surprise is not None else 0

    def __call__(self, recent_BW: Ids, lengths_B: Ids) -> Floats:
        """Return the features of histories, (B, C) float32; C is one of FEATURE_SETS.

        `recent_BW` int64: the NEWEST newest items, newest first, padded with 0; `lengths_B`
        int64 counts the items the network reads, 1..max_length.
        """
        seen_BC = features(self._items(recent_BW), lengths_B, self._most, room=self._room)
        if self._surprise is not None:
            self._surprise.write(recent_BW, seen_BC)
        return seen_BC
