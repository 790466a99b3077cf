"""Events keep their order of arrival whatever becomes of the wall clock."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from service.clock import EventClock

DAY_MS = 86_400_000


@given(st.lists(st.integers(0, 4 * DAY_MS), min_size=1))
def test_every_moment_is_later_than_the_one_before_and_never_behind_the_wall(
    walls: list[int],
) -> None:
    times = iter(walls)
    clock = EventClock(lambda: next(times) * 1_000_000)
    moments = [clock() for _ in walls]
    assert all(one < another for one, another in itertools.pairwise(moments))
    assert all(moment >= wall for moment, wall in zip(moments, walls, strict=True))


def test_it_is_the_wall_clock_again_once_that_has_caught_up() -> None:
    times = iter([5_000, 1_000, 1_000, 5_001, 5_002, 9_000])
    clock = EventClock(lambda: next(times) * 1_000_000)
    assert [clock() for _ in range(6)] == [5_000, 5_001, 5_002, 5_003, 5_004, 9_000]
