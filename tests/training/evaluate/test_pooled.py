"""Several trainings read as one, by the command."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from cli.main import main
from models.checkpoint.read import read_checkpoint
from models.checkpoint.store import current
from tests.training.walkers import write_data
from training.evaluate.from_checkpoint import curve_price
from training.evaluate.lines import Line
from training.evaluate.pooled import pool
from training.pipeline import train
from training.plan import TrainRequest
from training.progress import Silent


@dataclass(frozen=True, slots=True, kw_only=True)
class Runs:
    data: Path
    roots: tuple[Path, Path]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    directory = tmp_path_factory.mktemp("trainings")
    data = write_data(directory / "data.csv")
    roots = directory / "0", directory / "1"
    for seed, root in enumerate(roots):
        train(TrainRequest(data=data, out=root, epochs=1, seed=seed), Silent())
    return Runs(data=data, roots=roots)


def test_one_root_pooled_is_that_root(runs: Runs, capsys: pytest.CaptureFixture[str]) -> None:
    root = runs.roots[0]
    checkpoint = read_checkpoint(root / (current(root) or ""))
    curve = sorted(checkpoint.manifest.router.price_curve, key=lambda point: point.price)
    budget = (curve[0].flops_ratio + curve[-1].flops_ratio) / 2
    arguments = ["evaluate", str(root), "--data", str(runs.data), "--json"]
    assert main([*arguments, "--budgets", str(budget)]) == 0
    found = json.loads(capsys.readouterr().out)
    (table,) = found["tables"]
    assert found["versions"] == [checkpoint.version]
    assert table["budget"] == budget
    assert main([*arguments, "--price", str(curve_price(checkpoint, budget))]) == 0
    alone = json.loads(capsys.readouterr().out)
    assert found["cases"] == alone["cases"]
    rows = {
        row["name"]: row
        for row in reversed(alone["rows"])
        if row["price"] in (None, alone["price"])
    }
    names = [row["name"] for row in table["rows"]]
    assert names == [
        "full",
        "routed",
        "random",
        "static",
        "oracle",
        "window5",
        "markov",
        "popularity",
    ]
    for row in table["rows"]:
        assert row["each"] == [row["ndcg@10"]]
        for key in ("submodel", "price", "ndcg@20", "flops_ratio", "difference", "low", "relative"):
            assert row[key] == rows[row["name"]][key], (row["name"], key)


def test_two_trainings_are_averaged_case_by_case(
    runs: Runs, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["evaluate", *map(str, runs.roots), "--data", str(runs.data)]
    other = runs.roots[1]
    assert main([*arguments, "--json", "--beside", f"plain={other}"]) == 0
    (table,) = json.loads(capsys.readouterr().out)["tables"]
    rows = {row["name"]: row for row in table["rows"]}
    for name in ("full", "routed", "random", "static", "oracle"):
        assert len(rows[name]["each"]) == 2
        assert rows[name]["ndcg@10"] == pytest.approx(float(np.mean(rows[name]["each"])))
    assert rows["full"]["each"][1] == rows["plain"]["ndcg@10"]
    assert rows["full"]["flops_ratio"] == pytest.approx(1)
    difference = rows["routed"]["ndcg@10"] - rows["full"]["ndcg@10"]
    assert rows["full"]["difference"] == pytest.approx(difference)
    assert main([*arguments, "--budgets", "0.9", "0.95"]) == 0
    text = capsys.readouterr().out
    assert "Budget 0.9 of always-full's FLOPs:" in text
    assert "each training" in text


def test_lines_of_different_systems_are_not_pooled() -> None:
    one = Line(name="routed", metrics={"ndcg@10": np.ones(3)})
    with pytest.raises(ValueError, match="same systems"):
        pool([[one], [replace(one, name="full")]], full_costs=(1.0, 1.0), budget=None, seed=0)
