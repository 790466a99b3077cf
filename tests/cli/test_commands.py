"""Every command: help, JSON, exit codes, and errors of one sentence."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from cli.errors import WRONG_ARGUMENTS
from cli.main import COMMANDS, main
from models.checkpoint.store import current
from tests.models.published import publish_random

PROJECT = Path(__file__).parents[2]
NAMES = (
    "train",
    "specialize",
    "evaluate",
    "serve",
    "checkpoints",
    "demo-data",
    "demo",
    "plan",
    "top",
)
ACTIONS = ("list", "show", "verify", "pin", "rollback")
Call = Callable[..., tuple[int, str, str]]


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Call:
    """Run a command; returns exit code, standard output, standard error."""
    for name in ("CANET_PORT", "CANET_HOST", "CANET_MODEL_ROOT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("COLUMNS", "200")

    def run(*arguments: str | Path) -> tuple[int, str, str]:
        try:
            code = main([str(argument) for argument in arguments])
        except SystemExit as end:
            code = int(end.code or 0)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A root of one version that no test changes."""
    root = tmp_path_factory.mktemp("published")
    return root, publish_random(root)


def test_no_command_is_missing_here() -> None:
    assert len(COMMANDS) == len(NAMES)


@pytest.mark.parametrize(
    "words", [(), *((name,) for name in NAMES), *(("checkpoints", one) for one in ACTIONS)]
)
def test_every_command_explains_itself(call: Call, words: tuple[str, ...]) -> None:
    code, out, err = call(*words, "--help")
    assert (code, err) == (0, "")
    assert f"usage: {' '.join(('canet', *words))}" in out
    if not words:
        assert all(name in out for name in NAMES)


def test_help_of_train_names_the_presets(call: Call) -> None:
    _, out, _ = call("train", "--help")
    assert "{small,session-like,long-history,compact}" in out


def test_versions_are_listed_shown_and_rolled_back(call: Call, tmp_path: Path) -> None:
    first, second = publish_random(tmp_path, seed=0), publish_random(tmp_path, seed=1)
    code, out, err = call("checkpoints", "list", tmp_path, "--json")
    assert (code, err) == (0, "")
    assert json.loads(out) == [
        {"version": first, "current": False, "rollback": True},
        {"version": second, "current": True, "rollback": False},
    ]
    code, out, _ = call("checkpoints", "show", tmp_path, "--json")
    shown = json.loads(out)
    assert (code, shown["version"]) == (0, second)
    _, out, _ = call("checkpoints", "show", tmp_path, first, "--json")
    assert json.loads(out)["version"] == first

    code, out, _ = call("checkpoints", "rollback", tmp_path, "--json")
    assert (code, json.loads(out)) == (
        0,
        {"before": second, "current": first, "skipped": []},
    )
    assert current(tmp_path) == first
    code, out, err = call("checkpoints", "rollback", tmp_path)
    assert (code, out) == (4, "")
    assert "no earlier version" in err
    code, out, _ = call("checkpoints", "rollback", tmp_path, second)
    assert (code, out) == (0, f"CURRENT: {first} -> {second}\n")


def test_people_get_the_same_in_words(call: Call, published: tuple[Path, str]) -> None:
    root, version = published
    assert call("checkpoints", "list", root)[:2] == (0, f"{version} <- CURRENT\n")
    code, out, _ = call("checkpoints", "show", root)
    assert code == 0
    assert f"{version} (verified)" in out
    assert "40 items, histories of up to 20" in out


@pytest.mark.parametrize(
    ("words", "code", "part"),
    [
        ("", 2, "COMMAND"),
        ("nonsense", 2, "invalid choice"),
        ("checkpoints", 2, "ACTION"),
        ("checkpoints show", 2, "ROOT"),
        ("train --out {tmp}", 2, "--data"),
        ("train --data {data} --out {tmp} --preset huge", 2, "huge"),
        ("train --data {data} --out {tmp} --exclude-seen --keep-seen", 2, "not allowed with"),
        ("train --data {data} --out {tmp} --density 0", 2, "share of weights that stay, above 0"),
        ("train --data {data} --out {tmp} --sparse unit", 2, "--sparse without --density"),
        ("train --data {data} --out {tmp} --density 0.5 --sparse row", 2, "row"),
        ("train --data {data} --out {tmp} --density 0.5 --sparse-interval 0", 2, "at least 1"),
        ("serve --models {root} --port many", 2, "many"),
        ("serve --models {root} --port 70000", 2, "70000"),
        ("demo --data {data} --synthetic", 2, "not both"),
        ("train --data {tmp}/absent.csv --out {tmp}/out", 3, "absent.csv does not exist"),
        ("train --data {data} --out {tmp}/out", 3, "data.csv"),
        ("evaluate {root} --data {tmp}/absent.csv", 3, "absent.csv does not exist"),
        ("evaluate {root} --data {data}", 3, "data.csv"),
        ("evaluate {tmp} --data {data}", 4, "CURRENT"),
        ("evaluate {root} --data {data} --beside best={root}", 2, "plain, canet"),
        ("evaluate {root} {root} --data {data} --price 1", 2, "--price does not go with several"),
        ("evaluate {root} --budgets 0.3 --data {data} --html x", 2, "--html does not go with"),
        ("checkpoints show {tmp}", 4, "CURRENT"),
        ("checkpoints show {root} nonsense", 4, "nonsense"),
        ("checkpoints show {root} 20200101T000000Z-00000000", 4, "20200101T000000Z-00000000"),
        ("checkpoints list {tmp}/absent", 4, "absent is no directory"),
        ("checkpoints verify {tmp}", 4, "no versions"),
        ("checkpoints verify {tmp}/absent", 4, "absent is no directory"),
        ("checkpoints pin {root}", 2, "VERSION"),
        ("checkpoints pin {root} nonsense", 4, "nonsense"),
        ("checkpoints rollback {root}", 4, "no earlier version"),
        ("checkpoints rollback {root} nonsense", 4, "nonsense"),
        ("serve --models {tmp}/absent", 4, "canet train"),
    ],
)
def test_what_is_wrong_decides_the_exit_code(
    call: Call, published: tuple[Path, str], tmp_path: Path, words: str, code: int, part: str
) -> None:
    data = tmp_path / "data.csv"
    data.write_text("colour,weight\nred,7\n")
    text = words.format(root=published[0], tmp=tmp_path, data=data)
    found, out, err = call(*text.split())
    assert (found, out) == (code, "")
    assert part in err
    assert "Traceback" not in err
    if "usage:" not in err and "invalid settings" not in err:
        assert len(err.strip().splitlines()) == 1
        assert err.startswith(f"canet {words.split()[0]}: ")


def test_a_damaged_checkpoint_ends_the_process_with_4_and_a_sentence(tmp_path: Path) -> None:
    version = publish_random(tmp_path)
    tensors = tmp_path / version / "model.safetensors"
    content = bytearray(tensors.read_bytes())
    content[-1] ^= 1
    tensors.write_bytes(content)
    done = subprocess.run(
        [sys.executable, "-m", "cli.main", "checkpoints", "show", str(tmp_path)],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout) == (4, "")
    assert "model.safetensors" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_rolling_back_skips_what_is_damaged_and_pinning_refuses_it(
    call: Call, tmp_path: Path
) -> None:
    first, second, third = (publish_random(tmp_path, seed=seed) for seed in range(3))
    tensors = tmp_path / second / "model.safetensors"
    content = bytearray(tensors.read_bytes())
    content[-1] ^= 1
    tensors.write_bytes(content)

    code, out, _ = call("checkpoints", "verify", tmp_path)
    assert code == 4
    assert f"{first} sound\n{second} REFUSED (digest_mismatch): model.safetensors" in out
    code, out, _ = call("checkpoints", "verify", tmp_path, second, "--json")
    assert (code, [row["reason"] for row in json.loads(out)]) == (4, ["digest_mismatch"])

    code, out, _ = call("checkpoints", "rollback", tmp_path)
    assert code == 0
    assert f"skipped {second}: model.safetensors" in out
    assert f"CURRENT: {third} -> {first}\n" in out

    code, _, err = call("checkpoints", "pin", tmp_path, second)
    assert code == 4
    assert "model.safetensors" in err
    assert current(tmp_path) == first
    code, out, _ = call("checkpoints", "pin", tmp_path, third)
    assert (code, out) == (0, f"CURRENT: {first} -> {third}\n")
    (tmp_path / "CURRENT").write_text("damaged")
    code, out, _ = call("checkpoints", "pin", tmp_path, first)
    assert (code, out) == (0, f"CURRENT: none -> {first}\n")


def test_demo_data_is_made_up_once_and_named_as_such(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CANET_CACHE", str(tmp_path / "cache"))
    small = ("demo-data", "--synthetic", "--users", "30", "--items", "400")
    code, out, _ = call(*small, "--json")
    told = json.loads(out)
    assert (code, told["synthetic"]) == (0, True)
    assert told["source"] == "SYNTHETIC DATA, made up: 30 users, 400 items"
    for name in ("interactions", "items"):
        assert Path(told[name]).is_relative_to(tmp_path / "cache")
        assert Path(told[name]).is_file()
    written = Path(told["interactions"]).stat().st_mtime_ns
    code, again, _ = call(*small, "--json")
    assert (code, json.loads(again)) == (0, told)
    assert Path(told["interactions"]).stat().st_mtime_ns == written
    code, _, text = call("demo-data", "--users", "20")
    assert code == WRONG_ARGUMENTS
    assert "--users says how much to make up: add --synthetic" in text
    code, text, _ = call(*small)
    assert code == 0
    assert told["interactions"] in text
