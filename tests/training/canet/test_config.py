"""The published method's defaults are the documented ones and make the architecture and plan."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from training.canet.config import CanetConfig
from training.plan import TrainPlan, canet_of


def test_the_documented_defaults_are_the_defaults() -> None:
    page = (Path(__file__).parents[3] / "docs" / "evaluation.md").read_text(encoding="utf-8")
    section = page.split("## The published method")[1]
    row = next(line for line in section.splitlines() if line.startswith("| 2, 4"))
    plan = CanetConfig()
    lists = [", ".join(map(str, axis)) for axis in (plan.depths, plan.widths, plan.emb_widths)]
    numbers = [
        plan.max_length,
        plan.epochs,
        plan.patience,
        plan.sequences_per_batch,
        plan.learning_rate,
        plan.dropout,
    ]
    assert [cell.strip() for cell in row.split("|")[1:-1]] == [
        *lists,
        *(f"{number:g}" for number in numbers),
    ]


def test_the_grid_of_the_request_replaces_the_default() -> None:
    asked = TrainPlan(out=Path("unused"), method="canet", depths=(1, 3), max_length=7, epochs=2)
    plan = canet_of(asked)
    assert plan is not None
    assert (plan.depths, plan.widths, plan.epochs) == ((1, 3), (64, 96, 128), 2)
    preset = plan.preset(num_items=9, seed=4)
    assert preset.supernet.memory is None
    assert preset.supernet.num_heads == 4
    assert len(preset.supernet.submodels) == 18
    assert preset.train.tokens_per_batch == 12 * 7
    assert (preset.train.seed, preset.train.epochs) == (4, 2)
    assert canet_of(TrainPlan(out=Path("unused"))) is None


def test_every_hyper_parameter_can_be_given() -> None:
    words = ("sequences_per_batch=128", "learning_rate=3e-4", "guide_weight=0", "patience=3")
    plan = canet_of(TrainPlan(out=Path("unused"), method="canet", epochs=2, canet=words))
    assert plan is not None
    assert (plan.sequences_per_batch, plan.learning_rate) == (128, 3e-4)
    assert (plan.guide_weight, plan.patience, plan.epochs) == (0, 3, 2)


@pytest.mark.parametrize(
    ("method", "word", "said"),
    [
        ("canet", "guide_weights=1", "'guide_weights=1' is no hyper-parameter"),
        ("canet", "guide_weight", "write NAME=VALUE"),
        ("canet", "epochs=3", "'epochs=3' is no hyper-parameter"),
        ("canet", "patience=2.5", "patience is '2.5'; give a whole number"),
        ("canet", "learning_rate=fast", "learning_rate is 'fast'; give a finite number"),
        ("canet", "guide_weight=nan", "guide_weight is 'nan'; give a finite number"),
        ("canet", "sequences_per_batch=0", "sequences_per_batch is 0; it must be at least 1"),
        ("supernet", "guide_weight=1", "the method is supernet"),
    ],
)
def test_what_is_no_hyper_parameter_is_refused(method: str, word: str, said: str) -> None:
    with pytest.raises(ValueError, match=re.escape(said)):
        canet_of(TrainPlan(out=Path("unused"), method=method, canet=(word,)))
