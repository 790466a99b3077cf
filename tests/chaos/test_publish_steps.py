"""Killed right before or right after a step, whichever, a publisher leaves a sound model root."""

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
STRIDE = "1" if os.environ.get("CANET_CHAOS_KILLS") else "29"


def test_no_step_leaves_a_root_that_cannot_serve(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.chaos.publish_steps", str(tmp_path), STRIDE],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=1800,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["steps"] > 100
