"""`canet plan`: an answer for operators, with its error, or a reason."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

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


def test_a_table_in_blocks_takes_less_memory_and_less_time(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """By cuts and ranks, and by its bytes alone: equal memory, and scoring of as many bytes."""

    def told(*options: str) -> dict[str, Any]:
        words = ("plan", "--catalog", "1e6", "--rps", "9", "--p99", "5000", "--budget", "1")
        code, out, _ = call(capsys, *words, *options, "--json")
        assert code == 0
        found: dict[str, Any] = json.loads(out)
        return found

    whole = told()
    blocks = told("--table-cuts", "50000,200000", "--table-ranks", "64,16,4")
    stored = 4 * (50_001 * 64 + 150_000 * 16 + 16 * 64 + 800_000 * 4 + 4 * 64)
    assert blocks["table_bytes"] == stored < whole["table_bytes"] == 4 * 64 * 1_000_001
    saved = whole["memory_bytes_per_replica"] - blocks["memory_bytes_per_replica"]
    assert saved == pytest.approx(1.5 * 4 * 64 * 1_000_000 - stored, abs=2)
    scoring = {
        name: one["cpu_seconds_by_part"]["scoring"]
        for name, one in (("whole", whole), ("blocks", blocks))
    }
    assert scoring["blocks"] / scoring["whole"] == pytest.approx(stored / whole["table_bytes"])
    same = told("--table-bytes", str(stored))
    for key in ("table_bytes", "memory_bytes_per_replica"):
        assert same[key] == blocks[key]
    assert same["cpu_seconds_by_part"]["scoring"] == pytest.approx(scoring["blocks"])


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
        ("plan --catalog 1e4 --rps 1 --p99 500 --table-cuts 9,3 --table-ranks 8,4,2", "rising"),
        ("plan --catalog 1e4 --rps 1 --p99 500 --table-cuts 1e4", "not a list of whole numbers"),
        ("plan --catalog 99 --rps 1 --p99 500 --table-cuts 99 --table-ranks 8,4", "has 99"),
        ("plan --catalog 99 --rps 1 --p99 500 --table-ranks 65", "65 is more than the embedding's"),
        ("plan --catalog 99 --rps 1 --p99 500 --table-bytes 1MiB", "between 1 and 25,600"),
        ("plan --catalog 99 --rps 1 --p99 500 --density 0.5", "known once it is trained"),
        (
            "plan --catalog 99 --rps 1 --p99 500 --head two_level",
            "was not measured",
        ),
    ],
)
def test_what_cannot_be_planned_ends_with_2_and_a_reason(
    capsys: pytest.CaptureFixture[str], words: str, part: str
) -> None:
    code, out, err = call(capsys, *words.split())
    assert (code, out) == (2, "")
    assert part in err
    assert "Traceback" not in err
