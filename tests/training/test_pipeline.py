"""One tiny training run, from a file to a published checkpoint, and what it must leave behind."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from cli.main import main
from models.checkpoint.contents import Checkpoint
from models.checkpoint.ranker import ranker_of
from models.checkpoint.read import read_checkpoint
from models.checkpoint.store import current, list_versions
from models.ranker import stack
from models.topk import top_rows
from tests.training.walkers import Told, write_data
from training.evaluate.evaluation import Evaluation
from training.evaluate.from_checkpoint import curve_price, evaluate_checkpoint
from training.fit.gains import GAINS
from training.fit.presets import PRESETS
from training.fit.resume import ResumeDirectory
from training.pipeline import TrainResult, train
from training.plan import TrainRequest
from training.progress import Silent

ROWS = {
    "full",
    "routed",
    "random",
    "static",
    "oracle",
    "submodel",
    "window5",
    "markov",
    "popularity",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    data: Path
    root: Path
    result: TrainResult
    checkpoint: Checkpoint


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    directory = tmp_path_factory.mktemp("pipeline")
    data, root = write_data(directory / "data.csv"), directory / "models"
    result = train(TrainRequest(data=data, out=root, epochs=1), Silent())
    # Later tests move CURRENT on: this is what the first run left.
    assert current(root) == result.version
    return Run(data=data, root=root, result=result, checkpoint=read_checkpoint(result.path))


def evaluated(run: Run, prices: Sequence[float] | None) -> Evaluation:
    return evaluate_checkpoint(
        run.checkpoint,
        run.data,
        columns=None,
        strict=False,
        split="leave-one-out",
        price=None,
        budget=None,
        prices=prices,
        seed=0,
        progress=Silent(),
    )


def test_published_checkpoint_is_accepted_and_says_how_it_came_about(run: Run) -> None:
    manifest = run.checkpoint.manifest
    assert run.checkpoint.version == run.result.version
    assert manifest.parent is None
    assert run.result.epochs == run.result.best_epoch == 1
    assert run.result.stopped == "epochs"
    assert run.checkpoint.config.num_items == 60
    assert run.checkpoint.evaluation == run.result.evaluation.to_json()
    assert not manifest.repeats
    assert not list(run.root.glob(".training-*")), "a finished run leaves no state"


@torch.inference_mode()
def test_golden_answers_replay_through_the_loaded_ranker(run: Run) -> None:
    ranker, catalog = ranker_of(run.checkpoint), run.checkpoint.catalog
    places = {submodel.name: place for place, submodel in enumerate(ranker.served)}
    assert {query.submodel for query in run.checkpoint.golden} == set(places)
    for query in run.checkpoint.golden:
        history = [catalog.item_id(external) or 0 for external in query.history]
        ids_BL, lengths_B = stack([history], ranker.bucket(len(history)))
        place = places[query.submodel]
        scores_V = ranker.score(place, ranker.encode(place, ids_BL, lengths_B), ids_BL, lengths_B)[
            0
        ]
        scores_V[history] = -torch.inf
        rows, scores = top_rows(scores_V, len(query.items))
        assert [catalog.external_id(row) for row in rows] == list(query.items)
        assert scores == pytest.approx(query.scores, abs=1e-5)


def test_every_row_is_there_and_pays_for_what_it_runs(run: Run) -> None:
    found = run.result.evaluation
    assert {row.name for row in found.rows} == ROWS
    submodels = [row for row in found.rows if row.name == "submodel"]
    assert [row.submodel for row in submodels] == list(found.mix)
    assert found.cases == 200
    assert sum(found.mix.values()) == pytest.approx(1.0)
    full, routed, random = found.row("full"), found.row("routed"), found.row("random")
    assert full.flops_ratio == pytest.approx(1.0)
    assert random.flops == routed.flops
    assert routed.flops is not None
    entries = run.checkpoint.manifest.submodels
    assert all(entry.flops_router > 0 for entry in entries)
    cheapest = submodels[0].flops
    assert cheapest is not None
    assert routed.flops >= cheapest + entries[0].flops_router - 1e-6
    oracle = found.row("oracle")
    assert all(oracle.metrics[key] >= row.metrics[key] for row in submodels for key in row.metrics)
    assert found.oracle_bound is not None
    assert found.oracle_bound >= routed.metrics["ndcg@10"]


def test_full_and_routed_say_how_much_of_the_catalog_they_show(run: Run) -> None:
    for name in ("full", "routed"):
        metrics = run.result.evaluation.row(name).metrics
        assert 0 < metrics["coverage@10"] <= metrics["coverage@20"] <= 1


def test_other_prices_span_the_frontier_and_cost_less_as_they_rise(run: Run) -> None:
    found = run.result.evaluation
    first, *others = [row for row in found.rows if row.name == "routed"]
    assert first.price == found.price
    assert first.difference is None
    curve = [point.price for point in run.checkpoint.manifest.router.price_curve]
    prices = [point.price for point in found.frontier]
    assert 3 <= len(prices) <= 6
    assert (prices[0], prices[-1]) == (min(curve), max(curve))
    assert [row.price for row in others] == prices == sorted(prices)
    for row, point in zip(others, found.frontier, strict=True):
        assert row.metrics["ndcg@10"] == pytest.approx(point.ndcg)
        assert row.flops_ratio == pytest.approx(point.flops_ratio)
        assert row.difference == pytest.approx(
            first.metrics["ndcg@10"] - row.metrics["ndcg@10"], abs=1e-12
        )
        assert point.low <= point.ndcg <= point.high
        assert point.random_low <= point.random <= point.random_high
        assert point.oracle >= max(point.ndcg, point.random) - 1e-12
        assert sum(point.mix.values()) == pytest.approx(1.0)
    for one, other in pairwise(found.frontier):
        assert one.flops_ratio >= other.flops_ratio


def test_price_curve_never_rises_in_cost(run: Run) -> None:
    curve = run.checkpoint.manifest.router.price_curve
    assert len(curve) > 10
    for one, other in pairwise(curve):
        assert one.price < other.price
        assert one.flops_ratio >= other.flops_ratio


def test_random_row_is_the_routed_mix_over_the_submodel_rows(run: Run) -> None:
    found = run.result.evaluation
    submodels = {row.submodel or "": row for row in found.rows if row.name == "submodel"}
    for key, value in found.row("random").metrics.items():
        mixed = sum(share * submodels[name].metrics[key] for name, share in found.mix.items())
        assert value == pytest.approx(mixed)


def test_evaluating_the_checkpoint_again_gives_the_stored_figures(run: Run) -> None:
    again = evaluated(run, None)
    for name in ("routed", "full", "random", "window5", "popularity"):
        assert again.row(name).metrics == pytest.approx(run.result.evaluation.row(name).metrics)
        assert again.row(name).flops == run.result.evaluation.row(name).flops
    assert dict(again.mix) == dict(run.result.evaluation.mix)


def test_a_smaller_budget_means_a_higher_price_and_costs_no_more(run: Run) -> None:
    """How closely a budget is met takes more users to show: tests/training/publish."""
    curve = sorted(run.checkpoint.manifest.router.price_curve, key=lambda point: point.price)
    least, most = curve[-1].flops_ratio, curve[0].flops_ratio
    budgets = [float(budget) for budget in np.geomspace(most, least * (1 + 1e-9), 5)]
    prices = [curve_price(run.checkpoint, budget) for budget in budgets]
    assert prices == sorted(set(prices))
    spent = [found.flops_ratio for found in evaluated(run, prices).frontier]
    assert all(one >= other for one, other in pairwise(spent))
    assert spent[0] > spent[-1]


def test_the_command_writes_a_report_beside_its_json(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = tmp_path / "report.html"
    arguments = ["evaluate", str(run.root), "--data", str(run.data), "--version"]
    arguments += [run.result.version, "--html", str(report), "--prices", "0.5", "0", "--json"]
    assert main(arguments) == 0
    found = json.loads(capsys.readouterr().out)
    assert [point["price"] for point in found["frontier"]] == [0.0, 0.5]
    assert {"flops_ratio", "ndcg@10", "low", "high", "random_ndcg@10"} <= set(found["frontier"][0])
    assert found["oracle_bound"] == pytest.approx(run.result.evaluation.oracle_bound)
    text = report.read_text(encoding="utf-8")
    assert run.result.version in text
    assert text.count("<svg") == 4


def test_budget_below_the_cheapest_is_refused_and_publishes_nothing(run: Run) -> None:
    before = list_versions(run.root), current(run.root)
    request = TrainRequest(data=run.data, out=run.root, epochs=1, budget=0.0001, resume=False)
    with pytest.raises(ValueError, match=r"0\.0001 .* cheapest submodels cost 0\.\d+; raise"):
        train(request, Silent())
    assert (list_versions(run.root), current(run.root)) == before


def test_temporal_run_names_the_first_version_as_parent(run: Run) -> None:
    request = TrainRequest(data=run.data, out=run.root, epochs=1, split="temporal", seed=1)
    second = train(request, Silent())
    assert current(run.root) == second.version != run.result.version
    manifest = read_checkpoint(second.path).manifest
    assert manifest.parent == run.result.version
    assert str(manifest.training["split"]).startswith("temporal")


def test_a_grid_of_one_trains_a_plain_network(run: Run, tmp_path: Path) -> None:
    request = TrainRequest(
        data=run.data,
        out=tmp_path,
        epochs=1,
        depths=(1,),
        widths=(32,),
        emb_widths=(32,),
        max_length=16,
    )
    result = train(request, Silent())
    checkpoint = read_checkpoint(result.path)
    assert [entry.name for entry in checkpoint.manifest.submodels] == ["d1-w32-e32"]
    assert checkpoint.config.max_length == 16
    assert result.evaluation.mix == {"d1-w32-e32": 1.0}


def test_a_killed_run_counts_the_time_before_the_kill(run: Run, tmp_path: Path) -> None:
    class Killed(Silent):
        def log(self, message: str) -> None:
            if message.startswith("epoch 2:"):
                raise InterruptedError

    request = TrainRequest(data=run.data, out=tmp_path, epochs=2)
    with pytest.raises(InterruptedError):
        train(request, Killed())
    (directory,) = tmp_path.glob(".training-*")
    state = ResumeDirectory(tmp_path, directory.name.removeprefix(".training-"))
    saved = state.load()
    assert saved is not None
    saved[1]["epochs"][0]["seconds"] = 10_000.0
    state.save(*saved)
    result = train(request, Silent())
    assert 10_000 < result.seconds < 20_000
    training = read_checkpoint(result.path).manifest.training
    assert training["seconds"] == pytest.approx(result.seconds, abs=0.1)


def test_a_wrong_grid_is_refused_with_its_value(run: Run, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="width 30 is not divisible"):
        train(TrainRequest(data=run.data, out=tmp_path, widths=(30, 60)), Silent())
    assert not list(tmp_path.iterdir())


def test_a_grown_network_learns_its_router_from_unseen_users_and_closes(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    axes, plan = PRESETS["small"]
    grown = replace(
        plan,
        epochs=3,
        growth_epochs=1,
        memory_joins="afterwards",
        router_users=0.2,
        closing_epochs=1,
    )
    monkeypatch.setitem(PRESETS, "small", (axes, grown))
    told = Told()
    result = train(TrainRequest(data=run.data, out=tmp_path, preset="small"), told)
    assert result.epochs == 4
    lines = "\n".join(told.lines)
    for words in ("d1-w32-e64", "d2-w64-e64", "weight of the transition memory", "closing:"):
        assert words in lines
    checkpoint = read_checkpoint(result.path)
    gains = checkpoint.tensors["supernet.memory_gain"]
    assert all(gain in GAINS for gain in (round(gain, 4) for gain in gains.flatten().tolist()))
