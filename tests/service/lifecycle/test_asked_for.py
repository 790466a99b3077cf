"""What an operator asks for: reload, roll back, pin, stop; and swaps that mix nothing."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from models.checkpoint import store
from service.engine.contract import Query
from service.lifecycle.contract import ReloadBusyError, ReloadRefusedError
from service.lifecycle.manager import CheckpointManager
from tests.service.lifecycle.tools import serving, spoil, until

if TYPE_CHECKING:
    from tests.service.lifecycle.conftest import Loads, Observed

    Publish = Callable[..., str]
    Make = Callable[..., CheckpointManager]


async def test_reloading_what_serves_changes_nothing(
    tmp_path: Path, publish: Publish, make: Make, loads: Loads, observed: Observed
) -> None:
    version = publish(tmp_path)
    manager = make(poll=60)
    await manager.start()
    assert (await manager.reload(None)).version == version
    assert (await manager.reload(version)).version == version
    assert len(loads.paths) == 1
    assert observed.results == ["loaded", "unchanged", "unchanged"]


async def test_a_version_asked_for_by_name_serves_until_current_changes(
    tmp_path: Path, publish: Publish, make: Make
) -> None:
    first, second = publish(tmp_path), publish(tmp_path, seed=1)
    manager = make()
    await manager.start()
    assert (await manager.reload(first)).version == first
    await asyncio.sleep(0.1)  # several polls
    assert serving(manager) == first
    assert store.current(tmp_path) == second
    third = publish(tmp_path, seed=2)
    await until(lambda: serving(manager) == third)


@pytest.mark.parametrize("version", ["../../etc", "", "20261121T041200Z-1a2b3c4d", "x" * 9999])
async def test_a_version_that_is_not_there_is_refused(
    tmp_path: Path, publish: Publish, make: Make, version: str
) -> None:
    first = publish(tmp_path)
    manager = make()
    await manager.start()
    with pytest.raises(ReloadRefusedError) as caught:
        await manager.reload(version)
    assert len(caught.value.reason) < 500
    assert str(tmp_path) not in caught.value.reason
    assert serving(manager) == first


async def test_only_one_reload_runs_at_a_time(
    tmp_path: Path, publish: Publish, make: Make, loads: Loads, observed: Observed
) -> None:
    first = publish(tmp_path)
    manager = make()
    await manager.start()
    second = publish(tmp_path, seed=1, make_current=False)
    loads.gate.clear()
    reload = asyncio.create_task(manager.reload(second))
    await until(lambda: len(loads.paths) == 2)
    with pytest.raises(ReloadBusyError):
        await manager.reload(None)
    with pytest.raises(ReloadBusyError):
        await manager.rollback()
    assert serving(manager) == first, "the old engine serves while the new one loads"
    loads.gate.set()
    assert (await reload).version == second
    assert observed.results == ["loaded", "busy", "busy", "loaded"]


async def test_a_caller_that_hangs_up_does_not_stop_its_reload(
    tmp_path: Path, publish: Publish, make: Make, loads: Loads
) -> None:
    publish(tmp_path)
    manager = make()
    await manager.start()
    second = publish(tmp_path, seed=1, make_current=False)
    loads.gate.clear()
    reload = asyncio.create_task(manager.reload(second))
    await until(lambda: len(loads.paths) == 2)
    reload.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reload
    loads.gate.set()
    await until(lambda: serving(manager) == second)


async def test_rollback_swaps_back_moves_current_and_stays(
    tmp_path: Path, publish: Publish, make: Make, loads: Loads, observed: Observed
) -> None:
    first = publish(tmp_path)
    manager = make()
    await manager.start()
    second = publish(tmp_path, seed=1)
    await until(lambda: serving(manager) == second)
    assert (await manager.rollback()).version == first
    assert store.current(tmp_path) == first
    await asyncio.sleep(0.1)  # several polls
    assert serving(manager) == first
    assert len(loads.paths) == 2, "the previous engine was still in memory"
    assert observed.loaded == [first, second, first]
    assert observed.results == ["loaded", "loaded", "rolled_back"]
    with pytest.raises(ReloadRefusedError, match="no earlier version"):
        await manager.rollback()
    store.set_current(tmp_path, second)
    await until(lambda: serving(manager) == second)


async def test_rollback_skips_a_version_that_was_refused(
    tmp_path: Path, publish: Publish, make: Make, observed: Observed
) -> None:
    first = publish(tmp_path)
    manager = make()
    await manager.start()
    bad = publish(tmp_path, seed=1, make_current=False)
    spoil(tmp_path, bad)
    store.set_current(tmp_path, bad)
    await until(lambda: "refused" in observed.results)
    third = publish(tmp_path, seed=2)
    await until(lambda: serving(manager) == third)
    assert (await manager.rollback()).version == first
    assert store.current(tmp_path) == first


async def test_rollback_works_after_a_restart_and_verifies(
    tmp_path: Path, publish: Publish, make: Make
) -> None:
    first, second = publish(tmp_path), publish(tmp_path, seed=1)
    manager = make()
    await manager.start()
    spoil(tmp_path, first, "golden.jsonl")
    with pytest.raises(ReloadRefusedError, match=r"golden\.jsonl"):
        await manager.rollback()
    assert (serving(manager), store.current(tmp_path)) == (second, second)
    spoil(tmp_path, first, "golden.jsonl")
    assert (await manager.rollback()).version == first
    assert store.current(tmp_path) == first


async def test_rollback_that_cannot_move_current_changes_nothing(
    tmp_path: Path, publish: Publish, make: Make
) -> None:
    publish(tmp_path)
    second = publish(tmp_path, seed=1)
    manager = make(poll=60)
    await manager.start()
    (tmp_path / ".lock").unlink()
    (tmp_path / ".lock").mkdir()
    with pytest.raises(ReloadRefusedError):
        await manager.rollback()
    assert (serving(manager), store.current(tmp_path)) == (second, second)


async def test_a_pinned_version_does_not_follow_current(
    tmp_path: Path, publish: Publish, make: Make
) -> None:
    first, second = publish(tmp_path), publish(tmp_path, seed=1)
    manager = make(pinned=first)
    await manager.start()
    await asyncio.sleep(0.05)
    assert serving(manager) == first
    await manager.reload(second)
    assert (await manager.rollback()).version == first
    assert store.current(tmp_path) == second, "a pinned service leaves CURRENT to the others"


async def test_stop_ends_a_load_in_progress_and_can_be_called_twice(
    tmp_path: Path, publish: Publish, make: Make, loads: Loads
) -> None:
    first = publish(tmp_path)
    manager = make()
    await manager.start()
    publish(tmp_path, seed=1)
    loads.gate.clear()
    reload = asyncio.create_task(manager.reload(None))
    await until(lambda: len(loads.paths) == 2)
    await manager.stop()
    await manager.stop()
    with pytest.raises((ReloadRefusedError, ReloadBusyError)):
        await reload
    loads.gate.set()
    assert serving(manager) == first
    with pytest.raises(ReloadBusyError):
        await manager.reload(None)


async def test_batches_never_mix_versions_while_engines_are_swapped(
    tmp_path: Path, publish: Publish, make: Make
) -> None:
    versions = {publish(tmp_path, seed=seed) for seed in range(3)}
    manager = make()
    await manager.start()
    seen: set[str] = set()
    mixed: list[set[str]] = []
    done = threading.Event()

    def serve() -> None:
        while not done.is_set():
            engine = manager.current()
            assert engine is not None
            rankings, _ = engine.recommend([Query(history=("a",))] * 4)
            answered = {ranking.model_version for ranking in rankings}
            if len(answered) != 1:
                mixed.append(answered)
            seen.update(answered)
            time.sleep(0)

    threads = [threading.Thread(target=serve) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        for version in sorted(versions) * 3:
            await manager.reload(version)
        await manager.rollback()
    finally:
        done.set()
        for thread in threads:
            thread.join()
    assert not mixed
    assert seen == versions
