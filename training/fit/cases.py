"""Parts of evaluation cases."""

from __future__ import annotations

import numpy as np

from training.data.sequences import gather
from training.data.split import EvalCases


def sample_cases(cases: EvalCases, most: int, seed: int) -> EvalCases:
    """Return the cases, or `most` of them drawn with `seed` and kept in order."""
    if len(cases) <= most:
        return cases
    chosen = np.sort(np.random.default_rng(seed).choice(len(cases), most, replace=False))
    return cases_at(cases, chosen)


def cases_at(cases: EvalCases, chosen: np.ndarray[tuple[int], np.dtype[np.int64]]) -> EvalCases:
    """Return the chosen cases, in the order of `chosen`."""
    offsets = cases.histories.offsets
    return EvalCases(
        histories=gather(cases.histories.items, offsets[chosen], offsets[chosen + 1]),
        targets=cases.targets[chosen],
        users=cases.users[chosen],
    )
