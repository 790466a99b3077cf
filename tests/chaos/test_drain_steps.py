"""Killed right before or right after a step, whichever, the drain ends with every event once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.long

ROOT = Path(__file__).parents[2]
# All steps take minutes: set CANET_CHAOS_KILLS for them.
STRIDE = "1" if os.environ.get("CANET_CHAOS_KILLS") else "11"


def test_no_step_loses_or_doubles_an_event(redis_url: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "tests.chaos.drain_steps",
            redis_url,
            str(tmp_path / "dataset"),
            STRIDE,
        ],
        cwd=ROOT,
        env={
            **os.environ,
            "PYTHONPATH": str(ROOT),
            # No thread of its own for Arrow's allocator: what forks has none but its own.
            "JE_ARROW_MALLOC_CONF": "background_thread:false",
        },
        capture_output=True,
        text=True,
        timeout=1800,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["steps"] > 100
