"""One tiny elastic training, shared by the tests of what comes after it."""

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
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    directory = tmp_path_factory.mktemp("elastic")
    data, root = write_data(directory / "data.csv"), directory / "models"
    plan = ElasticPlan(groups=4, widths=(2, 8, 32))
    result = train(
        TrainRequest(data=data, out=root, epochs=2, elastic=plan, resume=False), Silent()
    )
    yield Trained(data=data, root=root, checkpoint=read_checkpoint(result.path))
    torch.set_num_threads(threads)
    torch.set_flush_denormal(False)
