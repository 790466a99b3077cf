"""Two tiny elastic trainings, shared by the tests of what comes after: prefixes and blocks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from models.checkpoint.contents import Checkpoint
from models.checkpoint.read import read_checkpoint
from tests.training.walkers import write_data
from training.elastic.config import ElasticPlan
from training.pipeline import train
from training.plan import TrainRequest
from training.progress import Silent


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    data: Path
    root: Path
    checkpoint: Checkpoint


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trained]:
    yield from _training(
        tmp_path_factory.mktemp("elastic"), ElasticPlan(groups=4, widths=(2, 8, 32)), epochs=2
    )


@pytest.fixture(scope="session")
def in_blocks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trained]:
    """Of any of 16 blocks of 4 columns."""
    yield from _training(
        tmp_path_factory.mktemp("blocks"),
        ElasticPlan(groups=4, widths=(4, 8, 32), blocks=16),
        epochs=1,
    )


@pytest.fixture(scope="session", params=["trained", "in_blocks"])
def either(request: pytest.FixtureRequest) -> Trained:
    found: Trained = request.getfixturevalue(request.param)
    return found


def _training(directory: Path, plan: ElasticPlan, *, epochs: int) -> Iterator[Trained]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    data, root = write_data(directory / "data.csv"), directory / "models"
    result = train(
        TrainRequest(data=data, out=root, epochs=epochs, elastic=plan, resume=False), Silent()
    )
    yield Trained(data=data, root=root, checkpoint=read_checkpoint(result.path))
    torch.set_num_threads(threads)
    torch.set_flush_denormal(False)
