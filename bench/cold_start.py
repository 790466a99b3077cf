"""From the start of the process to the first answer, over and over."""

from __future__ import annotations

import argparse
import time

import httpx

from bench.machine import machine
from bench.notes import notes
from bench.options import add_common, common
from bench.report import Report, median, spread
from bench.stack import METHOD, Bench, bench


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this subcommand's options."""
    add_common(parser)


def run(args: argparse.Namespace) -> None:
    """Start the service, ask it once, stop it; as often as there are rounds."""
    options = common(args)
    with bench(options) as here:
        seen = [_start(here) for _ in range(options.rounds)]
        told = notes(here)
    stages = ("ready", "first answer", "of that, the first request")
    Report(
        name=f"cold-start: {options.items:,} items",
        method=(
            *METHOD,
            f"{options.rounds} starts of `canet serve` with a warm file cache. Ready: /readyz "
            "answers 200, asked every 10 ms; the checkpoint is verified, its golden answers "
            "replayed, the engine warm.",
            *told,
        ),
        machine=machine(),
        rows=[
            {
                "stage": stage,
                "seconds": median([one[place] for one in seen]),
                "range": spread([one[place] for one in seen]),
            }
            for place, stage in enumerate(stages)
        ],
        rounds=[dict(zip(stages, one, strict=True)) for one in seen],
    ).show(as_json=options.json)


def _start(here: Bench) -> tuple[float, float, float]:
    """Return seconds until ready, until the first answer, and of the first request alone."""
    with here.service() as server:
        began = time.perf_counter()
        response = httpx.post(
            f"{server.url}/recommend", json={"user_id": here.histories.user_ids[0]}, timeout=60
        )
        took = time.perf_counter() - began
        response.raise_for_status()
        return server.ready_seconds, server.ready_seconds + took, took
