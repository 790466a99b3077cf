"""Checkpoints beside each other: differences to the first, and who is dominated."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from bench.__main__ import main as bench
from bench.compression import Candidate, dominated_by
from cli.main import main
from tests.training.elastic.conftest import Trained


def candidate(
    name: str, ndcg: float, num_bytes: int, flops: float, cpu_ms: float = 1.0
) -> Candidate:
    return Candidate(
        name=name,
        ndcg_U=np.full(4, ndcg),
        table_bytes=num_bytes,
        body_bytes=0,
        flops=flops,
        cpu_ms=(cpu_ms, cpu_ms),
        training=None,
    )


def test_dominated_is_what_another_equals_everywhere_and_beats_somewhere() -> None:
    full = candidate("full", 0.5, 100, 100)
    small = candidate("small", 0.4, 25, 25)
    worse = candidate("worse", 0.4, 25, 30)
    better = candidate("better", 0.5, 50, 50)
    several = [full, small, worse, better]
    assert dominated_by(full, several) == ["better"]
    assert dominated_by(small, several) == []
    assert dominated_by(worse, several) == ["small"]
    assert dominated_by(better, several) == []
    assert dominated_by(small, [small, candidate("twin", 0.4, 25, 25)]) == []
    assert dominated_by(small, [candidate("slower", 0.4, 20, 20, 2.0)]) == []


def test_a_narrowed_table_beside_the_whole_one(
    trained: Trained, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    narrow = str(tmp_path / "narrow")
    assert main(["specialize", str(trained.root), "--memory", "4KiB", "--out", narrow]) == 0
    capsys.readouterr()
    roots = [f"whole={trained.root}", f"narrow={narrow}"]
    assert bench(["compression", *roots, "--data", str(trained.data), "--quick", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    whole, small = told["rows"]
    assert whole["checkpoint"] == "whole"
    assert whole["of the bytes"] == "100%"
    assert whole["against whole"] is None
    assert small["against whole"] is not None
    assert small["table bytes"] < 4096 < whole["table bytes"]
    assert small["body bytes"] == whole["body bytes"]
    assert small["MFLOPs"] < whole["MFLOPs"]
    assert [one.split()[0] for one in told["findings"]] == ["NDCG@10", "narrow"]


@pytest.mark.parametrize(
    ("roots", "says"),
    [
        (["whole"], "not of the form NAME=ROOT"),
        (["whole={root}", "none={nowhere}"], "has no CURRENT"),
    ],
)
def test_what_does_not_compare_is_refused(
    trained: Trained,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    roots: list[str],
    says: str,
) -> None:
    words = [one.format(root=trained.root, nowhere=tmp_path) for one in roots]
    assert bench(["compression", *words, "--data", str(trained.data)]) == 2
    assert says in capsys.readouterr().err
