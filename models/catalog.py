"""The line between external ids, which callers use, and item ids, which are table rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast

Attributes = Mapping[str, Any]

PADDING = 0


class Catalog:
    """The recommendable items: `external_ids[i]` lives in table row `i + 1`; row 0 is padding.

    Rows are ordered by falling popularity. Attributes (title, genres, ...) are optional; their
    values are strings, numbers, booleans or lists of strings.
    """

    __slots__ = ("_attributes", "_external_ids", "_rows")

    def __init__(
        self,
        external_ids: Iterable[str],
        attributes: Sequence[Attributes] | None = None,
    ) -> None:
        self._external_ids = tuple(external_ids)
        self._rows = {external: row for row, external in enumerate(self._external_ids, start=1)}
        if len(self._rows) != len(self._external_ids):
            twice = Counter(self._external_ids).most_common(1)[0][0]
            raise ValueError(f"external id {twice!r} stands twice in the catalog")
        if attributes is not None and len(attributes) != len(self._external_ids):
            raise ValueError(
                f"{len(attributes)} attribute rows for {len(self._external_ids)} items"
            )
        self._attributes = tuple(attributes) if attributes is not None else None

    def __len__(self) -> int:
        return len(self._external_ids)

    def __contains__(self, external_id: object) -> bool:
        return external_id in self._rows

    @property
    def external_ids(self) -> tuple[str, ...]:
        """External ids in row order, starting with row 1."""
        return self._external_ids

    @property
    def attributes(self) -> tuple[Attributes, ...] | None:
        """Attributes in row order, starting with row 1; None when the source had none."""
        return self._attributes

    def item_id(self, external_id: str) -> int | None:
        """Return the table row of `external_id`, None when it is unknown."""
        return self._rows.get(external_id)

    def external_id(self, item_id: int) -> str:
        """Return the external id of row `item_id`; IndexError outside 1..len(self)."""
        if not 1 <= item_id <= len(self._external_ids):
            raise IndexError(f"item id {item_id} is outside 1..{len(self._external_ids)}")
        return self._external_ids[item_id - 1]

    def attributes_of(self, item_id: int) -> Attributes:
        """Return the attributes of row `item_id`; empty when the source had none."""
        return self._attributes[item_id - 1] if self._attributes is not None else {}

    def encode(self, external_ids: Iterable[str]) -> tuple[list[int], list[str]]:
        """Return (known item ids in order, unknown external ids in order)."""
        wanted = tuple(external_ids)
        rows = list(map(self._rows.get, wanted))
        if None not in rows:
            return cast("list[int]", rows), []
        known = [row for row in rows if row is not None]
        return known, [external for external, row in zip(wanted, rows, strict=True) if row is None]
