"""Deadlines end a wait as asyncio's own timeouts do, and cost one timer for all."""

from __future__ import annotations

import asyncio

import pytest

from service.deadlines import Deadlines

LONG = 30.0


async def test_a_wait_that_is_over_in_time_is_left_alone() -> None:
    deadlines = Deadlines()
    with deadlines.within(0.01):
        await asyncio.sleep(0)
    await asyncio.sleep(0.03)  # what was watched has ended, and nobody is cancelled


async def test_a_wait_that_is_too_long_ends_in_a_timeout() -> None:
    deadlines = Deadlines()
    with pytest.raises(TimeoutError), deadlines.within(0.01):
        await asyncio.sleep(LONG)
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


async def test_each_of_many_ends_at_its_own_time_whatever_the_order() -> None:
    deadlines = Deadlines()
    ended: list[float] = []

    async def wait(seconds: float) -> None:
        try:
            with deadlines.within(seconds):
                await asyncio.sleep(LONG)
        except TimeoutError:
            ended.append(seconds)

    asked = [0.09, 0.03, 0.06, 0.03]
    await asyncio.gather(*(wait(seconds) for seconds in asked))
    assert ended == sorted(asked)


async def test_a_cancellation_from_elsewhere_stays_one() -> None:
    deadlines = Deadlines()

    async def wait() -> None:
        with deadlines.within(LONG):
            await asyncio.sleep(LONG)

    task = asyncio.create_task(wait())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_both_at_once_is_a_cancellation() -> None:
    deadlines = Deadlines()

    async def wait() -> None:
        with deadlines.within(0.0):
            await asyncio.sleep(LONG)

    task = asyncio.create_task(wait())
    await asyncio.sleep(0)
    # The deadline passes in the same turn of the loop in which the caller gives up.
    task.cancel()
    deadlines_turn = asyncio.sleep(0.01)
    with pytest.raises(asyncio.CancelledError):
        await task
    await deadlines_turn


async def test_an_error_of_the_block_is_raised_as_it_is() -> None:
    deadlines = Deadlines()
    with pytest.raises(KeyError), deadlines.within(LONG):
        raise KeyError("its own")


async def test_one_timer_watches_over_many() -> None:
    loop = asyncio.get_running_loop()
    deadlines = Deadlines()
    set_at: list[float] = []
    call_at = loop.call_at

    def counted(when: float, *rest: object, **more: object) -> object:
        set_at.append(when)
        return call_at(when, *rest, **more)  # type: ignore[arg-type]

    loop.call_at = counted  # type: ignore[assignment, method-assign]
    for _ in range(100):
        with deadlines.within(LONG):
            pass
    assert len(set_at) == 1
