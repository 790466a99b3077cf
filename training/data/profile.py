"""What kind of data this is, to choose presets by."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from training.data.interactions import Interactions

Kind = Literal["small", "session-like", "long-history"]

SMALL_ROWS = 250_000
SESSION_P95 = 30
REPEATS = 0.01


@dataclass(frozen=True, slots=True, kw_only=True)
class DataProfile:
    """Figures of one data set. Shares are in 0..1; lengths count interactions per user.

    `kind` is "session-like" when 95 % of users have at most 30 interactions; else "small" below
    250,000 interactions, else "long-history". `density` is rows over users times items.
    `top_item_share`: the share of interactions on the most popular 1 % of the items.
    """

    users: int
    items: int
    interactions: int
    mean_length: float
    median_length: float
    p95_length: float
    max_length: int
    density: float
    repeat_share: float
    top_item_share: float
    kind: Kind

    @property
    def exclude_seen(self) -> bool:
        """Whether a user's seen items should be filtered: only where (almost) nobody repeats.

        The limit is 1 % of the interactions.
        """
        return self.repeat_share <= REPEATS

    def summary(self) -> str:
        """Return the profile as lines for a person."""
        return "\n".join(
            (
                f"{self.kind} data: {self.interactions:,} interactions, {self.users:,} users, "
                f"{self.items:,} items, density {self.density:.3%}",
                f"length of a history: median {self.median_length:g}, mean {self.mean_length:.1f}, "
                f"95th percentile {self.p95_length:g}, longest {self.max_length:,}",
                f"repeats {self.repeat_share:.1%}; the top 1 % of the items draw "
                f"{self.top_item_share:.1%} of the interactions",
            )
        )


def profile(interactions: Interactions) -> DataProfile:
    """Return the figures of the data."""
    lengths = np.diff(interactions.offsets())
    counts = np.sort(np.bincount(interactions.item_codes, minlength=interactions.num_items))
    top = max(1, interactions.num_items // 100)
    rows, median = len(interactions), float(np.median(lengths))
    p95 = float(np.percentile(lengths, 95))
    kind: Kind = "long-history"
    if p95 <= SESSION_P95:
        kind = "session-like"
    elif rows < SMALL_ROWS:
        kind = "small"
    return DataProfile(
        users=interactions.num_users,
        items=interactions.num_items,
        interactions=rows,
        mean_length=float(lengths.mean()),
        median_length=median,
        p95_length=p95,
        max_length=int(lengths.max()),
        density=rows / (interactions.num_users * interactions.num_items),
        repeat_share=interactions.report.repeat_share,
        top_item_share=float(counts[-top:].sum() / rows),
        kind=kind,
    )
