"""This side of the load generator: hand it a job, get what it saw."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict

from bench.client.job import Job, Outcome
from bench.machine import pinned
from bench.processes import ROOT, python

BUSY_CLIENT = 0.8


class Generator:
    """A load generator in a process of its own; one job at a time."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self._warned = False

    def run(self, job: Job) -> Outcome:
        """Return what the generator saw; RuntimeError when it could not run the job.

        Warns once on standard error when the generator itself was the bottleneck.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(asdict(job)) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("the load generator ended; see its message above")
        told = json.loads(line)
        if "error" in told:
            raise RuntimeError(f"the load generator could not run: {told['error']}")
        outcome = Outcome.from_json(told)
        if outcome.client_cpu_share > BUSY_CLIENT and not self._warned:
            self._warned = True
            print(
                f"warning: the load generator used {outcome.client_cpu_share:.0%} of its core; "
                "it may be the bottleneck, so the server may be faster than shown",
                file=sys.stderr,
            )
        return outcome


@contextmanager
def generator(cores: frozenset[int]) -> Iterator[Generator]:
    """Yield a generator that runs on `cores` (empty: anywhere), ended afterwards."""
    with pinned(cores):
        process = subprocess.Popen(
            python("-m", "bench.client.process"),
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
    try:
        yield Generator(process)
    finally:
        assert process.stdin is not None
        process.stdin.close()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        assert process.stdout is not None
        process.stdout.close()
