"""Where a stack of dilated convolutions is computed for one output."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from models.backbone.nextitnet.reach import block_dilations, reach

dilations = st.lists(st.integers(1, 6), min_size=1, max_size=5).map(tuple)


def test_one_block_reads_seven_items() -> None:
    found = reach((1,), 20)
    assert found.offsets_N.tolist() == list(range(7))
    # The first convolution gives what the second reads: offsets 0, 2 and 4.
    assert found.counts.tolist() == [3, 1]
    assert found.taps_M3.tolist() == [[0, 1, 2], [2, 3, 4], [4, 5, 6], [0, 1, 2]]
    assert found.kept.tolist() == [0]


def test_the_published_pattern_repeats() -> None:
    assert block_dilations((1, 4), 4) == (1, 4, 1, 4)
    found = reach((1, 4, 1, 4), 500)
    assert found.offsets_N.tolist() == list(range(61))
    assert found.counts[-2:].tolist() == [3, 1]


@given(dilations=dilations, length=st.integers(1, 60))
def test_exactly_what_reaches_the_newest_output_is_computed(
    dilations: tuple[int, ...], length: int
) -> None:
    found = reach(dilations, length)
    steps = [step for dilation in dilations for step in (dilation, 2 * dilation)]
    computed = [{0}]
    for step in reversed(steps):
        needed = {offset + tap * step for offset in computed[0] for tap in range(3)}
        computed.insert(0, {offset for offset in needed if offset < length})
    assert found.offsets_N.tolist() == sorted(computed[0])
    assert found.counts.tolist() == [len(one) for one in computed[1:]]
    assert found.counts.sum() == len(found.taps_M3) == len(found.behind_M3)
    # A tap names the place of its offset among the positions of the layer before.
    ends = np.cumsum(found.counts)
    for layer, end in enumerate(ends):
        before = np.array(sorted(computed[layer]))
        rows = slice(end - found.counts[layer], end)
        inside = found.behind_M3[rows] < length
        assert (before[found.taps_M3[rows]] == found.behind_M3[rows])[inside].all()
    outputs = [sorted(computed[2 * block + 2]) for block in range(len(dilations))]
    assert found.kept_counts.tolist() == [len(one) for one in outputs]
    kept = np.split(found.kept, np.cumsum(found.kept_counts)[:-1])
    for block, places in enumerate(kept):
        assert np.array(sorted(computed[2 * block]))[places].tolist() == outputs[block]
