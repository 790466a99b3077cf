"""`canet train --refresh`: from the service's events to a new model, once or for good."""

from __future__ import annotations

import argparse
import json
import os
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from cli.errors import BUSY, REFUSED, WRONG_ARGUMENTS, CommandError, explained
from cli.options import column_names
from cli.progress import ConsoleProgress
from cli.signals import stop_on_signals


def add_refresh_options(command: argparse.ArgumentParser) -> None:
    """Add --refresh and what goes with it."""
    group = command.add_argument_group(
        "refresh",
        "drain the events that the service wrote to Redis into a data set, train from the live "
        "checkpoint on them and on --data (if given), and publish only what passes the gate. The "
        "Redis URL is read from CANET_REDIS_URL or the file CANET_REDIS_URL_FILE.",
    )
    add = group.add_argument
    add("--refresh", action="store_true", help="refresh instead of training on --data alone")
    add("--interval", type=float, metavar="SECONDS", help="refresh again and again until SIGTERM")
    add(
        "--dataset",
        type=Path,
        metavar="DIR",
        help="where events are kept (default: ROOT/../dataset)",
    )
    add("--data-optional", action="store_true", help="go on with events alone without --data FILE")
    add("--event-types", metavar="A,B", help="events that count (default: all but impressions)")
    add("--max-age-days", type=float, metavar="N", help="leave older interactions out")
    add("--keep", type=int, default=5, metavar="N", help="versions to keep (default: %(default)s)")
    add("--always", action="store_true", help="train although nothing is new")
    add(
        "--batch",
        type=int,
        default=10_000,
        metavar="N",
        help="entries in memory (default: %(default)s)",
    )
    add(
        "--lease",
        type=float,
        default=60.0,
        metavar="SECONDS",
        help="lock's lease (default: %(default)g)",
    )
    add("--lock-wait", type=float, default=0.0, metavar="SECONDS", help="wait for another run")
    add(
        "--gate-tolerance",
        type=float,
        default=0.01,
        metavar="SHARE",
        help="most relative loss of NDCG@10 against the live model (default: %(default)s)",
    )
    add(
        "--gate-saved",
        type=float,
        nargs=2,
        default=(0.0, 0.995),
        metavar=("LEAST", "MOST"),
        help="bounds of the saved share of compute (default: 0 0.995)",
    )
    add(
        "--gate-shrink",
        type=float,
        default=0.5,
        metavar="SHARE",
        help="most share of items or interactions that may be gone (default: %(default)s)",
    )
    add(
        "--gate-cases",
        type=int,
        default=20,
        metavar="N",
        help="fewest users to judge by (default: %(default)s)",
    )
    add("--metrics-port", type=int, metavar="PORT", help="serve /metrics and /healthz (--interval)")
    add("--metrics-host", default="127.0.0.1", metavar="HOST", help="default: %(default)s")
    add("--metrics-file", type=Path, metavar="FILE", help="write metrics for a textfile collector")
    add("--metrics-push", metavar="URL", help="push metrics to a Pushgateway")


def run(arguments: argparse.Namespace, plan: Any) -> int:
    """Refresh by the arguments; `plan` is the TrainPlan they give. Returns the exit code."""
    from prometheus_client import CollectorRegistry

    from training.refresh.errors import BusyError, RefreshError, RefusedError, StoppedError
    from training.refresh.exposition import exposed
    from training.refresh.loop import keep_refreshing
    from training.refresh.metrics import RefreshMetrics
    from training.refresh.refresh import Refreshed, refresh

    metrics, progress = RefreshMetrics(CollectorRegistry()), ConsoleProgress()

    def tell(found: Refreshed | None) -> None:
        _export(arguments, metrics, progress)
        if found is not None:
            _print(arguments, found)

    with explained(), stop_on_signals() as should_stop:
        request = _request(arguments, plan)
        if arguments.interval is not None:
            port = arguments.metrics_port
            server = exposed(metrics, arguments.metrics_host, port) if port is not None else None
            with server or nullcontext() as listening:
                if listening is not None:
                    progress.log(f"metrics on http://{arguments.metrics_host}:{listening}/metrics")
                keep_refreshing(request, arguments.interval, metrics, progress, should_stop, tell)
            return 0
        try:
            tell(refresh(request, metrics, progress, should_stop))
        except RefreshError as error:
            _export(arguments, metrics, progress)
            if isinstance(error, StoppedError):
                progress.log(str(error))
                return 0
            codes = {BusyError: BUSY, RefusedError: REFUSED}
            raise CommandError(str(error), codes.get(type(error), 1)) from error
        except BaseException:
            _export(arguments, metrics, progress)
            raise
    return 0


def _request(arguments: argparse.Namespace, plan: Any) -> Any:
    from training.refresh.gate import Gate
    from training.refresh.refresh import RefreshRequest, Source

    types = arguments.event_types
    least, most = arguments.gate_saved
    source = None
    if arguments.data is not None:
        source = Source(
            data=arguments.data,
            columns=column_names(arguments),
            strict=arguments.strict,
            optional=arguments.data_optional,
        )
    return RefreshRequest(
        plan=plan,
        dataset=arguments.dataset or plan.out.absolute().parent / "dataset",
        redis_url=_redis_url(),
        source=source,
        types=frozenset(types.split(",")) if types else None,
        max_age_days=arguments.max_age_days,
        gate=Gate(
            tolerance=arguments.gate_tolerance,
            min_saved=least,
            max_saved=most,
            max_shrink=arguments.gate_shrink,
            min_cases=arguments.gate_cases,
        ),
        keep=arguments.keep,
        always=arguments.always,
        batch_entries=arguments.batch,
        lease_seconds=arguments.lease,
        lock_wait_seconds=arguments.lock_wait,
    )


def _redis_url() -> str:
    url, file = os.environ.get("CANET_REDIS_URL"), os.environ.get("CANET_REDIS_URL_FILE")
    if file and not url:
        url = Path(file).read_text(encoding="utf-8").strip()
    if not url:
        raise CommandError(
            "--refresh needs the service's Redis: set CANET_REDIS_URL or CANET_REDIS_URL_FILE",
            WRONG_ARGUMENTS,
        )
    return url


def _export(arguments: argparse.Namespace, metrics: Any, progress: ConsoleProgress) -> None:
    from training.refresh.metrics import push, write_textfile

    try:
        if arguments.metrics_file is not None:
            write_textfile(metrics, arguments.metrics_file)
        if arguments.metrics_push is not None:
            push(metrics, arguments.metrics_push)
    except OSError as error:
        progress.log(f"metrics could not be handed over: {error}")


def _print(arguments: argparse.Namespace, found: Any) -> None:
    model, live = found.model, found.live
    if arguments.json:
        values: dict[str, Any] = {"published": model is not None, "pruned": list(found.pruned)}
        if model is not None:
            values |= {"version": model.version, "path": str(model.path), "seconds": model.seconds}
            values["ndcg_10"] = model.evaluation.row("routed").metrics["ndcg@10"]
            values["parent"] = None if live is None else live.version
            values["parent_ndcg_10"] = None if live is None else live.ndcg_10
        print(json.dumps(values), flush=True)
    elif model is not None:
        print(f"published {model.path} after {model.seconds:.1f} s", flush=True)
    else:
        print("nothing new", flush=True)
