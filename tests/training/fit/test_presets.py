"""The data decide the preset unless a name is given."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from training.data.profile import DataProfile, Kind
from training.fit.presets import PRESETS, choose_preset


def found(kind: Kind) -> DataProfile:
    return DataProfile(
        users=10,
        items=20,
        interactions=100,
        mean_length=10.0,
        median_length=10.0,
        p95_length=20.0,
        max_length=30,
        density=0.5,
        repeat_share=0.0,
        top_item_share=0.1,
        kind=kind,
    )


@pytest.mark.parametrize("kind", ["small", "session-like", "long-history"])
def test_kind_of_data_decides(kind: Kind) -> None:
    preset = choose_preset(found(kind), num_items=20, seed=3)
    assert preset.name == kind
    assert preset.supernet.num_items == 20
    assert preset.train.seed == 3
    assert f"chosen for {kind} data" in preset.summary()
    assert len(preset.supernet.submodels) >= 4


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_name_overrules_the_data(name: str) -> None:
    preset = choose_preset(found("small"), num_items=20, name=name)
    assert preset.name == name
    assert preset.reason == "asked for"


@pytest.mark.parametrize("kind", ["small", "session-like", "long-history"])
def test_compact_is_the_datas_own_preset_with_a_quarter_of_the_units(kind: Kind) -> None:
    own = choose_preset(found(kind), num_items=20, seed=3)
    preset = choose_preset(found(kind), num_items=20, name="compact", seed=3)
    assert preset.name == "compact"
    assert preset.supernet == own.supernet
    sparse = preset.train.sparse
    assert sparse is not None
    assert (sparse.density, sparse.granularity, sparse.masks) == (0.25, "unit", True)
    assert replace(preset.train, sparse=None) == own.train
    assert f"asked for; {kind} data" in preset.summary()
    assert "25% of the weights by unit" in preset.summary()


def test_unknown_name_is_refused_and_the_known_are_listed() -> None:
    with pytest.raises(ValueError, match="'huge' is unknown; known are small, session-like, long"):
        choose_preset(found("small"), num_items=20, name="huge")


def test_the_documented_plans_are_the_plans() -> None:
    page = (Path(__file__).parents[3] / "docs" / "evaluation.md").read_text(encoding="utf-8")
    for name, (axes, plan) in PRESETS.items():
        first, second = (line for line in page.splitlines() if line.startswith(f"| `{name}` |"))
        grid = [", ".join(map(str, axes[key])) for key in ("depths", "widths", "emb_widths")]
        assert plan.max_seconds is not None
        limit = f"{plan.max_seconds / 60:g} min"
        rows = [[cell.strip() for cell in line.split("|")[2:-1]] for line in (first, second)]
        assert [*grid, str(axes["max_length"]), limit] == rows[0][1:]
        plans = [
            plan.epochs,
            plan.patience,
            plan.tokens_per_batch,
            plan.learning_rate,
            plan.dropout,
            plan.student_share,
        ]
        assert [f"{value:g}" for value in plans] == rows[1]
