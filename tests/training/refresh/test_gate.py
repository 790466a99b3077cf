"""The gate: what is let through, and what is refused for which reason."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from models.checkpoint.read import read_checkpoint
from tests.models.published import publish_random
from training.evaluate.evaluation import Evaluation
from training.evaluate.report import Row
from training.refresh.errors import RefusedError
from training.refresh.gate import REASONS, Gate, Live, judge, replay_golden

LIVE = Live(version="v1", ndcg_10=0.2, cases=90, items=100, rows=1000)


def found(*, ndcg: float = 0.2, ratio: float = 0.4, cases: int = 100) -> Evaluation:
    row = Row(
        name="routed",
        submodel=None,
        price=0.1,
        metrics={"ndcg@10": ndcg, "hr@10": ndcg, "mrr@10": ndcg},
        flops=1.0,
        flops_ratio=ratio,
        cpu_ms=None,
        difference=None,
        low=None,
        high=None,
        p=None,
    )
    return Evaluation(rows=(row,), mix={}, cases=cases, price=0.1)


@pytest.mark.parametrize(
    ("gate", "figures", "items", "rows", "live"),
    [
        (Gate(), {}, 100, 1000, LIVE),
        (Gate(), {"ndcg": 0.1981}, 100, 1000, LIVE),
        (Gate(), {"ndcg": 0.001}, 1, 1, None),
        (Gate(), {}, 50, 500, LIVE),
        (Gate(min_saved=-1), {"ratio": 1.02}, 100, 1000, LIVE),
        (Gate(tolerance=1.0), {"ndcg": 0.0}, 100, 1000, LIVE),
        (Gate(min_cases=1), {"cases": 1}, 100, 1000, LIVE),
    ],
)
def test_what_is_let_through(
    gate: Gate, figures: dict[str, Any], items: int, rows: int, live: Live | None
) -> None:
    judge(gate, found(**figures), live, items=items, rows=rows)


@pytest.mark.parametrize(
    ("gate", "figures", "items", "rows", "reason"),
    [
        (Gate(), {"ndcg": 0.1979}, 100, 1000, "accuracy"),
        (Gate(tolerance=0.0), {"ndcg": 0.1999}, 100, 1000, "accuracy"),
        (Gate(), {"ratio": 1.01}, 100, 1000, "savings"),
        (Gate(), {"ratio": 0.001}, 100, 1000, "savings"),
        (Gate(), {}, 49, 1000, "size"),
        (Gate(), {}, 100, 499, "size"),
        (Gate(), {"cases": 19}, 100, 1000, "size"),
    ],
)
def test_what_is_refused_and_why(
    gate: Gate, figures: dict[str, Any], items: int, rows: int, reason: str
) -> None:
    with pytest.raises(RefusedError) as caught:
        judge(gate, found(**figures), LIVE, items=items, rows=rows)
    assert caught.value.reason == reason


def test_golden_answers_that_do_not_repeat_are_refused(tmp_path: Path) -> None:
    checkpoint = read_checkpoint(tmp_path / publish_random(tmp_path))
    replay_golden(checkpoint)
    first, *others = checkpoint.golden
    for score in (first.scores[0] + 0.01, float("nan")):
        changed = replace(first, scores=(score, *first.scores[1:]))
        with pytest.raises(RefusedError, match="golden query 1 on") as caught:
            replay_golden(replace(checkpoint, golden=[changed, *others]))
        assert caught.value.reason == "golden"


def test_every_reason_is_counted_from_the_start() -> None:
    assert set(REASONS) == {"accuracy", "savings", "size", "golden"}


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"tolerance": -0.1}, "tolerance"),
        ({"max_shrink": 2.0}, "max_shrink"),
        ({"min_saved": 0.9, "max_saved": 0.1}, "savings"),
        ({"min_cases": 0}, "min_cases"),
    ],
)
def test_bounds_that_make_no_sense_are_named(wrong: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        Gate(**wrong)
