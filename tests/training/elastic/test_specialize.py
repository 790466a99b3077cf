"""From one elastic training to checkpoints of any size: measured, exact, servable, refused."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from bench.__main__ import main as bench
from cli.main import main
from models.checkpoint.contents import Checkpoint
from models.checkpoint.elastic import SEARCHES
from models.checkpoint.ranker import ranker_of
from models.checkpoint.read import read_checkpoint
from models.checkpoint.store import current
from models.checkpoint.write import write_checkpoint
from service.engine.torch_engine import load_engine
from service.lifecycle.trial import prove
from tests.models.published import publish_random
from tests.training.elastic.conftest import Trained
from training.data.reading import make_split, read
from training.elastic.config import Choice
from training.elastic.probe import Probe, _score
from training.elastic.specialize import probe_of, specialize
from training.elastic.values import problem_of
from training.evaluate.metrics import ndcg_at
from training.evaluate.quality import ranks_by_submodel, routed_places
from training.fit.cases import sample_cases
from training.progress import Silent


@pytest.fixture(scope="module")
def probe(trained: Trained) -> Probe:
    return probe_on(trained)


def probe_on(trained: Trained) -> Probe:
    data = read(trained.data, None, strict=False, progress=Silent())
    parts = make_split(data, "leave-one-out", catalog=trained.checkpoint.catalog)
    return probe_of(trained.checkpoint, sample_cases(parts.validation, 60, 0))


def written(root: Path, trained: Trained, budget: int, **more: object) -> Checkpoint:
    found = specialize(trained.checkpoint, budget=budget, **more)  # type: ignore[arg-type]
    return read_checkpoint(root / write_checkpoint(root, found.contents))


def test_training_leaves_measurements_of_every_group_and_width(trained: Trained) -> None:
    entry = trained.checkpoint.manifest.elastic
    assert entry is not None
    assert entry.stops == (16, 31, 46, 61)
    assert entry.widths == (2, 8, 32, 64)
    assert entry.cases == 200
    assert np.shape(entry.divergence) == np.shape(entry.log_rank) == (4, 4)
    assert (np.array(entry.divergence) > -1e-5).all()
    assert np.array(entry.divergence)[:, 0].min() > 0
    assert sum(entry.traffic) == pytest.approx(1, abs=1e-4)
    assert all(sum(row) == pytest.approx(1, abs=1e-4) for row in entry.exposure)
    assert any(any(row) for row in entry.scale)
    size = (trained.checkpoint.path / "manifest.json").stat().st_size
    assert size < 200_000


def test_one_group_narrowed_is_measured_as_the_whole_network_is(either: Trained) -> None:
    """The short cuts of `alone` against scoring everything again, for every group and width."""
    probe = probe_on(either)
    elastic = probe.narrowing.elastic
    found = probe.alone()
    whole = scores_of(probe, elastic.whole)
    for group in range(len(elastic.stops)):
        for place in range(len(elastic.widths)):
            choice_G = elastic.whole
            choice_G[group] = place
            narrowed = scores_of(probe, choice_G)
            divergence, log_rank = [], []
            for (before_V, target), (after_V, _) in zip(whole, narrowed, strict=True):
                ranked = np.isfinite(before_V)
                share_V = log_softmax(before_V[ranked])
                fall_V = share_V - log_softmax(after_V[ranked])
                divergence.append((np.exp(share_V) * fall_V).sum())
                log_rank.append(np.log(rank_in(after_V, target) / rank_in(before_V, target)))
            assert found.divergence_GW[group, place] == pytest.approx(np.mean(divergence), abs=1e-5)
            assert found.log_rank_GW[group, place] == pytest.approx(np.mean(log_rank), abs=1e-9)


def scores_of(probe: Probe, choice_G: Choice) -> list[tuple[NDArray[np.float64], int]]:
    """Return each case's scores of all rows and its target, scored by the narrowed network."""
    ranker = probe._narrowed(choice_G)
    found = []
    for batch in probe._batches():
        scores_BV = _score(ranker, batch, probe._encode(ranker, batch)).astype(np.float64)
        found += list(zip(scores_BV, batch.targets_B.tolist(), strict=True))
    return found


def log_softmax(scores_N: NDArray[np.float64]) -> NDArray[np.float64]:
    found: NDArray[np.float64] = torch.log_softmax(torch.from_numpy(scores_N), dim=0).numpy()
    return found


def rank_in(scores_V: NDArray[np.float64], target: int) -> float:
    above = np.count_nonzero(scores_V > scores_V[target])
    level = np.count_nonzero(scores_V == scores_V[target])
    return float(1 + above + (level - 1) / 2)


def test_the_probe_ranks_as_the_specialised_network_does(either: Trained, tmp_path: Path) -> None:
    probe, checkpoint = probe_on(either), written(tmp_path, either, 4_000)
    done = checkpoint.manifest.specialized
    assert done is not None
    choice_G = np.array([probe.narrowing.elastic.widths.index(one) for one in done.widths])
    before = ranker_of(either.checkpoint)
    after = ranker_of(checkpoint)
    price = either.checkpoint.manifest.router.price
    places_U = routed_places(before, probe.cases, price)
    names = [one.name for one in after.served]
    ranks_US = ranks_by_submodel(after, probe.cases, exclude_seen=True)
    moved_U = [names.index(before.served[place].name) for place in places_U]
    expected_U = ndcg_at(ranks_US[np.arange(len(moved_U)), moved_U], 10)
    assert probe.ndcg(choice_G) == pytest.approx(expected_U, abs=1e-9)


@pytest.mark.parametrize("search", ["knapsack", "random", "uniform", "popularity"])
def test_what_a_service_holds_is_within_the_budget(
    either: Trained, tmp_path: Path, search: str
) -> None:
    """Rows and biases, which are on disk, and the lists of columns, which are in the manifest."""
    for budget in (1_650, 6_001, 50_000):
        checkpoint = written(tmp_path, either, budget, search=search)
        ranker = ranker_of(checkpoint)
        tables = [ranker.table, *(one.table for one in ranker._weights)]
        tensors = [ranker.item_bias_V, *(one for table in tables for one in table.tensors())]
        held = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors}
        done = checkpoint.manifest.specialized
        assert done is not None
        lists = [part.columns_R for table in tables for part in table.parts]
        index = {
            one.untyped_storage().data_ptr(): one.untyped_storage().nbytes()
            for one in lists
            if one is not None
        }
        assert sum(held.values()) + sum(index.values()) <= done.table_bytes <= budget
        on_disk = sum(
            tensor.nbytes
            for name, tensor in checkpoint.tensors.items()
            if "table" in name or name == "supernet.item_bias"
        )
        assert on_disk == sum(held.values())


def test_a_service_takes_it_and_answers(either: Trained, tmp_path: Path) -> None:
    checkpoint = written(tmp_path, either, 3_000)
    engine = load_engine(checkpoint.path, price=None, allowed=None)
    prove(engine, checkpoint.path)
    costs = [one.flops for one in checkpoint.manifest.submodels]
    assert costs == sorted(costs)
    whole = either.checkpoint.manifest
    assert costs[-1] < whole.submodels[-1].flops
    assert checkpoint.manifest.router.price == whole.router.price
    assert checkpoint.manifest.parent == either.checkpoint.version
    curve = checkpoint.manifest.router.price_curve
    assert len(curve) > 5
    for one, other in pairwise(curve):
        assert one.price < other.price
        assert one.flops_ratio >= other.flops_ratio


@torch.inference_mode()
def test_the_router_predicts_what_it_did(trained: Trained, probe: Probe, tmp_path: Path) -> None:
    before, after = ranker_of(trained.checkpoint), ranker_of(written(tmp_path, trained, 2_000))
    recent_BW = np.random.default_rng(0).integers(1, 61, (20, 10))
    lengths_B = np.full(20, 10)
    names = [one.name for one in after.served]
    order = [names.index(one.name) for one in before.served]
    expected = before.quality(recent_BW, lengths_B)
    assert after.quality(recent_BW, lengths_B)[:, order] == pytest.approx(expected, abs=1e-6)


def test_evolution_needs_users_and_measures_what_it_returns(
    trained: Trained, probe: Probe, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match="give --data"):
        specialize(trained.checkpoint, budget=3_000, search="evolution")
    from training.elastic.search.evolution import EvolutionConfig

    short = EvolutionConfig(labels=4, rounds=1, checked=2, generations=2)
    found = specialize(
        trained.checkpoint, budget=3_000, search="evolution", probe=probe, evolution=short
    )
    assert found.entry.measured_ndcg_10 is not None
    assert found.entry.table_bytes <= 3_000
    assert found.contents.metrics["measured_validation_ndcg_10"] == found.entry.measured_ndcg_10


def test_more_memory_is_expected_to_be_no_worse(trained: Trained) -> None:
    expected = [
        specialize(trained.checkpoint, budget=budget).entry.expected_ndcg_10
        for budget in (1_000, 2_000, 4_000, 8_000, 16_000)
    ]
    assert expected == sorted(expected)


def test_the_command_publishes_and_refuses(
    trained: Trained, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["specialize", str(trained.root), "--out", str(tmp_path), "--memory"]
    assert main([*command, "4KiB", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["version"] == current(tmp_path)
    assert told["table_bytes"] <= told["budget_bytes"] == 4096
    assert main([*command, "4KiB", "--data", str(trained.data)]) == 0
    assert "measured" in capsys.readouterr().out
    assert main(["specialize", str(tmp_path), "--out", str(tmp_path), "--memory", "4KiB"]) == 4
    assert f"specialise {trained.checkpoint.version}" in capsys.readouterr().err
    assert main([*command, "500"]) == 1
    entry = trained.checkpoint.manifest.elastic
    assert entry is not None
    least = problem_of(entry, 10**6, 2).least
    assert f"take {least:,} bytes, the least that is feasible" in capsys.readouterr().err
    assert main([*command, "4KiB", "--search", "evolution"]) == 2
    assert main(["checkpoints", "verify", str(tmp_path)]) == 0
    assert main(["evaluate", str(tmp_path), "--data", str(trained.data), "--json"]) == 0
    capsys.readouterr()
    plain = tmp_path / "plain"
    publish_random(plain)
    assert main(["specialize", str(plain), "--out", str(tmp_path), "--memory", "4KiB"]) == 4
    assert "canet train --elastic" in capsys.readouterr().err


def test_options_of_an_elastic_table_need_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["train", "--data", "x.csv", "--out", str(tmp_path), "--elastic-groups", "4"]
    assert main(command) == 2
    assert "no effect without --elastic" in capsys.readouterr().err


def test_an_entry_that_does_not_fit_the_table_is_refused(trained: Trained) -> None:
    manifest = trained.checkpoint.manifest
    assert manifest.elastic is not None
    wrong = manifest.elastic.model_dump() | {"stops": (16, 31, 46, 62)}
    with pytest.raises(ValueError, match="last row"):
        type(manifest).model_validate(manifest.model_dump() | {"elastic": wrong})


def test_every_search_is_compared_on_the_test_users(
    trained: Trained, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["elastic", str(trained.root), "--data", str(trained.data), "--quick", "--json"]
    assert bench([*command, "--shares", "0.5,0.1", "--randoms", "1"]) == 0
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert [(row["budget"], row["search"]) for row in rows] == [
        (budget, search) for budget in ("50%", "10%") for search in SEARCHES
    ]
    for row in rows:
        assert (row["knapsack ahead by"] is None) == (row["search"] == "knapsack")
    assert bench(["elastic", str(trained.data.parent), "--data", str(trained.data)]) == 2
