"""`canet plan`: an answer for operators, with its error, or a reason."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cli.main import main
from models.capacity import read_coefficients

ASKED = ("plan", "--catalog", "1e4", "--rps", "2000", "--p99", "500")


def call(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    try:
        code = main(list(words))
    except SystemExit as end:
        code = int(end.code or 0)
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_a_person_gets_cores_memory_error_and_machine(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = call(capsys, *ASKED)
    assert (code, err) == (0, "")
    for word in ("replicas", "cores", "memory", "held-out", read_coefficients().machine, "Redis"):
        assert word in out


def test_a_script_gets_the_same_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = call(capsys, *ASKED, "--budget", "1", "--json")
    told = json.loads(out)
    assert (code, told["budget"]) == (0, 1.0)
    assert told["cores"] == told["replicas"] >= 1
    assert told["cpu_seconds"] == pytest.approx(sum(told["cpu_seconds_by_part"].values()))
    assert told["memory_bytes"] == pytest.approx(
        told["memory_bytes_per_replica"] * told["replicas"], abs=told["replicas"]
    )


def test_calibration_names_this_machine(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = call(capsys, *ASKED, "--p99", "60000", "--calibrate", "--json")
    coefficients = json.loads(out)["coefficients"]
    assert code == 0
    assert coefficients["machine"].startswith("this machine")
    assert "short probe" in coefficients["remark"]


def test_own_coefficients_are_used(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "own.json"
    values = json.loads(read_coefficients().to_json())
    path.write_text(json.dumps({**values, "machine": "a very own machine"}), encoding="utf-8")
    code, out, _ = call(capsys, *ASKED, "--coefficients", str(path))
    assert code == 0
    assert "a very own machine" in out


@pytest.mark.parametrize(
    ("words", "part"),
    [
        ("plan", "--catalog"),
        ("plan --catalog 0 --rps 1 --p99 1", "0 is not a number above 0"),
        ("plan --catalog 1.5 --rps 1 --p99 1", "1.5 is not a whole number"),
        ("plan --catalog 10 --rps many --p99 1", "'many' is not a number"),
        ("plan --catalog 1e4 --rps 1 --p99 500 --budget 2", "budget is 2; it must lie between"),
        ("plan --catalog 1e7 --rps 1 --p99 500 --budget 0.01", "smallest submodel costs with"),
        ("plan --catalog 1e4 --rps 1 --p99 0.001", "p99 <= 0.001 ms cannot be held"),
        ("plan --catalog 1e4 --rps 1 --p99 500 --width 100", "must be a multiple of 16"),
        ("plan --catalog 1e4 --rps 1 --p99 500 --coefficients absent.json", "absent.json"),
    ],
)
def test_what_cannot_be_planned_ends_with_2_and_a_reason(
    capsys: pytest.CaptureFixture[str], words: str, part: str
) -> None:
    code, out, err = call(capsys, *words.split())
    assert (code, out) == (2, "")
    assert part in err
    assert "Traceback" not in err
