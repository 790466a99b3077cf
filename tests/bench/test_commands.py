"""Every subcommand runs from one command, says what it did, and refuses what makes no sense."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from bench.__main__ import SUBCOMMANDS, main
from bench.options import count, setting
from bench.processes import descendants, python
from bench.report import Report, Value, table
from models.capacity import read_coefficients

pytestmark = pytest.mark.long


def quick(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, Any]:
    """Run a subcommand as small as it gets and return its JSON."""
    assert main([*words, "--quick", "--json"]) == 0
    told: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert told["machine"]
    assert any("--quick" in sentence for sentence in told["method"])
    assert told["rows"]
    return told


def test_load_searches_for_the_highest_rate(capsys: pytest.CaptureFixture[str]) -> None:
    told = quick(capsys, "load", "--p99", "5000")
    assert told["rows"][0]["objective"] == "p99 <= 5000 ms"
    assert told["rows"][0]["highest rate /s"] > 0
    assert any("latency from the due time" in sentence for sentence in told["method"])


def test_load_measures_the_rates_it_is_given(capsys: pytest.CaptureFixture[str]) -> None:
    told = quick(capsys, "load", "--rate", "10", "--rate", "20", "--p99", "60000", "--full")
    assert [row["rate /s"] for row in told["rows"]] == [10, 20]
    assert [row["failed"] for row in told["rows"]] == [0, 0]
    assert [row["held 60000 ms"] for row in told["rows"]] == ["1 of 1", "1 of 1"]


def test_ceiling_compares_with_the_null_handler(capsys: pytest.CaptureFixture[str]) -> None:
    told = quick(capsys, "ceiling")
    assert [row["server"] for row in told["rows"]] == ["null handler", "service, routed"]
    assert all(row["requests /s"] > 0 for row in told["rows"])
    assert told["findings"][0].startswith("Share of the ceiling: ")
    assert all(one["cpu_share"] > 0 for one in told["rounds"])


def test_routed_vs_full_counts_flops_and_cpu(capsys: pytest.CaptureFixture[str]) -> None:
    told = quick(capsys, "routed-vs-full", "--p99", "5000")
    assert [row["encoder share asked"] for row in told["rows"]] == ["10%", "20%", "35%"]
    flops = [float(row["FLOPs, of full"].rstrip("%")) for row in told["rows"]]
    assert 0 < flops[0] < flops[2] < 100
    for row in told["rows"]:
        assert row["inference ms routed"] > 0
        assert row["rate routed"] > 0
    assert "d1-" in told["findings"][0]


def test_catalog_shows_memory(capsys: pytest.CaptureFixture[str]) -> None:
    told = quick(capsys, "catalog", "--p99", "5000")
    assert [row["asked"] for row in told["rows"]] == ["routed", "full"]
    assert all(row["peak MiB"] >= row["resident MiB"] > 20 for row in told["rows"])


def test_cold_start_ends_with_an_answer(capsys: pytest.CaptureFixture[str]) -> None:
    told = quick(capsys, "cold-start")
    ready, answered, request = (row["seconds"] for row in told["rows"])
    assert 0 < ready < answered
    assert answered == pytest.approx(ready + request)


def test_soak_finds_nothing_unexpected_and_tells_every_slope(
    capsys: pytest.CaptureFixture[str],
) -> None:
    told = quick(capsys, "soak")
    assert [row["measure"] for row in told["rows"]] == [
        "resident MiB",
        "file descriptors",
        "threads",
        "Redis connections",
    ]
    assert told["unexpected"] == {}
    assert sum(told["answers"].values()) >= 600
    assert {"recommend", "events", "delete", "session", "merge"} <= told["answers"].keys()


def test_overload_compares_both_policies(capsys: pytest.CaptureFixture[str]) -> None:
    told = quick(capsys, "overload", "--p99", "5000")
    assert [row["policy"] for row in told["rows"]] == ["shrink_then_shed", "shed"]
    assert all(row["answered /s"] > 0 for row in told["rows"])
    # The generator may run out of connections while a busy machine answers late.
    others = {what for row in told["rows"] for what in row["other failures"].split(", ")}
    assert all(what == "0" or what.endswith(" no connection") for what in others), others


def test_peers_run_beside_the_service(capsys: pytest.CaptureFixture[str]) -> None:
    told = quick(capsys, "peers", "--p99", "5000")
    assert [row["server"] for row in told["rows"]] == [
        "canet serve, routed",
        "canet serve, full",
        "plain FastAPI",
        "LitServe",
    ]
    assert all(row["closed loop /s"] > 0 for row in told["rows"])


def test_fit_plan_writes_coefficients(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "here.json"
    told = quick(capsys, "fit-plan", "--no-rates", "--out", str(path))
    found = read_coefficients(path)
    assert found.points + found.held_out == len(told["rows"])
    assert found.rate_median is None
    assert json.loads(told["coefficients"]) == json.loads(path.read_text())


@pytest.mark.parametrize(
    ("words", "part"),
    [
        ("", "SUBCOMMAND"),
        ("nonsense", "invalid choice"),
        ("load --rate 0", "0 is not a number above 0"),
        ("load --rate many", "'many' is not a number"),
        ("load --items 1.5", "1.5 is not a whole number"),
        ("load --p99 -1", "-1 is not a number above 0"),
        ("load --arrivals bursty", "bursty"),
        ("load --set CANET_NONSENSE=1", "docs/settings.md"),
        ("load --set CANET_MAX_BATCH", "CANET_NAME=VALUE"),
        ("load --encoder-share 2", "2 is not a share: give a number up to 1"),
        ("routed-vs-full --encoder-share 0.1,2", "2 is not a share: give a number up to 1"),
        ("load --width 100", "width is 100; give a multiple of 16"),
        ("catalog --items 10,,20", "'' is not a number"),
        ("peers --peer nobody", "nobody"),
    ],
)
def test_wrong_arguments_end_with_2_and_a_reason(
    capsys: pytest.CaptureFixture[str], words: str, part: str
) -> None:
    try:
        code = main(words.split())
    except SystemExit as end:
        code = int(end.code or 0)
    captured = capsys.readouterr()
    assert (code, captured.out) == (2, "")
    assert part in captured.err
    assert "Traceback" not in captured.err


def test_a_setting_that_the_service_refuses_ends_with_1_and_its_words(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["load", "--quick", "--set", "CANET_MAX_BATCH=0"]) == 1
    assert "CANET_MAX_BATCH is '0'" in capsys.readouterr().err


def test_a_terminated_measurement_leaves_no_server_behind() -> None:
    bench = subprocess.Popen(python("-m", "bench", "ceiling", "--quick"))
    try:
        started: list[int] = []
        while len(started) < 3 and bench.poll() is None:  # Redis, load generator, service
            time.sleep(0.02)
            started = descendants(bench.pid)
        bench.terminate()
        assert bench.wait(timeout=60) == 128 + signal.SIGTERM
        assert len(started) == 3
        assert not [pid for pid in started if Path(f"/proc/{pid}/exe").exists()]
    finally:
        bench.kill()


def test_every_subcommand_is_named_in_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    words = set(capsys.readouterr().out.split())
    written = {"load", "ceiling", "routed-vs-full", "peers", "catalog", "cold-start", "fit-plan"}
    assert written <= words & set(SUBCOMMANDS)


def test_numbers_may_be_written_as_powers() -> None:
    assert count("1e6") == 1_000_000
    assert setting("CANET_MAX_BATCH=8") == ("CANET_MAX_BATCH", "8")


def test_a_report_is_a_markdown_table(capsys: pytest.CaptureFixture[str]) -> None:
    rows: list[dict[str, Value]] = [
        {"name": "a", "rate": 1234.5, "ms": None},
        {"name": "long", "rate": 0.04, "ms": 12.34},
    ]
    assert table(rows).splitlines() == [
        "| name | rate  | ms   |",
        "|------|-------|------|",
        "| a    | 1,234 | -    |",
        "| long | 0.04  | 12.3 |",
    ]
    assert table([]) == "(nothing measured)"
    Report(name="n", method=("m.",), machine="x", rows=rows, findings=["f"]).show(as_json=False)
    assert capsys.readouterr().out.startswith("# n\n\nMachine: x.\nMethod: m.\n")
