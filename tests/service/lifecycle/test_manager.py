"""What is served follows CURRENT: what is good goes live, what is not never does."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from models.checkpoint import store
from service.engine.contract import Ranking
from service.lifecycle.contract import ReloadRefusedError
from service.lifecycle.manager import CheckpointManager
from tests.service.lifecycle.tools import serving, spoil, until

if TYPE_CHECKING:
    from tests.service.lifecycle.conftest import Loads, Observed

    Publish = Callable[..., str]
    Make = Callable[..., CheckpointManager]


async def test_start_loads_current(
    tmp_path: Path, publish: Publish, make: Make, observed: Observed
) -> None:
    version = publish(tmp_path)
    manager = make()
    assert manager.current() is None
    await manager.start()
    assert serving(manager) == version
    assert manager.problem is None
    assert observed.loaded == [version]
    assert observed.results == ["loaded"]


async def test_every_served_submodel_and_batch_size_is_warm_before_it_serves(
    tmp_path: Path, publish: Publish, make: Make, loads: Loads
) -> None:
    publish(tmp_path)
    await make().start()
    (engine,) = loads.engines
    for submodel in ("d1-w4-e4", "d2-w8-e4", None):
        assert {size for name, size in engine.batches if name == submodel} >= {1, 2, 4, 6}
    assert {1, engine.info.max_length} <= engine.lengths


async def test_a_new_current_is_noticed_and_swapped_in(
    tmp_path: Path, publish: Publish, make: Make, observed: Observed
) -> None:
    first = publish(tmp_path)
    manager = make()
    await manager.start()
    second = publish(tmp_path, seed=1)
    await until(lambda: serving(manager) == second)
    assert observed.loaded == [first, second]


async def test_without_a_checkpoint_it_starts_unready_and_keeps_looking(
    tmp_path: Path, publish: Publish, make: Make
) -> None:
    manager = make()
    await manager.start()
    assert manager.current() is None
    assert manager.problem is not None
    assert "no CURRENT" in manager.problem
    version = publish(tmp_path)
    await until(lambda: serving(manager) == version)
    assert manager.problem is None


@pytest.mark.parametrize("content", [b"", b"../../etc/passwd\n", b"20261121T041200Z-1a2b3c4d\n"])
async def test_a_damaged_or_dangling_current_leaves_it_unready_until_repaired(
    tmp_path: Path, publish: Publish, make: Make, content: bytes
) -> None:
    version = publish(tmp_path)
    (tmp_path / "CURRENT").write_bytes(content)
    manager = make()
    await manager.start()
    assert manager.current() is None
    assert manager.problem
    assert str(tmp_path) not in manager.problem
    store.set_current(tmp_path, version)
    await until(lambda: serving(manager) == version)


async def test_a_bad_checkpoint_is_refused_once_and_the_old_one_stays(
    tmp_path: Path, publish: Publish, make: Make, loads: Loads, observed: Observed
) -> None:
    first = publish(tmp_path)
    manager = make()
    await manager.start()
    second = publish(tmp_path, seed=1, make_current=False)
    sound = (tmp_path / second / "model.safetensors").read_bytes()
    spoil(tmp_path, second)
    store.set_current(tmp_path, second)
    await until(lambda: "refused" in observed.results)
    await asyncio.sleep(0.1)  # several polls
    assert len(loads.paths) == 2, "a refused version is not tried again as it stands"
    assert serving(manager) == first
    assert manager.problem is not None
    assert "model.safetensors" in manager.problem
    (tmp_path / second / "model.safetensors").write_bytes(sound)
    await until(lambda: serving(manager) == second)
    assert observed.results == ["loaded", "refused", "loaded"]


async def test_a_reload_tries_a_refused_version_again(
    tmp_path: Path, publish: Publish, make: Make, loads: Loads, observed: Observed
) -> None:
    publish(tmp_path)
    loads.error = RuntimeError("secret /srv/path")
    manager = make(poll=60)
    await manager.start()
    with pytest.raises(ReloadRefusedError) as caught:
        await manager.reload(None)
    assert "RuntimeError" in caught.value.reason
    assert "secret" not in caught.value.reason
    loads.error = None
    info = await manager.reload(None)
    assert serving(manager) == info.version
    assert observed.results == ["refused", "refused", "loaded"]


async def test_what_may_pass_by_itself_is_tried_again_after_a_while(
    tmp_path: Path, publish: Publish, make: Make, loads: Loads
) -> None:
    version = publish(tmp_path)
    loads.error = MemoryError()
    manager = make(retry=0.02)
    await manager.start()
    assert manager.current() is None
    loads.error = None
    await until(lambda: serving(manager) == version)


def wrong_id(ranking: Ranking) -> Ranking:
    return replace(ranking, items=(ranking.items[0]._replace(external_id="b"), *ranking.items[1:]))


def wrong_score(ranking: Ranking) -> Ranking:
    return replace(ranking, items=(ranking.items[0]._replace(score=99.0), *ranking.items[1:]))


def not_a_number(ranking: Ranking) -> Ranking:
    if len(ranking.items) < 3:
        return ranking
    return replace(ranking, items=(ranking.items[0]._replace(score=float("nan")),))


def raising(ranking: Ranking) -> Ranking:
    raise ZeroDivisionError


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (wrong_id, "golden query 1"),
        (wrong_score, "golden query 1"),
        (not_a_number, "not finite"),
        (raising, "ZeroDivisionError"),
    ],
)
async def test_an_engine_that_fails_its_trial_never_serves(
    tmp_path: Path,
    publish: Publish,
    make: Make,
    loads: Loads,
    change: Callable[[Ranking], Ranking],
    message: str,
) -> None:
    first = publish(tmp_path)
    manager = make(poll=60)
    await manager.start()
    publish(tmp_path, seed=1)
    loads.change = change
    with pytest.raises(ReloadRefusedError, match=message):
        await manager.reload(None)
    assert serving(manager) == first
