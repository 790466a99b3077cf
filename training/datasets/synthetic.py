"""Made-up users whose difficulty is known, to check the router by.

Three hidden tiers: simple users follow their last item, medium ones switch topics between
sessions, and complex ones interleave threads, so that the next item depends on the last item
of its thread, several steps back. A shallow network can know the first, not the last.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from training.data.errors import DataError

TIERS = ("simple", "medium", "complex")
TIER_SHARES = (0.45, 0.35, 0.20)
# The chance that an action follows its predecessor. With the clear ones an item-after-item
# table alone reaches HR@10 of about 0.7 on simple users; with the realistic ones 0.1 to 0.3.
CLEAR_FOLLOW_RATES = (0.72, 0.55, 0.60)
REALISTIC_FOLLOW_RATES = (0.30, 0.22, 0.28)

_FOLLOWERS = 6
_STAY = 0.25  # how often a complex user stays with a thread
_MEDIAN_LENGTHS = (12.0, 25.0, 60.0)
_START = 1_704_067_200  # 2024-01-01T00:00:00Z
_YEAR = 366 * 86_400
_MINUTE, _DAY = 60.0, 86_400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class SyntheticConfig:
    """What to make.

    follow_rates: per tier, the chance that an action follows its predecessor.
    equal_lengths: all tiers get the medium tier's lengths, so that the length of a history
        tells nothing about its tier.
    """

    users: int = 6000
    items: int = 3000
    topics: int = 40
    seed: int = 0
    follow_rates: tuple[float, float, float] = CLEAR_FOLLOW_RATES
    equal_lengths: bool = False

    def __post_init__(self) -> None:
        """Refuse what cannot be made.

        Raises:
            DataError: a size out of range or a rate outside 0..1.
        """
        if not 1 <= self.users <= 10_000_000:
            raise DataError(f"users is {self.users}, 1 to 10,000,000 can be made")
        if not 6 <= self.topics <= 10_000:
            raise DataError(f"topics is {self.topics}, 6 to 10,000 can be made")
        if not 10 * self.topics <= self.items <= 10_000_000:
            raise DataError(f"items is {self.items}, at least 10 for each topic are needed")
        if len(self.follow_rates) != 3 or not all(0 <= rate <= 1 for rate in self.follow_rates):
            raise DataError(f"follow_rates is {self.follow_rates}, three shares in 0..1 are needed")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Synthetic:
    """Rows sorted by user, then time, and the hidden truth.

    users, items: (n,) int64 from 0. seconds: (n,) int64 Unix time. topics: (items,) int64.
    tiers: (users,) int64 places in TIERS. followers: (items, 6) int64, likeliest first.
    """

    users: NDArray[np.int64]
    items: NDArray[np.int64]
    seconds: NDArray[np.int64]
    topics: NDArray[np.int64]
    tiers: NDArray[np.int64]
    followers: NDArray[np.int64]


class _World:
    """Items, their topics, popularity, release and followers; draws items nobody has seen."""

    def __init__(self, config: SyntheticConfig, generator: np.random.Generator) -> None:
        count = config.items
        self.topics = np.arange(count) % config.topics
        generator.shuffle(self.topics)
        weights = np.arange(1, count + 1) ** -0.9
        generator.shuffle(weights)
        self.released = np.where(generator.random(count) < 0.3, generator.random(count), 0.0)
        self.members = [np.flatnonzero(self.topics == topic) for topic in range(config.topics)]
        self._sums = [np.cumsum(weights[members]) for members in self.members]
        self._all_sums = np.cumsum(weights)
        self.follow_sums = np.cumsum(0.6 ** np.arange(_FOLLOWERS))
        self.followers = np.empty((count, _FOLLOWERS), dtype=np.int64)
        for item in range(count):
            taken = {item}
            for place in range(_FOLLOWERS):
                inside = generator.random() < 0.9
                while True:
                    other = self._weighted(
                        int(self.topics[item]) if inside else None, generator.random()
                    )
                    if other not in taken:
                        break
                    inside = generator.random() < 0.9
                taken.add(other)
                self.followers[item, place] = other

    def _weighted(self, topic: int | None, chance: float) -> int:
        sums = self._all_sums if topic is None else self._sums[topic]
        place = min(int(np.searchsorted(sums, chance * sums[-1], "right")), len(sums) - 1)
        return place if topic is None else int(self.members[topic][place])

    def follower(
        self, item: int, seen: set[int], when: float, generator: np.random.Generator
    ) -> int | None:
        """Return an unseen, released follower of `item`, None when chance finds none."""
        for chance in generator.random(4):
            place = int(np.searchsorted(self.follow_sums, chance * self.follow_sums[-1], "right"))
            other = int(self.followers[item, min(place, _FOLLOWERS - 1)])
            if other not in seen and self.released[other] <= when:
                return other
        return None

    def fresh(
        self, topic: int, seen: set[int], when: float, generator: np.random.Generator
    ) -> int | None:
        """Return an unseen, released item, of `topic` if chance finds one."""
        for place, chance in enumerate(generator.random(16)):
            other = self._weighted(topic if place < 12 else None, float(chance))
            if other not in seen and self.released[other] <= when:
                return other
        return None


def generate(config: SyntheticConfig) -> Synthetic:
    """Return made-up interactions; the same config gives the same rows.

    Nobody meets an item twice, and nobody before its release (30 % of the items come out during
    the year). Items are drawn by a Zipf law with exponent 0.9.
    """
    generator = np.random.default_rng(config.seed)
    world = _World(config, generator)
    tiers = generator.choice(len(TIERS), size=config.users, p=TIER_SHARES)
    users: list[NDArray[np.int64]] = []
    items: list[int] = []
    seconds: list[NDArray[np.int64]] = []
    for user, tier in enumerate(tiers.tolist()):
        median = _MEDIAN_LENGTHS[1 if config.equal_lengths else tier]
        wanted = float(median * np.exp(0.6 * generator.standard_normal()))
        length = int(np.clip(round(wanted), 3, config.items // 4))
        sessions, times = _clock(length, generator)
        chosen = _actions(
            tier, config.follow_rates[tier], sessions, (times - _START) / _YEAR, world, generator
        )
        users.append(np.full(len(chosen), user, dtype=np.int64))
        items.extend(chosen)
        seconds.append(times[: len(chosen)].astype(np.int64))
    return Synthetic(
        users=np.concatenate(users),
        items=np.array(items, dtype=np.int64),
        seconds=np.concatenate(seconds),
        topics=world.topics,
        tiers=tiers,
        followers=world.followers,
    )


def write(data: Synthetic, directory: Path) -> tuple[Path, Path]:
    """Write interactions.parquet, items.parquet and, apart, tiers.parquet; return the first two.

    Ids are `u0000001` and `i000001`; tiers.parquet holds user_id and tier, and is an input of
    nothing but checks.
    """
    directory.mkdir(parents=True, exist_ok=True)
    interactions, items = directory / "interactions.parquet", directory / "items.parquet"
    user_ids = [f"u{user:07d}" for user in range(1, len(data.tiers) + 1)]
    item_ids = [f"i{item:06d}" for item in range(1, len(data.topics) + 1)]
    table = pa.table(
        {
            "user_id": pa.array(user_ids).take(pa.array(data.users)),
            "item_id": pa.array(item_ids).take(pa.array(data.items)),
            "timestamp": data.seconds,
        }
    )
    pq.write_table(table, interactions, compression="zstd")
    names = [f"topic {topic:02d}" for topic in data.topics.tolist()]
    titles = [
        f"Made-up item {item[1:]} ({name})" for item, name in zip(item_ids, names, strict=True)
    ]
    table = pa.table({"item_id": item_ids, "title": titles, "genres": [[name] for name in names]})
    pq.write_table(table, items, compression="zstd")
    table = pa.table({"user_id": user_ids, "tier": [TIERS[tier] for tier in data.tiers.tolist()]})
    pq.write_table(table, directory / "tiers.parquet", compression="zstd")
    return interactions, items


def _clock(
    length: int, generator: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return the session of each action and its Unix time, rising, inside the year."""
    sizes = 1 + generator.poisson(3, size=length)
    sessions = np.repeat(np.arange(length), sizes)[:length]
    gaps = generator.lognormal(np.log(4 * _MINUTE), 1.0, size=length)
    between = generator.lognormal(np.log(4 * _DAY), 1.0, size=length)
    gaps = np.where(np.diff(sessions, prepend=-1) > 0, between, gaps)
    gaps[0] = 0.0
    start = generator.uniform(0.0, 0.7) * _YEAR
    elapsed = np.cumsum(gaps)
    room = _YEAR - 1 - start
    if elapsed[-1] > room:
        elapsed *= room / elapsed[-1]
    return sessions, _START + start + elapsed


def _actions(
    tier: int,
    follow_rate: float,
    sessions: NDArray[np.int64],
    moments: NDArray[np.float64],
    world: _World,
    generator: np.random.Generator,
) -> list[int]:
    """Return the items of one user, fewer than asked only if nothing unseen can be drawn."""
    count = (1, int(generator.integers(2, 4)), int(generator.integers(4, 7)))[tier]
    threads = generator.choice(len(world.members), size=count, replace=False)
    last: list[int | None] = [None] * count
    seen: set[int] = set()
    chosen: list[int] = []
    thread, session = 0, -1
    for here, when in zip(sessions.tolist(), moments.tolist(), strict=True):
        if tier == 2:
            if generator.random() > _STAY:
                thread = int(generator.integers(count))
        elif here != session:
            thread = int(generator.integers(count))
            if generator.random() < 0.05:  # interests drift
                threads[thread] = generator.integers(len(world.members))
        session = here
        item: int | None = None
        # Simple and medium users follow what they saw last, complex ones the thread.
        before = last[thread] if tier == 2 else (chosen[-1] if chosen else None)
        if before is not None and generator.random() < follow_rate:
            item = world.follower(before, seen, when, generator)
        if item is None:
            item = world.fresh(int(threads[thread]), seen, when, generator)
        if item is None:
            break
        seen.add(item)
        last[thread] = item
        chosen.append(item)
    return chosen
