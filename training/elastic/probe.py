"""What narrowed rows cost: ranks on validation with any choice of widths, by the code that serves.

One narrowed group leaves most of the work of a case as it was. Where the history holds none of the
group's items the query is the same, so only the group's own scores are new; only the others are
encoded and scored again.
"""

# B batch, V catalog rows, N rows of a group, E embedding width, G item groups, W widths, U cases

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from models.memory_lookup import newest
from models.ranker import Ranker, stack
from models.table.table import TablePart
from training.data.split import EvalCases
from training.elastic.config import Choice, Orders
from training.elastic.narrow import Narrowing
from training.evaluate.metrics import ndcg_at
from training.evaluate.quality import routed_places
from training.progress import Progress, Silent

Floats = NDArray[np.float64]
Scores = NDArray[np.float32]
Bools = NDArray[np.bool_]

_CELLS = 6_000_000
_MOST_BATCH = 256
_TOP = 10


@dataclass(frozen=True, slots=True)
class _Batch:
    """Cases of one submodel. `added_BV`: the memory's part; -inf for what is not ranked."""

    cases: NDArray[np.int64]
    place: int
    ids_BL: NDArray[np.int64]
    lengths_B: NDArray[np.int64]
    targets_B: NDArray[np.int64]
    added_BV: Scores

    def take(self, chosen: NDArray[np.int64]) -> _Batch:
        """Return some of the cases."""
        return _Batch(
            self.cases[chosen],
            self.place,
            self.ids_BL[chosen],
            self.lengths_B[chosen],
            self.targets_B[chosen],
            self.added_BV[chosen],
        )


class Probe:
    """Ranks `cases` with the submodel that the ranker routes each to at `price`, whole rows.

    The routing stays as it is while rows are narrowed. `ranker` has a table that is stored whole.
    """

    def __init__(
        self,
        ranker: Ranker,
        narrowing: Narrowing,
        cases: EvalCases,
        *,
        price: float,
        exclude_seen: bool,
    ) -> None:
        self.narrowing = narrowing
        self.cases = cases
        self._ranker = ranker
        self._exclude_seen = exclude_seen
        self._places_U = routed_places(ranker, cases, price)

    @torch.inference_mode()
    def ndcg(self, choice_G: Choice) -> Floats:
        """Return NDCG@10 of every case, (U,), with these widths."""
        ranker = self._narrowed(choice_G)
        found_U = np.empty(len(self.cases))
        for batch in self._batches():
            scores_BV = _score(ranker, batch, self._encode(ranker, batch))
            found_U[batch.cases] = ndcg_at(_ranks(scores_BV, batch.targets_B), _TOP)
        return found_U

    @torch.inference_mode()
    def exposure(self, choice_G: Choice) -> Floats:
        """Return each group's share of all top 10, (G,)."""
        ranker = self._narrowed(choice_G)
        stops = np.array(self.narrowing.elastic.stops)
        shown_G = np.zeros(len(stops))
        for batch in self._batches():
            scores_BV = _score(ranker, batch, self._encode(ranker, batch))
            k = min(_TOP, scores_BV.shape[1] - 1)
            best_BK = np.argpartition(-scores_BV, k - 1, axis=1)[:, :k]
            finite_BK = np.isfinite(np.take_along_axis(scores_BV, best_BK, axis=1))
            groups = np.searchsorted(stops, best_BK[finite_BK], side="right")
            shown_G += np.bincount(groups, minlength=len(stops))
        return shown_G / max(1.0, float(shown_G.sum()))

    @torch.inference_mode()
    def queries(self) -> Floats:
        """Return the query of every case with whole rows, (U, E); 0 where it is narrower."""
        found_UE = np.zeros((len(self.cases), self._ranker.table.emb_width))
        for batch in self._batches():
            query_BE = self._encode(self._ranker, batch)
            found_UE[batch.cases, : query_BE.shape[1]] = query_BE
        return found_UE

    def ordered(self, orders: Orders) -> None:
        """Narrow by these orders of blocks from now on."""
        self.narrowing = self.narrowing.ordered(orders)

    @torch.inference_mode()
    def alone(self, progress: Progress | None = None) -> Floats:
        """Return the mean NDCG@10 with each group alone at each width, (G, W); the last: none."""
        elastic = self.narrowing.elastic
        total_GW = np.zeros((len(elastic.stops), len(elastic.widths)))
        with (progress or Silent()).track("narrowing each group", len(self.cases)) as advance:
            for batch in self._batches():
                total_GW += self._alone(batch)
                advance(len(batch.cases))
        return total_GW / len(self.cases)

    def _alone(self, batch: _Batch) -> Floats:
        """Return the summed NDCG@10 of a batch with each group alone at each width."""
        elastic = self.narrowing.elastic
        query_BE = self._encode(self._ranker, batch)
        base_BV = _score(self._ranker, batch, query_BE)
        bar_B = base_BV[np.arange(len(base_BV)), batch.targets_B]
        above_B, level_B = _counts(base_BV, bar_B)
        found_GW = np.empty((len(elastic.stops), len(elastic.widths)))
        found_GW[:, -1] = ndcg_at(_rank(above_B, level_B), _TOP).sum()
        reads = self._ranker.served[batch.place].reads(batch.ids_BL.shape[1])
        first_B = np.maximum(batch.lengths_B - reads, 0)
        read_BL = np.arange(batch.ids_BL.shape[1]) >= first_B[:, None]
        for group, (start, stop) in enumerate(zip(elastic.starts, elastic.stops, strict=True)):
            held_BL = (batch.ids_BL >= max(1, start)) & (batch.ids_BL < stop) & read_BL
            inside_B = (batch.targets_B >= start) & (batch.targets_B < stop)
            touched_B = held_BL.any(axis=1)
            easy = np.flatnonzero(~touched_B & ~inside_B)
            moved = np.flatnonzero(~touched_B & inside_B)
            again = np.flatnonzero(touched_B)
            before_B, ties_B = _counts(base_BV[easy, start:stop], bar_B[easy])
            for place in range(len(elastic.widths) - 1):
                choice_G = elastic.whole
                choice_G[group] = place
                ranker = self._narrowed(choice_G)
                own_BN = _group_scores(ranker, query_BE, start, stop)
                own_BN += batch.added_BV[:, start:stop]
                after_B, levels_B = _counts(own_BN[easy], bar_B[easy])
                ranks = [
                    _rank(above_B[easy] - before_B + after_B, level_B[easy] - ties_B + levels_B)
                ]
                if len(moved):
                    scores = base_BV[moved]
                    scores[:, start:stop] = own_BN[moved]
                    ranks.append(_ranks(scores, batch.targets_B[moved]))
                if len(again):
                    part = batch.take(again)
                    scores = _score(ranker, part, self._encode(ranker, part))
                    ranks.append(_ranks(scores, part.targets_B))
                found_GW[group, place] = ndcg_at(np.concatenate(ranks), _TOP).sum()
        return found_GW

    def _narrowed(self, choice_G: Choice) -> Ranker:
        table, item_bias_V = self.narrowing(self._ranker.table, self._ranker.item_bias_V, choice_G)
        return self._ranker.with_table(table, item_bias_V)

    def _encode(self, ranker: Ranker, batch: _Batch) -> Scores:
        return ranker.encode(batch.place, batch.ids_BL, batch.lengths_B)

    def _batches(self) -> Iterator[_Batch]:
        """Yield all cases, those of one submodel and of like length together."""
        cases, ranker = self.cases, self._ranker
        size = max(1, min(_MOST_BATCH, _CELLS // (ranker.config.num_items + 1)))
        order = np.lexsort((cases.histories.lengths(), self._places_U))
        edges = np.flatnonzero(np.diff(self._places_U[order], prepend=-1))
        for first, last in zip(edges, [*edges[1:], len(order)], strict=True):
            for start in range(int(first), int(last), size):
                yield self._batch(order[start : min(start + size, int(last))])

    def _batch(self, chosen: NDArray[np.int64]) -> _Batch:
        ranker = self._ranker
        place = int(self._places_U[chosen[0]])
        full = [self.cases.histories[int(case)] for case in chosen]
        cut = [history[-ranker.config.max_length :].tolist() for history in full]
        ids_BL, lengths_B = stack(cut, ranker.bucket(max(map(len, cut))))
        targets_B = self.cases.targets[chosen]
        added_BV = np.zeros((len(chosen), ranker.config.num_items + 1), dtype=np.float32)
        if ranker.window:
            gains_B = np.full(len(chosen), ranker.gains_S[place], dtype=np.float32)
            found = ranker.additions(newest(ids_BL, lengths_B, ranker.remembers(place)), gains_B)
            for row_V, one in zip(added_BV, found, strict=True):
                row_V[one.rows_R] = one.values_R
        added_BV[:, 0] = -np.inf
        if self._exclude_seen:
            own_B = added_BV[np.arange(len(chosen)), targets_B]
            for row_V, history in zip(added_BV, full, strict=True):
                row_V[history] = -np.inf
            added_BV[np.arange(len(chosen)), targets_B] = own_B
        return _Batch(chosen, place, ids_BL, lengths_B, targets_B, added_BV)


def _score(ranker: Ranker, batch: _Batch, query_BE: Scores) -> Scores:
    """Return scores_BV of every row; -inf for what is not ranked."""
    table = ranker.table.slice(query_BE.shape[1])
    scores_BV: Scores = table.scores(torch.from_numpy(query_BE), ranker.item_bias_V).numpy()
    scores_BV += batch.added_BV
    return scores_BV


def _group_scores(ranker: Ranker, query_BE: Scores, start: int, stop: int) -> Scores:
    """Return the scores of rows start..stop, which are one part of the ranker's table."""
    query = torch.from_numpy(query_BE)
    part: TablePart = next(
        part for part in ranker.table.slice(query_BE.shape[1]).parts if part.start == start
    )
    bias_N = ranker.item_bias_V[start:stop]
    scores: Scores = torch.addmm(bias_N, part.query(query), part.rows_NR.T).numpy()
    return scores


def _counts(scores_BN: Scores, bar_B: Scores) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return how many scores of each row are above its bar, and how many are level with it."""
    above = np.count_nonzero(scores_BN > bar_B[:, None], axis=1)
    level = np.count_nonzero(scores_BN == bar_B[:, None], axis=1)
    return above.astype(np.int64), level.astype(np.int64)


def _rank(above_B: NDArray[np.int64], level_B: NDArray[np.int64]) -> Floats:
    """Return the rank as `metrics` defines it; the target itself is among the level ones."""
    return 1.0 + above_B + (level_B - 1) / 2


def _ranks(scores_BV: Scores, targets_B: NDArray[np.int64]) -> Floats:
    return _rank(*_counts(scores_BV, scores_BV[np.arange(len(scores_BV)), targets_B]))
