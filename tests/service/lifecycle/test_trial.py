from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import pytest

from models.checkpoint.golden import GoldenQuery
from service.engine.contract import BatchTimings, Engine, Query, RankedItem, Ranking
from service.lifecycle.trial import TrialError, replay

GOLDEN = GoldenQuery(
    history=("h",), submodel="d1-w4-e4", items=("a", "b", "c"), scores=(2.0, 1.00001, 1.0)
)


class Fixed:
    """Gives one answer to everything, at most k of it."""

    def __init__(self, pairs: Sequence[tuple[str, float]], submodel: str = "d1-w4-e4") -> None:
        self._pairs = pairs
        self._submodel = submodel
        self.queries: list[Query] = []

    def recommend(self, queries: Sequence[Query]) -> tuple[list[Ranking], BatchTimings]:
        self.queries += queries
        items = tuple(RankedItem(external_id=one, score=score) for one, score in self._pairs)
        ranking = Ranking(items=items, source="model", model_version="v", submodel=self._submodel)
        return [ranking for _ in queries], BatchTimings()


def try_out(fixed: Fixed, golden: GoldenQuery = GOLDEN, times: int = 1) -> None:
    replay(cast("Engine", fixed), [golden] * times, lambda: None)


def test_the_same_answer_passes_and_is_asked_as_written_down() -> None:
    fixed = Fixed([("a", 2.0), ("b", 1.00001), ("c", 1.0)])
    try_out(fixed, times=40)
    assert len(fixed.queries) == 40
    query = fixed.queries[0]
    assert (query.history, query.k, query.exclude_seen) == (("h",), 3, True)
    assert (query.compute.mode, query.compute.submodel) == ("fixed", "d1-w4-e4")


@pytest.mark.parametrize(
    "pairs",
    [
        [("a", 2.00009), ("b", 1.00002), ("c", 0.99999)],  # rounding
        [("a", 2.0), ("c", 1.00001), ("b", 1.0)],  # near-ties change places
        [("a", 2.0), ("b", 1.00001), ("d", 0.99998)],  # a near-tie across the cut
    ],
)
def test_near_ties_pass(pairs: list[tuple[str, float]]) -> None:
    try_out(Fixed(pairs))


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        ([("b", 2.0), ("a", 1.00001), ("c", 1.0)], "another item"),
        ([("d", 2.0), ("b", 1.00001), ("c", 1.0)], "another item"),
        ([("a", 2.001), ("b", 1.00001), ("c", 1.0)], "score 2.001 at rank 1"),
        ([("a", float("nan")), ("b", 1.00001), ("c", 1.0)], "score nan"),
        ([("a", 2.0), ("b", 1.00001)], "2 items instead of 3"),
        ([("a", 2.0), ("b", 1.0), ("b", 1.0)], "stands twice"),
    ],
)
def test_other_answers_are_refused(pairs: list[tuple[str, float]], message: str) -> None:
    with pytest.raises(TrialError, match=message) as caught:
        try_out(Fixed(pairs))
    assert caught.value.reason == "golden_mismatch"


def test_another_submodel_is_refused() -> None:
    with pytest.raises(TrialError, match="d2-w8-e4 answered"):
        try_out(Fixed([("a", 2.0), ("b", 1.00001), ("c", 1.0)], submodel="d2-w8-e4"))


def test_an_empty_golden_answer_wants_an_empty_answer() -> None:
    empty = GoldenQuery(history=("h",), submodel="d1-w4-e4", items=(), scores=())
    fixed = Fixed([])
    try_out(fixed, empty)
    assert fixed.queries[0].k == 1
    with pytest.raises(TrialError, match="1 items instead of 0"):
        try_out(Fixed([("a", 1.0)]), empty)
