"""Every next item of every sequence is predicted exactly once an epoch."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from training.fit.windows import batches, cut_windows

SEQUENCES = st.lists(st.integers(0, 30), min_size=1, max_size=12).filter(
    lambda lengths: max(lengths) >= 2
)


@settings(max_examples=60, deadline=None)
@given(lengths=SEQUENCES, max_length=st.integers(1, 9), tokens=st.integers(1, 64))
def test_every_next_item_is_predicted_once(
    lengths: list[int], max_length: int, tokens: int
) -> None:
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    items = np.arange(1, offsets[-1] + 1)  # distinct, so a pair names its place
    windows = cut_windows(offsets, items, max_length)
    expected = Counter(
        (user, int(items[place]), int(items[place + 1]))
        for user, (first, stop) in enumerate(pairwise(offsets.tolist()))
        for place in range(first, stop - 1)
    )
    seen: Counter[tuple[int, int, int]] = Counter()
    for batch in batches(windows, tokens, np.random.default_rng(0)):
        rows, width = batch.item_ids_BL.shape
        assert width <= max_length
        assert rows == 1 or rows * width <= tokens
        assert (batch.item_ids_BL > 0).equal(batch.targets_BL > 0)
        for row, user in enumerate(batch.users_B.tolist()):
            pairs = zip(
                batch.item_ids_BL[row].tolist(), batch.targets_BL[row].tolist(), strict=True
            )
            seen.update((user, item, target) for item, target in pairs if item)
    assert seen == expected
    assert windows.positions == expected.total()


def test_batches_depend_on_the_generator_alone() -> None:
    offsets = np.array([0, 5, 12, 30], dtype=np.int64)
    windows = cut_windows(offsets, np.arange(1, 31), 4)

    def order(seed: int) -> list[list[int]]:
        drawn = batches(windows, 8, np.random.default_rng(seed))
        return [batch.item_ids_BL.flatten().tolist() for batch in drawn]

    assert order(3) == order(3)
    assert order(3) != order(4)
