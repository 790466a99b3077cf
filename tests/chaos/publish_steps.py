"""Kills a publisher at every step it takes, one after the other; prints what was found.

Run as `python -m tests.chaos.publish_steps DIRECTORY STRIDE`. A step is a call to the file system;
the process dies right before it or right after it. It publishes a version, moves CURRENT to it as
the trainer does, publishes another that is withdrawn, removes old versions and rolls back. What
each kill left must be whole, and the next publisher must succeed.
"""

from __future__ import annotations

import itertools
import json
import os
import runpy
import shutil
import signal
import sys
from functools import partial
from pathlib import Path
from typing import Any

from models.checkpoint.read import read_checkpoint
from models.checkpoint.store import (
    current,
    discard,
    list_versions,
    prune,
    rollback,
    rollback_targets,
    set_current,
)
from tests.chaos.steps import Countdown, forked

_TINY = Path(__file__).parents[1] / "models" / "checkpoint" / "conftest.py"
# What moving files into place is made of, also inside pathlib and shutil.
_STEPS = ("open", "fsync", "close", "mkdir", "rename", "replace", "unlink", "rmdir")


def work(tiny: Any, root: Path) -> None:
    """All that a trainer and an operator do to a model root."""
    tiny.publish(root, seed=2)
    second = tiny.publish(root, seed=3, make_current=False)
    set_current(root, second)
    discard(root, tiny.publish(root, seed=4, make_current=False))
    prune(root, keep=2)
    rollback(root)


def killed(tiny: Any, root: Path, last: int) -> None:
    """Work, and die at step `last`, if there is one."""
    countdown = Countdown(last)
    for name in _STEPS:
        countdown.around(os, name)
    work(tiny, root)


def verify(root: Path) -> None:
    """Every version is whole, CURRENT names one of them, and every way back leads to one."""
    versions = list_versions(root)
    for version in versions:
        read_checkpoint(root / version)
    assert current(root) in versions
    assert set(rollback_targets(root)) < set(versions)


def recover(tiny: Any, root: Path) -> None:
    """What comes after the kill: a publisher and a rollback, both successful."""
    before = current(root)
    version = tiny.publish(root, seed=5)
    assert version == max(list_versions(root)) == current(root)
    assert rollback(root) == before


def main(directory: Path, stride: int) -> None:
    tiny = runpy.run_path(str(_TINY))["Tiny"]()
    template = directory / "template"
    for seed in range(2):
        tiny.publish(template, seed=seed)
    for last in itertools.count(1, stride):
        root = directory / "root"
        shutil.rmtree(root, ignore_errors=True)
        shutil.copytree(template, root)

        code = forked(partial(killed, tiny, root, last))
        assert code in (0, -signal.SIGKILL), f"step {last}: exit code {code}"
        assert forked(partial(verify, root)) == 0, f"after step {last}"
        assert forked(partial(recover, tiny, root)) == 0, f"after step {last}"
        assert forked(partial(verify, root)) == 0, f"after step {last} and another"
        if code == 0:
            sys.stdout.write(json.dumps({"steps": last}))
            return


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
