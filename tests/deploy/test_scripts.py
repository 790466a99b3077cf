"""The scripts of the trainer's image, run with a `canet` that writes down what it was given."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

DOCKER = Path(__file__).parents[2] / "docker"

CANET = r"""#!/bin/sh
echo "$*" >>"$CALLS"
case "$1" in
demo-data) echo '{"interactions": "/made/interactions.parquet", "items": "/made/items.parquet"}' ;;
train)
    trap 'echo stopped >>"$CALLS"; exit 9' TERM
    if [ -n "${SLOW:-}" ]; then while :; do sleep 0.05; done; fi
    exit "${CODE:-0}"
    ;;
esac
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "canet").write_text(CANET)
    (tmp_path / "canet").chmod(0o755)
    (tmp_path / "models").mkdir()
    (tmp_path / "data.csv").touch()
    for name, value in {
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "CALLS": str(tmp_path / "calls"),
        "MODELS": str(tmp_path / "models"),
        "LAST_RUN": str(tmp_path / "last-run"),
        "TRAIN_DATA": str(tmp_path / "data.csv"),
        "TRAIN_INTERVAL_SECONDS": "600",
        "TRAIN_ARGUMENTS": "--max-minutes 5",
    }.items():
        monkeypatch.setenv(name, value)
    return tmp_path


def calls(place: Path) -> list[str]:
    path = place / "calls"
    return path.read_text().splitlines() if path.exists() else []


def wait_for(path: Path) -> None:
    until = time.monotonic() + 20
    while not path.exists() or not path.read_text():
        assert time.monotonic() < until, f"{path.name} is not written"
        time.sleep(0.02)


def test_bootstrap_trains_where_nothing_is_published(place: Path) -> None:
    done = subprocess.run([DOCKER / "bootstrap.sh"], capture_output=True, text=True, check=True)
    demo_data, train = calls(place)
    assert demo_data.startswith("demo-data --synthetic --cache ")
    assert train == (
        f"train --data /made/interactions.parquet --items /made/items.parquet "
        f"--out {place / 'models'} --max-minutes 0.5"
    )
    assert "SYNTHETIC" in done.stdout


def test_bootstrap_leaves_a_published_model_alone(place: Path) -> None:
    (place / "models" / "CURRENT").write_text("v1\n")
    subprocess.run([DOCKER / "bootstrap.sh"], capture_output=True, check=True)
    assert calls(place) == []


def test_bootstrap_fails_with_the_training(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CODE", "3")
    done = subprocess.run([DOCKER / "bootstrap.sh"], capture_output=True, check=False)
    assert done.returncode == 3


@pytest.mark.parametrize("code", [0, 3])
def test_the_loop_notes_how_the_run_ended_waits_and_stops_at_once(
    place: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    monkeypatch.setenv("CODE", str(code))
    with subprocess.Popen([DOCKER / "train-loop.sh"], stdout=subprocess.DEVNULL) as loop:
        wait_for(place / "last-run")
        loop.send_signal(signal.SIGTERM)
        assert loop.wait(20) == 0
    assert (place / "last-run").read_text() == f"{code}\n"
    data, models = place / "data.csv", place / "models"
    assert calls(place) == [f"train --data {data} --out {models} --max-minutes 5"]


def test_the_loop_passes_sigterm_on_to_a_running_training(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLOW", "1")
    with subprocess.Popen([DOCKER / "train-loop.sh"], stdout=subprocess.DEVNULL) as loop:
        wait_for(place / "calls")
        time.sleep(0.2)  # let the stand-in set its trap
        loop.send_signal(signal.SIGTERM)
        assert loop.wait(20) == 0
    assert calls(place)[1:] == ["stopped"]


def test_the_loop_says_which_file_is_missing(place: Path) -> None:
    (place / "data.csv").unlink()
    with subprocess.Popen(
        [DOCKER / "train-loop.sh"], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as loop:
        wait_for(place / "last-run")
        loop.send_signal(signal.SIGTERM)
        _, errors = loop.communicate(timeout=20)
    assert f"{place / 'data.csv'} does not exist" in errors
    assert (place / "last-run").read_text() == "2\n"


def test_arguments_run_one_command_instead(place: Path) -> None:
    command = [str(DOCKER / "train-loop.sh"), "checkpoints", "list", "/models"]
    subprocess.run(command, check=True)
    assert calls(place) == ["checkpoints list /models"]
