"""What narrowed rows cost: ranks on validation with any choice of widths, by the code that serves.

One narrowed group leaves most of the work of a case as it was. Where the history holds none of the
group's items the query is the same, so only the group's own scores are new; only the others are
encoded and scored again.

What one group costs alone is too little to be told by NDCG@10, which most cases leave at 0 either
way. It is told by every case in two other ways: how far the scores of all items move, and how far
the target moves among them.
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


@dataclass(frozen=True, slots=True)
class Alone:
    """What each group costs with it alone narrowed, means over the cases; 0 at the whole width.

    divergence_GW: of the softmax over all ranked items from the one with whole rows, Kullback and
    Leibler's, nats, at least 0 but for float32 rounding. log_rank_GW: by how much the natural
    logarithm of the target's rank rises.
    """

    divergence_GW: Floats
    log_rank_GW: Floats


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
    def alone(self, progress: Progress | None = None) -> Alone:
        """Return what each group costs alone at each width, by every case."""
        elastic = self.narrowing.elastic
        shape = (len(elastic.stops), len(elastic.widths))
        total = Alone(np.zeros(shape), np.zeros(shape))
        with (progress or Silent()).track("narrowing each group", len(self.cases)) as advance:
            for batch in self._batches():
                self._add_alone(batch, total)
                advance(len(batch.cases))
        cases = len(self.cases)
        return Alone(total.divergence_GW / cases, total.log_rank_GW / cases)

    def _add_alone(self, batch: _Batch, total: Alone) -> None:
        """Add the sums over a batch to `total`."""
        elastic = self.narrowing.elastic
        query_BE = self._encode(self._ranker, batch)
        base_BV = _score(self._ranker, batch, query_BE)
        bar_B = base_BV[np.arange(len(base_BV)), batch.targets_B]
        above_B, level_B = _counts(base_BV, bar_B)
        before_B = np.log(_rank(above_B, level_B))
        bounds = list(zip(elastic.starts, elastic.stops, strict=True))
        mass_BG = np.stack([_log_mass(base_BV[:, start:stop]) for start, stop in bounds], axis=1)
        whole_B = _log_mass(mass_BG)
        reads = self._ranker.served[batch.place].reads(batch.ids_BL.shape[1])
        first_B = np.maximum(batch.lengths_B - reads, 0)
        read_BL = np.arange(batch.ids_BL.shape[1]) >= first_B[:, None]
        for group, (start, stop) in enumerate(bounds):
            held_BL = (batch.ids_BL >= max(1, start)) & (batch.ids_BL < stop) & read_BL
            inside_B = (batch.targets_B >= start) & (batch.targets_B < stop)
            again = np.flatnonzero(held_BL.any(axis=1))
            moved = np.flatnonzero(inside_B)
            part = batch.take(again)
            counted_B, ties_B = _counts(base_BV[:, start:stop], bar_B)
            for place in range(len(elastic.widths) - 1):
                choice_G = elastic.whole
                choice_G[group] = place
                ranker = self._narrowed(choice_G)
                own_BN = _group_scores(ranker, query_BE, start, stop)
                own_BN += batch.added_BV[:, start:stop]
                after_B, levels_B = _counts(own_BN, bar_B)
                rank_B = _rank(above_B - counted_B + after_B, level_B - ties_B + levels_B)
                mass_B = _log_mass(
                    np.column_stack([np.delete(mass_BG, group, 1), _log_mass(own_BN)])
                )
                divergence_B = _gap(base_BV[:, start:stop], own_BN, whole_B) + mass_B - whole_B
                scores = base_BV[moved]
                scores[:, start:stop] = own_BN[moved]
                rank_B[moved] = _ranks(scores, batch.targets_B[moved])
                if len(again):
                    scores = _score(ranker, part, self._encode(ranker, part))
                    rank_B[again] = _ranks(scores, part.targets_B)
                    mass, whole = _log_mass(scores), whole_B[again]
                    divergence_B[again] = _gap(base_BV[again], scores, whole) + mass - whole
                total.divergence_GW[group, place] += divergence_B.sum()
                total.log_rank_GW[group, place] += (np.log(rank_B) - before_B).sum()

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


def _log_mass(scores_BN: NDArray[np.floating]) -> Floats:
    """Return log(sum(exp(scores))) of each row, (B,) float64; -inf where nothing is ranked."""
    found: Floats = torch.logsumexp(torch.from_numpy(scores_BN), dim=1).double().numpy()
    return found


def _gap(before_BN: Scores, after_BN: Scores, mass_B: Floats) -> Floats:
    """Return how far scores fall on average by the softmax before, of log mass `mass_B`, (B,)."""
    share_BN = np.exp(before_BN - mass_B.astype(np.float32)[:, None])
    fall_BN = np.zeros_like(before_BN)
    np.subtract(before_BN, after_BN, out=fall_BN, where=np.isfinite(before_BN))
    found: Floats = np.multiply(share_BN, fall_BN).sum(axis=1, dtype=np.float64)
    return found


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
