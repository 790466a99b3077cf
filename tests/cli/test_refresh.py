"""`canet train --refresh` as scripts see it: exit codes, sentences, SIGTERM."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import redis

PROJECT = Path(__file__).parents[2]


def start(url: str | None, directory: Path, *words: str) -> subprocess.Popen[str]:
    environ = {name: value for name, value in os.environ.items() if not name.startswith("CANET_")}
    if url is not None:
        environ["CANET_REDIS_URL"] = url
    command = [
        sys.executable,
        "-m",
        "cli.main",
        "train",
        "--refresh",
        "--out",
        str(directory / "models"),
    ]
    return subprocess.Popen(
        [*command, *words],
        cwd=PROJECT,
        env=environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def ended(process: subprocess.Popen[str]) -> tuple[int, str]:
    _, said = process.communicate(timeout=300)
    return process.returncode, said


def test_without_a_store_it_says_which_variable_to_set(tmp_path: Path) -> None:
    code, said = ended(start(None, tmp_path))
    assert code == 2
    assert "CANET_REDIS_URL" in said


def test_the_lock_of_another_run_is_exit_code_5(redis_url: str, tmp_path: Path) -> None:
    with redis.Redis.from_url(redis_url) as client:
        client.set("canet:1:trainer:lock", "7:other", px=600_000)
    code, said = ended(start(redis_url, tmp_path))
    assert code == 5
    assert "another refresh is running" in said


def test_nothing_to_learn_is_wrong_data(redis_url: str, tmp_path: Path) -> None:
    metrics = tmp_path / "trainer.prom"
    code, said = ended(start(redis_url, tmp_path, "--metrics-file", str(metrics)))
    assert code == 3
    assert "nothing to learn" in said
    assert 'canet_trainer_runs_total{result="failed"} 1.0' in metrics.read_text()


def test_the_loop_ends_with_0_on_sigterm(redis_url: str, tmp_path: Path) -> None:
    process = start(redis_url, tmp_path, "--interval", "3600", "--metrics-port", "0")
    assert process.stderr is not None
    until = time.monotonic() + 300
    for line in process.stderr:
        assert time.monotonic() < until
        if "next refresh in" in line:
            break
    process.send_signal(signal.SIGTERM)
    assert ended(process)[0] == 0
