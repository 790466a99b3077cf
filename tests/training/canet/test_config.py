"""The published method's defaults are the documented ones and make the architecture and plan."""

from __future__ import annotations

from pathlib import Path

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
