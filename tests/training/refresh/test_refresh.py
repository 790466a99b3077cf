"""Whole refreshes over a real store: published, unchanged, refused, excluded, pruned, told."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.request import urlopen

import pytest
import redis
import torch
from prometheus_client import CollectorRegistry

from models.checkpoint.contents import Checkpoint
from models.checkpoint.read import read_checkpoint
from models.checkpoint.store import current, list_versions, rollback_target
from models.events import KEY_PREFIX, active_model_key
from tests.training.refresh.world import one_epoch, send, walks, write_csv
from training.data.errors import DataError
from training.pipeline import Trained, build, publish_trained
from training.progress import Silent
from training.refresh.errors import BusyError, RefreshError, RefusedError, StoppedError
from training.refresh.exposition import exposed
from training.refresh.gate import Gate, Live, measure_live
from training.refresh.loop import keep_refreshing
from training.refresh.metrics import RefreshMetrics, write_textfile
from training.refresh.refresh import Refreshed, RefreshRequest, Source, refresh

LENIENT = Gate(tolerance=1.0, min_saved=-1.0, max_saved=1.0)


@dataclass(frozen=True)
class World:
    request: RefreshRequest
    metrics: RefreshMetrics

    @property
    def root(self) -> Path:
        return self.request.plan.out

    def refresh(self, **changes: object) -> Refreshed:
        changed = replace(self.request, **changes)  # type: ignore[arg-type]
        return refresh(changed, self.metrics, Silent())

    def metric(self, name: str, **labels: str) -> float | None:
        return self.metrics.registry.get_sample_value(f"canet_trainer_{name}", labels)


@pytest.fixture
def world(redis_url: str, tmp_path: Path) -> Iterator[World]:
    before = torch.get_num_threads()
    data = write_csv(tmp_path / "data.csv", walks([f"u{n}" for n in range(40)], items=40))
    plan = one_epoch(tmp_path / "models")
    request = RefreshRequest(
        plan=plan,
        dataset=tmp_path / "dataset",
        redis_url=redis_url,
        source=Source(data=data),
        gate=LENIENT,
        keep=1,
    )
    yield World(request=request, metrics=RefreshMetrics(CollectorRegistry()))
    torch.set_num_threads(before)
    # Training flushes denormals for the process, which other tests' floats do not expect.
    torch.set_flush_denormal(False)


def test_before_the_first_event_the_bootstraps_model_stays_and_nothing_failed(
    world: World, tmp_path: Path
) -> None:
    world.refresh()  # what the bootstrap leaves: a model, and no data that the trainer could read
    nowhere = Source(data=tmp_path / "absent.csv", optional=True)
    fresh = {"source": nowhere, "dataset": tmp_path / "fresh"}
    before = current(world.root)
    assert world.refresh(**fresh).model is None
    assert current(world.root) == before
    assert world.metric("last_run_ok") == 1
    with pytest.raises(DataError, match="nothing to learn"):
        world.refresh(**fresh, plan=replace(world.request.plan, out=tmp_path / "no-models"))
    assert world.metric("last_run_ok") == 0


def test_a_model_lives_on_with_new_users_and_items_and_is_told_of(
    world: World, tmp_path: Path
) -> None:
    items = tmp_path / "items.csv"
    items.write_text("item_id,genre\n" + "".join(f"i{n},g{n % 3}\n" for n in range(40)))
    first = world.refresh(plan=replace(world.request.plan, items=items))
    assert first.model is not None
    assert first.live is None
    assert current(world.root) == first.model.version
    assert world.refresh().model is None, "nothing is new"
    assert world.metric("runs_total", result="unchanged") == 1

    sent = walks([f"v{n}" for n in range(20)], items=45, seed=1)
    send(world.request.redis_url, sent)
    with redis.Redis.from_url(world.request.redis_url) as client:
        listener = client.pubsub(ignore_subscribe_messages=True)
        listener.subscribe(active_model_key(KEY_PREFIX))
        second = world.refresh()
        assert second.model is not None
        message = None
        while message is None:
            message = listener.get_message(timeout=10)
        listener.close()
        told = json.loads(message["data"])
        assert told["version"] == second.model.version == current(world.root)
        stored = client.get(active_model_key(KEY_PREFIX))
        assert isinstance(stored, bytes)
        assert json.loads(stored) == told
    checkpoint = read_checkpoint(second.model.path)
    assert checkpoint.manifest.parent == first.model.version
    assert checkpoint.manifest.training["warm"] is True
    row = checkpoint.catalog.item_id("i44")
    assert row is not None
    assert checkpoint.catalog.attributes_of(row) == {}
    known = checkpoint.catalog.item_id("i4")
    assert known is not None
    assert checkpoint.catalog.attributes_of(known) == {"genres": ["g1"]}, "handed on"
    assert second.live is not None
    assert second.live.version == first.model.version
    assert world.metric("drained_total", kind="event") == len(sent)
    assert world.metric("runs_total", result="published") == 2
    assert world.metric("ndcg_10", model="live") == second.live.ndcg_10
    assert (world.metric("last_success_timestamp_seconds") or 0) > 1.7e9

    third = world.refresh(always=True)
    assert third.model is not None
    # One is kept, and what CURRENT can roll back to.
    assert list_versions(world.root) == [second.model.version, third.model.version]
    assert third.pruned == (first.model.version,)
    assert rollback_target(world.root) == second.model.version

    refused_with = replace(LENIENT, min_saved=0.9999)
    with pytest.raises(RefusedError, match="outside") as caught:
        world.refresh(always=True, gate=refused_with)
    assert caught.value.reason == "savings"
    assert world.metric("refused_total", reason="savings") == 1
    assert current(world.root) == third.model.version
    assert len(list_versions(world.root)) == 2
    assert not list(world.root.glob(".t*")), "nothing half-made is left"


def test_a_model_that_is_worse_than_the_live_one_is_refused_and_counted(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = world.refresh()
    assert first.model is not None

    def better(live: Checkpoint, *args: object, **options: object) -> Live | None:
        measured = measure_live(live, *args, **options)  # type: ignore[arg-type]
        assert measured is not None
        return replace(measured, ndcg_10=1.0)

    # How well a model does cannot be arranged; that a better one lives, can.
    monkeypatch.setattr("training.refresh.refresh.measure_live", better)
    with pytest.raises(RefusedError, match=r"more than 1.0% lower") as caught:
        world.refresh(always=True, gate=Gate(min_saved=-1.0, max_saved=1.0))
    assert caught.value.reason == "accuracy"
    assert world.metric("refused_total", reason="accuracy") == 1
    assert world.metric("runs_total", result="refused") == 1
    assert world.metric("ndcg_10", model="live") == 1.0
    assert world.metric("last_run_ok") == 1, "a refusal is no failure"
    assert current(world.root) == first.model.version
    assert list_versions(world.root) == [first.model.version]


def test_one_at_a_time(world: World) -> None:
    with redis.Redis.from_url(world.request.redis_url) as client:
        client.set("canet:1:trainer:lock", "7:other", px=60_000)
        with pytest.raises(BusyError, match="another refresh is running"):
            world.refresh()
        assert client.get("canet:1:trainer:lock") == b"7:other"
    assert world.metric("runs_total", result="busy") == 1
    assert not world.root.exists()


def test_a_lease_lost_while_training_publishes_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:

    def taken_over(*args: object, **options: object) -> str:
        version = publish_trained(*args, **options)  # type: ignore[arg-type]
        with redis.Redis.from_url(world.request.redis_url) as client:
            client.set("canet:1:trainer:lock", "99:other")
        return version

    monkeypatch.setattr("training.refresh.refresh.publish_trained", taken_over)
    with pytest.raises(RefreshError, match="lock was lost"):
        world.refresh()
    assert world.metric("runs_total", result="lost_lease") == 1
    assert current(world.root) is None
    assert list_versions(world.root) == []


def test_a_second_run_during_the_first_is_excluded_at_every_step(world: World) -> None:
    told: list[str] = []

    def meanwhile() -> bool:
        with pytest.raises(BusyError, match="another refresh is running") as caught:
            refresh(world.request, RefreshMetrics(CollectorRegistry()), Silent())
        told.append(str(caught.value))
        return False

    found = refresh(world.request, world.metrics, Silent(), meanwhile)
    assert found.model is not None
    assert current(world.root) == found.model.version
    assert list_versions(world.root) == [found.model.version]
    assert len(told) > 3


def test_a_lock_taken_over_while_the_model_trains_ends_the_run(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = world.refresh()
    assert first.model is not None

    def slept(*args: object, **options: object) -> Trained:
        # As after a sleep longer than the lease: the lock ran out, and another run has it.
        with redis.Redis.from_url(world.request.redis_url) as client:
            client.set("canet:1:trainer:lock", "99:other")
        return build(*args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr("training.refresh.refresh.build", slept)
    with pytest.raises(RefreshError, match=r"lock was lost|stopped"):
        world.refresh(always=True, lease_seconds=0.6)
    assert world.metric("runs_total", result="lost_lease") == 1
    assert current(world.root) == first.model.version
    assert list_versions(world.root) == [first.model.version]
    with redis.Redis.from_url(world.request.redis_url) as client:
        assert client.get("canet:1:trainer:lock") == b"99:other", "the other's lock is let be"


def test_asked_to_stop_it_keeps_what_it_drained(world: World) -> None:
    send(world.request.redis_url, walks(["v"]))
    asked = iter([False] * 3)
    with pytest.raises(StoppedError):
        refresh(world.request, world.metrics, Silent(), lambda: next(asked, True))
    assert current(world.root) is None
    assert world.metric("last_run_ok") == 1


def test_no_file_and_no_events_is_wrong_data(world: World, tmp_path: Path) -> None:
    missing = Source(data=tmp_path / "absent.csv")
    with pytest.raises(DataError, match="does not exist"):
        world.refresh(source=missing)
    with pytest.raises(DataError, match="nothing to learn"):
        world.refresh(source=replace(missing, optional=True))
    assert world.metric("runs_total", result="failed") == 2
    assert world.metric("last_run_ok") == 0


def test_redis_away_is_said_without_its_password(world: World) -> None:
    with pytest.raises(RefreshError, match="Redis failed") as caught:
        world.refresh(redis_url="redis://:secret-word@127.0.0.1:1/0")
    assert "secret-word" not in str(caught.value)


def test_the_loop_goes_on_after_failures_and_ends_when_asked(world: World, tmp_path: Path) -> None:
    failing = replace(world.request, source=Source(data=tmp_path / "absent.csv"))
    ended: list[Refreshed | None] = []
    keep_refreshing(failing, 0.01, world.metrics, Silent(), lambda: len(ended) >= 3, ended.append)
    assert ended == [None] * 3
    assert world.metric("runs_total", result="failed") == 3


def test_metrics_are_served_and_written(world: World, tmp_path: Path) -> None:
    with exposed(world.metrics, "127.0.0.1", 0) as port:
        address = f"http://127.0.0.1:{port}"
        with urlopen(f"{address}/healthz", timeout=20) as answer:
            assert answer.status == 200
        world.metrics.last_run.set(1)
        with pytest.raises(OSError, match="503"):
            urlopen(f"{address}/healthz", timeout=20)
        with urlopen(f"{address}/metrics", timeout=20) as answer:
            served = answer.read().decode()
    assert 'canet_trainer_refused_total{reason="accuracy"} 0.0' in served
    path = tmp_path / "trainer.prom"
    write_textfile(world.metrics, path)
    assert "canet_trainer_last_run_ok 0.0" in path.read_text()


@pytest.mark.parametrize("wrong", [{"keep": 0}, {"batch_entries": 0}, {"lease_seconds": 0.0}])
def test_what_makes_no_sense_is_named(world: World, wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        replace(world.request, **wrong)  # type: ignore[arg-type]
