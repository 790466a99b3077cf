"""The lists behind coverage are those whose ranks the table reports."""

from __future__ import annotations

import numpy as np
import pytest

from models.config import Submodel
from models.ranker import Ranker
from tests.models.builders import random_histories, random_memory, random_supernet, small_config
from training.data.sequences import Sequences
from training.data.split import EvalCases
from training.evaluate.lists import coverage, top_lists
from training.evaluate.quality import ranks_by_submodel

CONFIG = small_config()


@pytest.mark.parametrize("exclude_seen", [True, False])
def test_the_target_stands_in_the_list_at_its_rank(exclude_seen: bool) -> None:
    histories = random_histories(CONFIG, 60, 1)
    rng = np.random.default_rng(0)
    unseen = [np.setdiff1d(np.arange(1, CONFIG.num_items + 1), history) for history in histories]
    cases = EvalCases(
        histories=Sequences(
            offsets=np.cumsum([0, *map(len, histories)]).astype(np.int64),
            items=np.concatenate(histories).astype(np.int64),
        ),
        targets=np.array([rng.choice(items) for items in unseen]),
        users=np.arange(60),
    )
    served = [Submodel(depth=1, width=8, emb_width=8), Submodel(depth=3, width=24, emb_width=12)]
    ranker = Ranker(random_supernet(CONFIG), random_memory(CONFIG), None, served)
    places_U = np.arange(60) % 2
    ranks_US = ranks_by_submodel(ranker, cases, exclude_seen=exclude_seen)
    lists_UK = top_lists(ranker, cases, places_U, exclude_seen=exclude_seen)
    assert lists_UK.shape == (60, 20)
    for user, items in enumerate(lists_UK):
        rank = ranks_US[user, places_U[user]]
        if rank <= 20:
            assert items[int(rank) - 1] == cases.targets[user]
        else:
            assert cases.targets[user] not in items
        assert not exclude_seen or not set(items.tolist()) & set(histories[user])
    found = coverage(lists_UK, num_items=CONFIG.num_items)
    assert set(found) == {"coverage@10", "coverage@20"}
    shown = len(set(lists_UK.ravel().tolist()) - {0})
    assert found["coverage@20"] == shown / CONFIG.num_items
