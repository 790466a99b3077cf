"""The evaluation table as JSON and as text."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest

from training.evaluate.report import Row, render_table

METRICS = {"ndcg@10": 0.18, "hr@10": 0.31, "mrr@10": 0.14, "coverage@10": 0.5, "ndcg@20": 0.2}
ROUTED = Row(name="routed", price=0.02, metrics=METRICS, flops=1.5e6, flops_ratio=0.35, cpu_ms=1.25)
STATIC = Row(
    name="static",
    submodel="d2-w64-e64",
    metrics=METRICS,
    flops=1.4e6,
    flops_ratio=0.33,
    cpu_ms=1.0,
    difference=0.004,
    low=0.001,
    high=0.007,
    p=0.0004,
)
FLOOR = Row(name="window5", metrics=METRICS)


def test_json_has_every_key_and_null_where_nothing_was_measured() -> None:
    assert json.loads(json.dumps(FLOOR.to_json(), allow_nan=False)) == {
        "name": "window5",
        "submodel": None,
        "price": None,
        "ndcg@10": 0.18,
        "hr@10": 0.31,
        "mrr@10": 0.14,
        "coverage@10": 0.5,
        "coverage@20": None,
        "ndcg@20": 0.2,
        "ndcg@10_low": None,
        "ndcg@10_high": None,
        "flops": None,
        "flops_ratio": None,
        "cpu_ms": None,
        "difference": None,
        "low": None,
        "high": None,
        "p": None,
        "relative": None,
        "relative_low": None,
        "relative_high": None,
        "each": None,
    }
    assert STATIC.to_json()["p"] == 0.0004


def test_the_plain_table_is_aligned_ascii_whatever_the_width(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COLUMNS", "20")
    text = render_table([ROUTED, STATIC, FLOOR], styled=False)
    lines = text.split("\n")
    assert text.isascii()
    assert "\x1b" not in text
    assert len({len(line) for line in lines}) == 1
    assert [cell.strip() for cell in lines[1].split("|")[1:-1]] == [
        "",
        "submodel",
        "price",
        "NDCG@10",
        "HR@10",
        "MRR@10",
        "coverage@10",
        "MFLOPs",
        "of full",
        "CPU ms",
        "routed ahead by",
        "95 % interval",
        "p",
    ]
    static = next(line for line in lines if "static" in line)
    assert [cell.strip() for cell in static.split("|")[1:-1]] == [
        "static",
        "d2-w64-e64",
        "",
        "0.1800",
        "0.3100",
        "0.1400",
        "0.5000",
        "1.40",
        "33.0%",
        "1.00",
        "+0.0040",
        "+0.0010 to +0.0070",
        "<.001",
    ]


def test_columns_that_no_row_fills_are_left_out() -> None:
    text = render_table([FLOOR], styled=False)
    assert "price" not in text
    assert "MFLOPs" not in text


def test_other_metrics_can_be_asked_for() -> None:
    text = render_table([FLOOR], metrics=["ndcg@20"], styled=False)
    assert "NDCG@20" in text
    assert "HR@10" not in text


def test_a_terminal_gets_colours_and_a_pipe_does_not() -> None:
    assert "\x1b[1m" in render_table([ROUTED], styled=True)
    assert "\x1b" not in render_table([ROUTED])  # under pytest, standard output is no terminal


def test_no_rows_give_no_error() -> None:
    assert render_table([], styled=False) == ""


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "best"}, "row name 'best' is unknown; known are full, routed"),
        ({"metrics": {"ndcg@10": 0.1, "hr@10": 0.2}}, "lacks the metrics mrr@10"),
        ({"metrics": METRICS | {"hr@10": math.nan}}, "hr@10 of row 'full' is nan"),
        ({"metrics": METRICS | {"flops": 1.0}}, "metrics flops of row 'full' are columns"),
        ({"flops": math.inf}, "flops of row 'full' is inf"),
        ({"difference": 0.1, "p": 0.5}, "has difference, p of a comparison"),
    ],
)
def test_rows_that_say_too_little_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Row(**({"name": "full", "metrics": METRICS} | change))
