"""Users kept from the weights: at each of their positions the submodels meet somebody new.

Validation gives one case a user, and what differs between submodels is mostly noise; a router
needs many cases. Positions that the weights were trained on would flatter the large submodels.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from training.data.sequences import Sequences, gather
from training.data.split import EvalCases


def hold_out(num_users: int, share: float, seed: int) -> NDArray[np.bool_]:
    """Return held_U bool: about `share` of the users, drawn with `seed`; never all of them."""
    held = np.zeros(num_users, dtype=np.bool_)
    count = min(round(share * num_users), num_users - 1)
    if count > 0:
        held[np.random.default_rng((seed, 1)).permutation(num_users)[:count]] = True
    return held


def held_out_cases(
    training: Sequences, held_U: NDArray[np.bool_], *, most: int, seed: int
) -> EvalCases:
    """Return up to `most` positions of the held users' training sequences as cases.

    The later half of a sequence counts, since serving meets whole histories: a position there is
    drawn as likely as any other. Empty when nobody was held out.
    """
    lengths = training.lengths()
    first = np.maximum(1, lengths // 2)
    counts = np.where(held_U, np.maximum(lengths - first, 0), 0)
    users = np.repeat(np.arange(len(training)), counts)
    begins = np.concatenate([[0], np.cumsum(counts)[:-1]]) if len(counts) else counts
    places = np.arange(len(users)) - begins[users] + first[users]
    if len(users) > most:
        chosen = np.random.default_rng((seed, 2)).choice(len(users), most, replace=False)
        chosen.sort()
        users, places = users[chosen], places[chosen]
    starts = training.offsets[users]
    return EvalCases(
        histories=gather(training.items, starts, starts + places),
        targets=training.items[starts + places],
        users=users.astype(np.int64),
    )
