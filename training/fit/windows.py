"""Cut users' sequences into training windows and group them into batches of like length."""

# U users, W windows, B batch, L length

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Int64Array = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Windows:
    """Stretches of sequences: window w is `items[starts[w]:stops[w]]`, of user `users[w]`.

    A window of n items gives n - 1 training positions. Consecutive windows of a user overlap by
    one item, so that every next item is predicted exactly once an epoch. starts, stops and users
    are int64.
    """

    items: Int64Array
    starts: Int64Array
    stops: Int64Array
    users: Int64Array

    @property
    def positions(self) -> int:
        """Training positions of one epoch."""
        return int((self.stops - self.starts - 1).sum())

    def of_users(self, chosen_U: NDArray[np.bool_]) -> Windows:
        """Return the windows of the chosen users."""
        chosen = chosen_U[self.users]
        return replace(
            self, starts=self.starts[chosen], stops=self.stops[chosen], users=self.users[chosen]
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Inputs and targets, right-padded with 0: item_ids_BL, targets_BL int64; users_B int64."""

    item_ids_BL: Tensor
    targets_BL: Tensor
    users_B: Tensor


def cut_windows(offsets: Int64Array, items: Int64Array, max_length: int) -> Windows:
    """Cut every sequence of at least two items, newest stretch first, `max_length` inputs each."""
    starts: list[int] = []
    stops: list[int] = []
    users: list[int] = []
    for user, (first, last) in enumerate(pairwise(offsets.tolist())):
        stop = last
        while stop - first >= 2:
            start = max(first, stop - max_length - 1)
            starts.append(start)
            stops.append(stop)
            users.append(user)
            stop = start + 1
    return Windows(
        items=items,
        starts=np.asarray(starts, dtype=np.int64),
        stops=np.asarray(stops, dtype=np.int64),
        users=np.asarray(users, dtype=np.int64),
    )


def batches(
    windows: Windows, tokens_per_batch: int, generator: np.random.Generator
) -> Iterator[Batch]:
    """Yield every window once, shuffled, in batches of at most `tokens_per_batch` padded tokens.

    Windows are shuffled, sorted by length inside large pools, cut into batches, and the batches
    shuffled again: little padding, and no order by length.
    """
    order = generator.permutation(len(windows.starts))
    lengths = windows.stops - windows.starts - 1
    pool = 50 * max(1, tokens_per_batch // max(1, int(lengths.mean())))
    plans: list[Int64Array] = []
    for start in range(0, len(order), pool):
        chosen = order[start : start + pool]
        chosen = chosen[np.argsort(lengths[chosen], kind="stable")]
        begin = 0
        while begin < len(chosen):
            end = begin + 1
            while (
                end < len(chosen)
                and (end + 1 - begin) * int(lengths[chosen[end]]) <= tokens_per_batch
            ):
                end += 1
            plans.append(chosen[begin:end])
            begin = end
    for index in generator.permutation(len(plans)):
        yield _batch(windows, plans[index])


def _batch(windows: Windows, chosen: Int64Array) -> Batch:
    lengths = windows.stops[chosen] - windows.starts[chosen] - 1
    columns = np.arange(int(lengths.max()))
    inside = columns < lengths[:, None]
    places = np.where(inside, windows.starts[chosen][:, None] + columns, 0)
    item_ids = np.where(inside, windows.items[places], 0)
    targets = np.where(inside, windows.items[places + inside], 0)
    return Batch(
        item_ids_BL=torch.from_numpy(item_ids.astype(np.int64)),
        targets_BL=torch.from_numpy(targets.astype(np.int64)),
        users_B=torch.from_numpy(windows.users[chosen]),
    )
