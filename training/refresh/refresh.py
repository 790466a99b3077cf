"""One refresh: drain, train from the live model, judge, publish."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import redis
from redis.exceptions import RedisError

from models.checkpoint.contents import Checkpoint
from models.checkpoint.read import read_checkpoint
from models.checkpoint.store import current, discard, prune, set_current
from models.events import KEY_PREFIX, active_model_key
from training.data.columns import ColumnNames
from training.data.errors import NothingYetError
from training.data.interactions import Interactions
from training.data.reading import read
from training.pipeline import Trained, TrainResult, build, publish_trained, result_of
from training.plan import TrainPlan
from training.progress import Progress
from training.refresh.dataset import DataSet
from training.refresh.drain import drain
from training.refresh.errors import RefreshError, RefusedError, StoppedError
from training.refresh.gate import Gate, Live, judge, measure_live, replay_golden
from training.refresh.lease import Lease
from training.refresh.metrics import RefreshMetrics
from training.refresh.source import training_interactions
from training.refresh.upkeep import keep_up

_TIMEOUT_SECONDS = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A file of interactions to train on beside the collected events.

    An `optional` one may be absent; then the events alone are trained on.
    """

    data: Path
    columns: ColumnNames | None = None
    strict: bool = False
    optional: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class RefreshRequest:
    """What one refresh is asked for. `redis_url` may hold a password.

    `keep` versions stay beside CURRENT and its rollback target. `types` of events count as
    interactions; None: all but impressions.
    """

    plan: TrainPlan
    dataset: Path
    redis_url: str = field(repr=False)
    source: Source | None = None
    types: frozenset[str] | None = None
    max_age_days: float | None = None
    gate: Gate = field(default_factory=Gate)
    keep: int = 5
    always: bool = False
    batch_entries: int = 10_000
    lease_seconds: float = 60.0
    lock_wait_seconds: float = 0.0
    key_prefix: str = KEY_PREFIX

    def __post_init__(self) -> None:
        for name, least in (("keep", 1), ("batch_entries", 1), ("lease_seconds", 0.5)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least {least}")
        if self.lock_wait_seconds < 0:
            raise ValueError(f"lock_wait_seconds is {self.lock_wait_seconds}; give 0 or more")


@dataclass(frozen=True, slots=True, kw_only=True)
class Refreshed:
    """How a refresh ended well: a published model, or None when there was nothing new to learn."""

    model: TrainResult | None
    live: Live | None
    pruned: tuple[str, ...] = ()


def refresh(
    request: RefreshRequest,
    metrics: RefreshMetrics,
    progress: Progress,
    should_stop: Callable[[], bool] = lambda: False,
) -> Refreshed:
    """Run one refresh under the lock; afterwards CURRENT names a model that passed the gate.

    Whatever happened is in `metrics`. Raises RefreshError (busy, refused, stopped, lease lost,
    Redis away), DataError, CheckpointError or ValueError; then CURRENT is what it was.
    """
    began = time.monotonic()
    result = "failed"
    try:
        found = _locked(request, metrics, progress, should_stop)
        result = "published" if found.model is not None else "unchanged"
        metrics.last_success.set(time.time())
        return found
    except RefusedError as error:
        metrics.refused.labels(error.reason).inc()
        result = error.result
        raise
    except RefreshError as error:
        result = error.result
        raise
    except RedisError as error:
        # Its own text may name the address with the password.
        raise RefreshError(
            f"Redis failed: {type(error).__name__}; what was drained before is safe, try again "
            "when it answers"
        ) from None
    finally:
        metrics.runs.labels(result).inc()
        metrics.last_run.set(time.time())
        metrics.last_ok.set(result not in {"failed", "lost_lease"})
        metrics.duration.set(time.monotonic() - began)


def _locked(
    request: RefreshRequest,
    metrics: RefreshMetrics,
    progress: Progress,
    should_stop: Callable[[], bool],
) -> Refreshed:
    client = redis.Redis.from_url(
        request.redis_url,
        socket_timeout=_TIMEOUT_SECONDS,
        socket_connect_timeout=_TIMEOUT_SECONDS,
        client_name="canet-trainer",
    )
    with client:
        lease = Lease(
            client,
            seconds=request.lease_seconds,
            wait_seconds=request.lock_wait_seconds,
            prefix=request.key_prefix,
        )
        with lease, DataSet(request.dataset) as dataset:
            run = _Run(request, client, lease, dataset, metrics, progress, should_stop)
            return run.go()


class _Run:
    def __init__(
        self,
        request: RefreshRequest,
        client: redis.Redis,
        lease: Lease,
        dataset: DataSet,
        metrics: RefreshMetrics,
        progress: Progress,
        should_stop: Callable[[], bool],
    ) -> None:
        self.request = request
        self.root = request.plan.out
        self.client = client
        self.lease = lease
        self.dataset = dataset
        self.metrics = metrics
        self.progress = progress
        self.should_stop = should_stop

    def go(self) -> Refreshed:
        live = self._live()
        self._drain()
        try:
            interactions = self._interactions()
        except NothingYetError as error:
            if live is None:
                raise
            self.progress.log(f"{error}; the live model stays")
            return Refreshed(model=None, live=None)
        self.metrics.rows.set(len(interactions))
        self.metrics.items.set(interactions.num_items)
        known = live.manifest.training.get("data_digest") if live is not None else None
        if known == interactions.digest and not self.request.always:
            self.progress.log(
                "nothing is new since the live model was trained; it stays (--always trains anyway)"
            )
            return Refreshed(model=None, live=None)
        self._proceed()
        began = time.monotonic()
        trained = build(
            self.request.plan,
            interactions,
            self.progress,
            lambda: self.should_stop() or self.lease.lost,
            parent=live,
        )
        self._proceed()
        figures = self._judge(trained, live)
        self._proceed()
        seconds = time.monotonic() - began
        version = self._publish(trained, live, seconds)
        pruned = prune(self.root, self.request.keep)
        return Refreshed(
            model=result_of(self.root / version, trained, seconds=seconds),
            live=figures,
            pruned=tuple(pruned),
        )

    def _live(self) -> Checkpoint | None:
        version = current(self.root) if self.root.is_dir() else None
        if version is None:
            return None
        live = read_checkpoint(self.root / version)
        created = datetime.fromisoformat(live.manifest.created_at).timestamp()
        # A process that starts anew tells of the success that it finds.
        self.metrics.last_success.set(max(created, self._last_success()))
        return live

    def _last_success(self) -> float:
        name = "canet_trainer_last_success_timestamp_seconds"
        return self.metrics.registry.get_sample_value(name) or 0.0

    def _drain(self) -> None:
        drained = drain(
            self.client,
            self.dataset,
            batch_entries=self.request.batch_entries,
            before_commit=self._proceed,
            prefix=self.request.key_prefix,
        )
        for kind, count in (
            ("event", drained.events),
            ("operation", drained.ops),
            ("repeated", drained.repeated),
            ("malformed", drained.malformed),
        ):
            self.metrics.drained.labels(kind).inc(count)
        self.metrics.lost.set(drained.lost)
        self.progress.log(
            f"drained {drained.events:,} events and {drained.ops:,} deletions, replacements or "
            f"merges; {drained.repeated:,} delivered again, {drained.malformed:,} malformed"
        )
        if drained.lost:
            self.progress.log(
                f"{drained.lost:,} entries fell to the streams' bound before any refresh drained "
                "them; refresh more often"
            )
        self._proceed()
        done = keep_up(self.dataset)
        self.metrics.forgotten.inc(done.removed)
        if done.ops:
            self.progress.log(
                f"carried out {done.ops:,} deletions, replacements or merges: {done.removed:,} "
                f"rows forgotten, {done.moved:,} handed on"
            )

    def _interactions(self) -> Interactions:
        source = self.request.source
        read_rows = None
        if source is not None and source.optional and not source.data.exists():
            self.progress.log(f"{source.data} does not exist; training on collected events alone")
        elif source is not None:
            read_rows = read(
                source.data, source.columns, strict=source.strict, progress=self.progress
            )
        joined = training_interactions(
            self.dataset,
            read_rows,
            types=self.request.types,
            max_age_days=self.request.max_age_days,
        )
        self.progress.log(joined.report.summary())
        return joined

    def _judge(self, trained: Trained, live: Checkpoint | None) -> Live | None:
        found = trained.evaluation
        routed = found.row("routed")
        figures = None
        if live is not None:
            figures = measure_live(
                live,
                trained.interactions,
                split=self.request.plan.split,
                cases=found.cases,
                progress=self.progress,
            )
        assert routed.flops_ratio is not None
        self.metrics.ndcg.labels("new").set(routed.metrics["ndcg@10"])
        self.metrics.saved.set(1 - routed.flops_ratio)
        if figures is not None:
            self.metrics.ndcg.labels("live").set(figures.ndcg_10)
            self.progress.log(
                f"NDCG@10 on {found.cases:,} users: new {routed.metrics['ndcg@10']:.4f}, "
                f"{figures.version} {figures.ndcg_10:.4f} (it knows {figures.cases:,} of the cases)"
            )
        judge(
            self.request.gate,
            found,
            figures,
            items=len(trained.split.catalog),
            rows=len(trained.interactions),
        )
        return figures

    def _publish(self, trained: Trained, live: Checkpoint | None, seconds: float) -> str:
        version = publish_trained(self.root, trained, seconds=seconds, make_current=False)
        try:
            replay_golden(read_checkpoint(self.root / version))
            now = current(self.root)
            if now != (live.version if live is not None else None):
                raise RefreshError(
                    f"CURRENT moved to {now} while this model was trained and compared with "
                    "another; run again"
                )
            self.lease.ensure()
            set_current(self.root, version)
        except BaseException:
            discard(self.root, version)
            raise
        notice = {"version": version, "published_at": datetime.now(UTC).isoformat()}
        key = active_model_key(self.request.key_prefix)
        try:
            self.client.set(key, json.dumps(notice))
            self.client.publish(key, json.dumps(notice))
        except RedisError as error:
            self.progress.log(
                f"published, but Redis took no notice of it ({type(error).__name__}); services "
                "find it when they look at CURRENT"
            )
        return version

    def _proceed(self) -> None:
        """Return when the run may go on."""
        if self.should_stop():
            raise StoppedError("asked to stop; what was drained is safe, nothing was published")
        if self.lease.lost:
            self.lease.ensure()
