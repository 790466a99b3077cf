"""The operator's blocklist in rows of one catalog."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from threading import Lock

import numpy as np

from models.catalog import Catalog
from service.engine.contract import Blocked
from service.engine.eligibility import Mask, Rows

# The list that holds, and the one before it, whose queries may still be under way.
_KEPT = 2


@dataclass(frozen=True, slots=True)
class BlockedRows:
    """`rows` ascending and distinct; `open_V` read-only, False at just these rows."""

    rows: Rows
    open_V: Mask


class BlockedIndex:
    """Finds the rows of a blocklist, once for each list.

    Safe to call from the event loop and the worker at once.
    """

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._found: OrderedDict[str, BlockedRows | None] = OrderedDict()
        self._lock = Lock()

    def rows(self, blocked: Blocked) -> BlockedRows | None:
        """Return the rows; None where the catalog has none of these items."""
        if not blocked.external_ids:
            return None
        with self._lock:
            if blocked.digest in self._found:
                return self._found[blocked.digest]
            found = self._found[blocked.digest] = self._find(blocked)
            if len(self._found) > _KEPT:
                self._found.popitem(last=False)
        return found

    def _find(self, blocked: Blocked) -> BlockedRows | None:
        known, _ = self._catalog.encode(blocked.external_ids)
        if not known:
            return None
        rows = np.unique(np.array(known, dtype=np.int64))
        open_V = np.ones(len(self._catalog) + 1, dtype=np.bool_)
        open_V[rows] = False
        open_V.setflags(write=False)
        return BlockedRows(rows, open_V)
