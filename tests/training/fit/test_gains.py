"""The memory's weight is what validation ranks best with, for each submodel by itself."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from models.memory import TransitionMemory
from tests.models.builders import random_memory, random_supernet, small_config
from training.data.sequences import Sequences
from training.data.split import EvalCases
from training.fit.gains import GAINS, fit_gains
from training.progress import Silent

CONFIG = small_config()


def cases(memory: TransitionMemory, *, follow: bool) -> EvalCases:
    """Return a case per item whose target is its heaviest successor, or its least likely item."""
    targets = []
    starts = []
    for row in range(1, CONFIG.num_items + 1):
        first, last = int(memory.offsets[row]), int(memory.offsets[row + 1])
        if first == last:
            continue
        successors = memory.items[first:last].tolist()
        best = successors[int(memory.weights[first:last].argmax())]
        others = set(range(1, CONFIG.num_items + 1)) - set(successors)
        starts.append(row)
        targets.append(best if follow else min(others))
    return EvalCases(
        histories=Sequences(
            offsets=np.arange(len(starts) + 1, dtype=np.int64),
            items=np.array(starts, dtype=np.int64),
        ),
        targets=np.array(targets, dtype=np.int64),
        users=np.arange(len(starts)),
    )


@pytest.mark.parametrize("follow", [True, False])
def test_a_memory_that_is_right_weighs_much_and_one_that_is_wrong_nothing(follow: bool) -> None:
    supernet = random_supernet(CONFIG)
    memory = random_memory(CONFIG)
    assert memory is not None
    other = CONFIG.submodels[1]
    before = float(supernet.slice(other).memory_gain.detach())
    gains = fit_gains(
        supernet,
        memory,
        [CONFIG.smallest, CONFIG.largest],
        cases(memory, follow=follow),
        exclude_seen=False,
        progress=Silent(),
    )
    assert set(gains) == {CONFIG.smallest.name, CONFIG.largest.name}
    for submodel in (CONFIG.smallest, CONFIG.largest):
        gain = gains[submodel.name]
        assert gain >= 1.0 if follow else gain == 0.0
        assert gain in GAINS
        set_to = float(supernet.slice(submodel).memory_gain.detach())
        assert torch.isclose(torch.tensor(set_to), torch.tensor(gain))
    assert float(supernet.slice(other).memory_gain.detach()) == before
