"""A model is loaded by a thread of low priority, in short turns, without full collections."""

from __future__ import annotations

import asyncio
import gc
import os
import sys
import threading
from pathlib import Path

import pytest

from service.lifecycle.manners import quietly
from service.lifecycle.watcher import Watcher
from service.lifecycle.workshop import Workshop
from tests.service.lifecycle.conftest import Loads


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
async def test_only_the_loading_thread_gives_way(tmp_path: Path, loads: Loads) -> None:
    workshop = Workshop(tmp_path, loads, max_batch=4, retry_seconds=1)

    def niceness() -> int:
        return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())

    try:
        own = niceness()
        assert await workshop.run(niceness) > own
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
