"""What serves when the wanted version cannot: older versions, rollbacks, promotions, notices."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from models.checkpoint import store
from models.checkpoint.errors import CheckpointError, Reason
from service.lifecycle.contract import ReloadRefusedError
from service.lifecycle.manager import CheckpointManager
from tests.service.lifecycle.tools import serving, spoil, trouble, until

if TYPE_CHECKING:
    from tests.service.lifecycle.conftest import Observed

    Publish = Callable[..., str]
    Make = Callable[..., CheckpointManager]


async def test_a_refused_current_at_start_falls_back_to_the_newest_sound_version(
    tmp_path: Path, publish: Publish, make: Make, observed: Observed
) -> None:
    first, second, third = (publish(tmp_path, seed=seed) for seed in range(3))
    sound = (tmp_path / third / "model.safetensors").read_bytes()
    spoil(tmp_path, second, "items.jsonl")
    spoil(tmp_path, third)
    manager = make()
    await manager.start()
    assert serving(manager) == first
    assert manager.fallback
    assert manager.problem is not None
    for part in (third, "model.safetensors", second, "items.jsonl", f"version {first} serves"):
        assert part in manager.problem
    assert observed.results == ["refused", "refused", "fallback"]
    assert observed.fallbacks[-1] is True
    assert store.current(tmp_path) == third, "a fallback leaves CURRENT alone"
    (tmp_path / third / "model.safetensors").write_bytes(sound)
    await until(lambda: serving(manager) == third)
    assert trouble(manager) is None
    assert observed.fallbacks[-1] is False


@pytest.mark.parametrize("content", [None, b"", b"../../etc/passwd\n"])
async def test_a_lost_current_falls_back_to_what_served_before(
    tmp_path: Path, publish: Publish, make: Make, content: bytes | None
) -> None:
    first, second = publish(tmp_path), publish(tmp_path, seed=1)
    never_served = publish(tmp_path, seed=2, make_current=False)
    if content is None:
        (tmp_path / "CURRENT").unlink()
    else:
        (tmp_path / "CURRENT").write_bytes(content)
    manager = make()
    await manager.start()
    assert serving(manager) == first, "HISTORY names it; nothing says that the others may serve"
    assert manager.fallback
    store.set_current(tmp_path, second)
    await until(lambda: serving(manager) == second)
    assert never_served != second
    assert manager.problem is None


async def test_current_that_vanishes_while_serving_is_told_and_changes_nothing(
    tmp_path: Path, publish: Publish, make: Make
) -> None:
    publish(tmp_path)
    second = publish(tmp_path, seed=1)
    manager = make()
    await manager.start()
    (tmp_path / "CURRENT").unlink()
    await until(lambda: manager.problem)
    assert (serving(manager), manager.fallback) == (second, True)
    (tmp_path / "CURRENT").write_text(f"{second}\n")
    await until(lambda: manager.problem is None)
    assert serving(manager) == second


async def test_rolling_back_from_a_fallback_makes_current_name_what_serves(
    tmp_path: Path, publish: Publish, make: Make
) -> None:
    first, second = publish(tmp_path), publish(tmp_path, seed=1)
    spoil(tmp_path, second)
    manager = make()
    await manager.start()
    assert serving(manager) == first
    assert (await manager.rollback()).version == first
    assert store.current(tmp_path) == first
    assert manager.problem is None


async def test_a_pinned_version_has_no_fallback(
    tmp_path: Path, publish: Publish, make: Make
) -> None:
    publish(tmp_path)
    second = publish(tmp_path, seed=1)
    spoil(tmp_path, second)
    manager = make(pinned=second)
    await manager.start()
    assert manager.current() is None


async def test_rollback_passes_over_damaged_versions_and_names_them(
    tmp_path: Path, publish: Publish, make: Make
) -> None:
    first, second, third = (publish(tmp_path, seed=seed) for seed in range(3))
    manager = make()
    await manager.start()
    spoil(tmp_path, second)
    assert (await manager.rollback()).version == first
    assert store.current(tmp_path) == first
    assert manager.problem is not None
    assert second in manager.problem
    assert third not in manager.problem
    assert not manager.fallback


async def test_rollback_does_not_move_current_to_a_version_that_was_damaged_on_disk(
    tmp_path: Path, publish: Publish, make: Make
) -> None:
    first, second = publish(tmp_path), publish(tmp_path, seed=1)
    manager = make()
    await manager.start()
    third = publish(tmp_path, seed=2)
    await until(lambda: serving(manager) == third)
    spoil(tmp_path, second)  # its engine is still in memory
    assert (await manager.rollback()).version == first
    assert store.current(tmp_path) == first


@pytest.mark.parametrize("reason", [Reason.NOT_WRITABLE, Reason.DISK_FULL])
async def test_where_current_cannot_be_written_a_rollback_serves_from_memory(
    tmp_path: Path, publish: Publish, make: Make, monkeypatch: pytest.MonkeyPatch, reason: Reason
) -> None:
    first, second = publish(tmp_path), publish(tmp_path, seed=1)
    manager = make()
    await manager.start()

    def refuse(*_: object, **__: object) -> str:
        raise CheckpointError(reason, "rolling back failed: Read-only file system")

    monkeypatch.setattr(store, "rollback", refuse)
    assert (await manager.rollback()).version == first
    await asyncio.sleep(0.1)  # several polls
    assert serving(manager) == first
    assert store.current(tmp_path) == second
    assert manager.problem is not None
    assert "from memory only" in manager.problem
    assert not manager.fallback
    third = publish(tmp_path, seed=2)
    await until(lambda: serving(manager) == third)
    assert manager.problem is None


async def test_promoting_serves_a_version_and_makes_current_name_it(
    tmp_path: Path, publish: Publish, make: Make, moves: list[str]
) -> None:
    first = publish(tmp_path)
    second = publish(tmp_path, seed=1, make_current=False)
    bad = publish(tmp_path, seed=2, make_current=False)
    spoil(tmp_path, bad)
    manager = make()
    await manager.start()
    with pytest.raises(ReloadRefusedError):
        await manager.promote(bad)
    assert (serving(manager), store.current(tmp_path), moves) == (first, first, [])
    assert (await manager.promote(second)).version == second
    assert (serving(manager), store.current(tmp_path), moves) == (second, second, [second])
    assert (await manager.rollback()).version == first
    assert moves == [second, first]


async def test_a_notice_is_faster_than_the_poll(
    tmp_path: Path, publish: Publish, make: Make
) -> None:
    publish(tmp_path)
    manager = make(poll=3600)
    await manager.start()
    second = publish(tmp_path, seed=1)
    manager.notice()
    await until(lambda: serving(manager) == second)
