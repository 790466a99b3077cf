"""A model is loaded by a thread of low priority, in short turns, without full collections."""

from __future__ import annotations

import asyncio
import gc
import os
import sys
import threading
from contextlib import suppress
from pathlib import Path

import pytest

from service.engine.contract import Engine
from service.lifecycle.loader import RefusalError
from service.lifecycle.manners import quietly
from service.lifecycle.watcher import Watcher
from service.lifecycle.workshop import Workshop
from tests.service.fakes import FakeEngine


def test_overlapping_loads_are_quiet_until_the_last_one_ends() -> None:
    turn, thresholds = sys.getswitchinterval(), gc.get_threshold()
    with quietly():
        with quietly():
            assert sys.getswitchinterval() < turn
            assert gc.get_threshold()[:2] == thresholds[:2]
            assert gc.get_threshold()[2] > 1000 * thresholds[2]
        assert sys.getswitchinterval() < turn
    assert (sys.getswitchinterval(), gc.get_threshold()) == (turn, thresholds)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a priority is the process's")
async def test_only_the_loading_thread_gives_way_and_only_to_those_who_are_served(
    tmp_path: Path,
) -> None:
    serving = threading.Event()
    seen: list[int] = []

    def niceness() -> int:
        return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())

    def load(path: Path) -> Engine:
        seen.append(niceness())
        return FakeEngine(path.name)

    workshop = Workshop(tmp_path, load, max_batch=4, retry_seconds=1, serving=serving.is_set)
    try:
        own = niceness()
        for _ in range(2):
            with suppress(RefusalError):  # there is nothing there: it does not matter here
                await workshop.load("20261121T041200Z-1a2b3c4d")
            serving.set()
        assert seen[0] == own < seen[1]
        assert niceness() == own
    finally:
        workshop.close()


async def test_a_watcher_outlives_whatever_its_looks_run_into() -> None:
    looks = 0
    third = asyncio.Event()

    async def look() -> None:
        nonlocal looks
        looks += 1
        if looks == 3:
            third.set()
        raise RuntimeError("nobody thought of this")

    watcher = Watcher(look, poll_seconds=0.01, what="thing")
    await watcher.start()
    await asyncio.wait_for(third.wait(), 30)
    await watcher.stop()
