"""From a supernet to what is served: the ends are kept and the price follows the request."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from models.catalog import Catalog
from models.config import Submodel
from models.ranker import Ranker
from tests.models.builders import random_histories, random_memory, random_supernet, small_config
from training.data.sequences import Sequences
from training.data.split import EvalCases, SealedCases, Split
from training.fit.fitted import Fitted
from training.progress import Silent
from training.publish.lessons import Lessons, choose_served, in_cost_order, lessons_of
from training.publish.route import Routed, route

CONFIG = small_config()


def a_case() -> tuple[Fitted, EvalCases]:
    histories = random_histories(CONFIG, 80, 1)
    fitted = Fitted(
        supernet=random_supernet(CONFIG),
        memory=random_memory(CONFIG),
        epochs=(),
        best_epoch=0,
        stopped="epochs",
        held_U=np.zeros(80, dtype=np.bool_),
    )
    cases = EvalCases(
        histories=Sequences(
            offsets=np.cumsum([0, *map(len, histories)]).astype(np.int64),
            items=np.concatenate(histories).astype(np.int64),
        ),
        targets=np.random.default_rng(0).integers(1, CONFIG.num_items + 1, 80),
        users=np.arange(80),
    )
    return fitted, cases


def chosen() -> tuple[Submodel, ...]:
    """Measured times have a part in the choice: two calls may differ."""
    fitted, cases = a_case()
    return choose_served(fitted, cases, exclude_seen=False, progress=Silent())


def routed(budget: float | None, served: tuple[Submodel, ...] | None = None) -> Routed:
    fitted, cases = a_case()
    return route(
        fitted,
        cases,
        served=served or chosen(),
        budget=budget,
        exclude_seen=False,
        seed=0,
        progress=Silent(),
    )


def test_served_ends_with_the_full_network_and_the_router_fits_it() -> None:
    found = routed(None)
    served = found.ranker.served
    assert 4 <= len(served) <= 6
    assert served[-1] == CONFIG.largest
    assert found.validation_ndcg.shape == (len(served),)
    assert found.quality_US.shape == (80, len(served))
    assert found.price in {point.price for point in found.points}


def test_price_meets_the_budget_and_less_budget_never_costs_less() -> None:
    # Even the cheapest submodels pay for the router, which is dear beside a tiny network.
    served = chosen()
    least = routed(None, served).points[-1].flops_ratio
    generous, tight = routed(10.0, served), routed(least * 1.001, served)
    assert generous.price == 0.0
    assert tight.price >= generous.price


def test_impossible_budget_is_refused() -> None:
    with pytest.raises(ValueError, match=r"0\.0001 .* raise the budget"):
        routed(0.0001)


def test_served_and_lessons_stand_by_the_cost_of_the_network_as_it_is_now() -> None:
    """A packed network has other costs than the one its submodels were chosen on."""
    fitted, cases = a_case()
    served = (*reversed(chosen()[:-1]), CONFIG.largest)
    places = torch.arange(len(served), dtype=torch.float32)
    lessons = Lessons(served=served, cases=cases, quality_NS=places.expand(len(cases), -1))
    again, moved = in_cost_order(fitted, served, lessons)
    ranker = Ranker(fitted.supernet, fitted.memory, None, again)
    costs = [
        ranker.cost(place, CONFIG.max_length, routed=True).total for place in range(len(again))
    ]
    assert costs == sorted(costs)
    assert again[-1] == CONFIG.largest
    assert moved is not None
    assert moved.served == again
    assert [served[int(place)] for place in moved.quality_NS[0]] == list(again)
    assert in_cost_order(fitted, again, None) == (again, None)


def test_lessons_are_positions_of_held_out_users_only() -> None:
    fitted, cases = a_case()
    histories = cases.histories
    held_U = np.arange(80) % 4 == 0
    split = Split(
        catalog=Catalog([f"i{row}" for row in range(1, CONFIG.num_items + 1)]),
        training=histories,
        validation=cases,
        test=SealedCases(cases),
        training_mask=np.ones(len(histories.items), dtype=np.bool_),
        left_out=0,
        description="made up",
    )
    served = choose_served(fitted, cases, exclude_seen=False, progress=Silent())
    asked: dict[str, Any] = {"most": 50, "exclude_seen": False, "seed": 0, "progress": Silent()}
    assert lessons_of(fitted, split, served, **asked) is None
    lessons = lessons_of(replace(fitted, held_U=held_U), split, served, **asked)
    assert lessons is not None
    assert len(lessons.cases) <= 50
    assert held_U[lessons.cases.users].all()
    assert lessons.quality_NS.shape == (len(lessons.cases), len(served))
    assert ((lessons.quality_NS > 0) & (lessons.quality_NS <= 1)).all()
    found = route(
        fitted,
        cases,
        served=served,
        lessons=lessons,
        budget=None,
        exclude_seen=False,
        seed=0,
        progress=Silent(),
    )
    assert found.ranker.served == served
