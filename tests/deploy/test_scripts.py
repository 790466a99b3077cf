"""The scripts of the images, run with a `canet` that writes down what it was given."""

from __future__ import annotations

import os
import re
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
    echo ready >>"$CALLS"
    if [ -n "${SLOW:-}" ]; then while :; do sleep 0.05; done; fi
    exit "${CODE:-0}"
    ;;
esac
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "canet").write_text(CANET)
    (tmp_path / "canet").chmod(0o755)
    (tmp_path / "canet-entrypoint").symlink_to(DOCKER / "entrypoint.sh")
    (tmp_path / "models").mkdir()
    (tmp_path / "compiled" / "part").mkdir(parents=True)
    (tmp_path / "compiled" / "part" / "code.nbc").write_text("machine code")
    for name, value in {
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "CALLS": str(tmp_path / "calls"),
        "MODELS": str(tmp_path / "models"),
        "COMPILED": str(tmp_path / "compiled"),
        "NUMBA_CACHE_DIR": str(tmp_path / "cache"),
    }.items():
        monkeypatch.setenv(name, value)
    return tmp_path


def calls(place: Path) -> list[str]:
    path = place / "calls"
    return path.read_text().splitlines() if path.exists() else []


def wait_for(path: Path, *, lines: int) -> None:
    until = time.monotonic() + 60
    while not path.exists() or len(path.read_text().splitlines()) < lines:
        assert time.monotonic() < until, f"{path.name} is not written"
        time.sleep(0.02)


def test_bootstrap_trains_where_nothing_is_published(place: Path) -> None:
    done = subprocess.run([DOCKER / "bootstrap.sh"], capture_output=True, text=True, check=True)
    demo_data, train, ready = calls(place)
    assert ready == "ready"
    assert demo_data.startswith("demo-data --synthetic --users 1500 --items 1000 --cache ")
    assert train == (
        f"train --data /made/interactions.parquet --items /made/items.parquet "
        f"--out {place / 'models'} --max-minutes 0.15"
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


def test_bootstrap_hands_sigterm_to_the_training(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLOW", "1")
    with subprocess.Popen([DOCKER / "bootstrap.sh"], stdout=subprocess.DEVNULL) as script:
        wait_for(place / "calls", lines=3)
        script.send_signal(signal.SIGTERM)
        assert script.wait(20) == 9
    assert calls(place)[-1] == "stopped"


def test_the_image_brings_its_machine_code_to_where_it_can_be_written(place: Path) -> None:
    for _ in range(2):
        subprocess.run([DOCKER / "entrypoint.sh", "train", "--json"], check=True)
        code = place / "cache" / "part" / "code.nbc"
        assert code.read_text() in {"machine code", "changed since"}
        code.write_text("changed since")
    assert [line for line in calls(place) if line != "ready"] == ["train --json"] * 2
    assert code.read_text() == "changed since"


def test_without_room_for_machine_code_it_starts_all_the_same(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(place / "nowhere" / "cache"))
    done = subprocess.run(
        [DOCKER / "entrypoint.sh", "train"], capture_output=True, text=True, check=True
    )
    assert calls(place)[0] == "train"
    assert "compiled at every start" in done.stderr


def test_the_image_compiles_every_module_that_is_compiled() -> None:
    root = DOCKER.parent
    modules = {
        ".".join(path.relative_to(root).with_suffix("").parts)
        for path in (root / "models").rglob("*.py")
        if re.search(r"^@compiled\(", path.read_text(), re.MULTILINE)
    }
    (line,) = re.findall(
        r'python -I -c "import (models\.[^"]+)"', (DOCKER / "Dockerfile").read_text()
    )
    assert set(line.split(", ")) == modules
