"""Users made on the spot: Zipf items, log-normal lengths, written where the service reads them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from service.store.contract import HistoryEntry
from service.store.redis_config import RedisConfig
from service.store.redis_history import RedisHistoryStore

_SPREAD = 1.0
_FIRST_MS = 1_700_000_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Histories:
    """`rows[i]` is what user `user_id(i)` did: table rows, oldest first, at least one."""

    rows: list[list[int]]
    description: str

    @property
    def user_ids(self) -> list[str]:
        """The users' ids, in the order of `rows`."""
        return [user_id(place) for place in range(len(self.rows))]

    @property
    def mean_length(self) -> float:
        """Items per user."""
        return sum(map(len, self.rows)) / len(self.rows)


def user_id(place: int) -> str:
    """Return the id of user number `place`."""
    return f"user-{place}"


def zipf_rows(rng: np.random.Generator, num_items: int, count: int) -> NDArray[np.int64]:
    """Return (count,) table rows 1..num_items, row r drawn in proportion to 1 / (r + 10)."""
    weights = 1.0 / (np.arange(1, num_items + 1) + 10.0)
    bounds = weights.cumsum()
    found = bounds.searchsorted(rng.random(count) * bounds[-1], side="right")
    rows: NDArray[np.int64] = np.minimum(found, num_items - 1).astype(np.int64) + 1
    return rows


def make_histories(
    *, users: int, items: int, length: int, most: int, fixed: bool = False, seed: int = 0
) -> Histories:
    """Return `users` histories; lengths are log-normal with median `length`, within 1..most.

    With `fixed` every history has exactly `length` items. ValueError when a number is below 1.
    """
    for name, value in (("users", users), ("items", items), ("length", length), ("most", most)):
        if value < 1:
            raise ValueError(f"{name} is {value}; it must be at least 1")
    rng = np.random.default_rng(seed)
    if fixed:
        lengths = np.full(users, length)
    else:
        drawn = np.exp(rng.normal(np.log(length), _SPREAD, users))
        lengths = np.clip(drawn.round(), 1, most).astype(np.int64)
    rows = zipf_rows(rng, items, int(lengths.sum()))
    stops = lengths.cumsum()
    return Histories(
        rows=[rows[stop - size : stop].tolist() for stop, size in zip(stops, lengths, strict=True)],
        description=f"{users:,} users, Zipf items, "
        + (
            f"{length} items each"
            if fixed
            else f"log-normal lengths (median {length}, mean {lengths.mean():.0f}, at most {most})"
        ),
    )


async def write_histories(redis_url: str, histories: Histories, external_ids: list[str]) -> None:
    """Replace every user's history in the store; `external_ids[r - 1]` names table row r."""
    store = RedisHistoryStore(
        RedisConfig(
            url=redis_url,
            op_timeout_seconds=10,
            write_timeout_seconds=10,
            connect_timeout_seconds=10,
        )
    )
    try:
        for place, rows in enumerate(histories.rows):
            entries = [
                HistoryEntry(external_id=external_ids[row - 1], timestamp_ms=_FIRST_MS + age)
                for age, row in enumerate(rows)
            ]
            await store.replace(user_id(place), entries)
    finally:
        await store.close()
