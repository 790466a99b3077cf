"""dev.py: what a person meets first. Runs copies of it in directories of their own."""

from __future__ import annotations

import ast
import importlib.util
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tomllib
from pathlib import Path
from types import ModuleType

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).parents[2]


def load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("dev", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def place(tmp_path: Path) -> Path:
    for name in ("dev.py", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    return tmp_path


@pytest.fixture
def made(place: Path) -> Path:
    """A place whose environment is whole, with a `canet` that tells what it was given."""
    tools = place / ".venv" / "bin"
    tools.mkdir(parents=True)
    (tools / "python").symlink_to(sys.executable)
    script = '#!/bin/sh\ntrap "exit 7" TERM\nfor word; do echo "[$word]"; done\n'
    script += 'if [ "$2" = --wait ]; then while :; do sleep 0.05; done; fi\nexit 5\n'
    (tools / "canet").write_text(script)
    (tools / "canet").chmod(0o755)
    (place / ".venv" / ".canet-ready").write_text(
        json.dumps({"digest": load(place / "dev.py").digest()})
    )
    return place


def run(place: Path, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(place / "dev.py"), *arguments],
        env={**os.environ, **environ},
        cwd="/",
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_demo_passes_arguments_and_exit_code_through(made: Path) -> None:
    done = run(made, "demo", "--data", "my file.csv", "--exit")
    assert done.stdout.splitlines() == ["[demo]", "[--data]", "[my file.csv]", "[--exit]"]
    assert done.returncode == 5


def test_a_signal_reaches_the_demo_itself(made: Path) -> None:
    with subprocess.Popen(
        [sys.executable, str(made / "dev.py"), "demo", "--wait"], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "[demo]\n"
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=20) == 7


def test_help_and_unknown_commands_touch_nothing(place: Path) -> None:
    assert "dev.py demo" in run(place, "--help").stdout
    assert run(place).returncode == 2
    unknown = run(place, "deploy")
    assert unknown.returncode == 2
    assert "known are demo, test and check" in unknown.stdout
    assert not (place / ".venv").exists()


def test_an_old_python_reads_a_sentence() -> None:
    """The file parses on old Pythons and stops before it needs anything of a new one."""
    ast.parse((ROOT / "dev.py").read_text(), feature_version=(3, 7))
    pretend = "import runpy, sys; sys.version_info = (3, 9, 1, 'final', 0); "
    done = subprocess.run(
        [sys.executable, "-c", pretend + f"runpy.run_path({str(ROOT / 'dev.py')!r})"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "Python 3.9; Python 3.11, 3.12 or 3.13 is needed" in done.stderr


def test_a_registry_out_of_reach_is_explained_and_the_next_start_begins_anew(place: Path) -> None:
    failed = run(place, "test", PIP_NO_INDEX="1", PIP_FIND_LINKS=str(place))
    assert failed.returncode == 3
    assert "registry could not be reached" in failed.stderr
    assert (place / ".venv" / ".canet-building").exists()
    (place / ".venv" / "left-over").mkdir()

    again = run(place, "test", PIP_NO_INDEX="1", PIP_FIND_LINKS=str(place))
    assert "left half-made; making it anew" in again.stdout
    assert not (place / ".venv" / "left-over").exists()


def test_an_environment_moved_to_another_place_is_not_trusted(made: Path) -> None:
    module = load(made / "dev.py")
    assert module.is_ready()
    moved = made.parent / (made.name + "-moved")
    made.rename(moved)
    assert not load(moved / "dev.py").is_ready()


def test_a_change_of_pyproject_is_noticed(made: Path) -> None:
    with (made / "pyproject.toml").open("a") as file:
        file.write("\n")
    assert not load(made / "dev.py").is_ready()


def test_too_little_space_is_said_before_anything_is_made(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = load(place / "dev.py")
    monkeypatch.setattr(module.shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(9, 8, 1))
    with pytest.raises(module.SetupError, match=r"2\.5 GB are needed"):
        module.make_environment()
    assert not (place / ".venv").exists()


def test_a_progress_line_says_how_long_and_what(capsys: pytest.CaptureFixture[str]) -> None:
    progress = load(ROOT / "dev.py").Progress("installing")
    progress.saw("Downloading some-1.0.whl (3 MB)")
    assert progress.doing == "downloading some-1.0.whl"
    progress.saw("Progress 50 of 200")
    assert progress.doing == "downloading some-1.0.whl [25 %]"
    progress.close()
    assert re.search(r"installing \(\d+ s\) done", capsys.readouterr().out)


def test_a_second_dev_py_waits_for_the_first(place: Path) -> None:
    """The one that holds the lock makes the environment; the other one finds it whole."""
    module = load(place / "dev.py")
    (place / ".venv" / "bin").mkdir(parents=True)
    with (place / ".venv" / ".canet-lock").open("w") as lock:
        module.wait_for(lock)
        with subprocess.Popen(
            [sys.executable, str(place / "dev.py"), "demo"], stdout=subprocess.PIPE, text=True
        ) as second:
            assert second.stdout is not None
            assert "waiting for it" in second.stdout.readline()
            tools = place / ".venv" / "bin"
            (tools / "python").symlink_to(sys.executable)
            (tools / "canet").write_text("#!/bin/sh\nexit 5\n")
            (tools / "canet").chmod(0o755)
            ready = place / ".venv" / ".canet-ready"
            ready.write_text(json.dumps({"digest": module.digest()}))
            lock.close()
            assert second.wait(timeout=60) == 5


def test_the_pinned_torch_is_one_the_project_accepts() -> None:
    pin = Requirement(load(ROOT / "dev.py").TORCH)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    accepted = next(
        requirement
        for requirement in map(Requirement, project["dependencies"])
        if requirement.name == "torch"
    )
    (version,) = (clause.version for clause in pin.specifier)
    assert accepted.specifier.contains(Version(version))
