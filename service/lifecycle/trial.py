"""What an engine must do before it may serve: repeat its golden answers, then run every shape."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from models.checkpoint.golden import GoldenQuery
from models.checkpoint.verified import read_golden
from service.engine.contract import Compute, Engine, Query, Ranking

SCORE_TOLERANCE: Final = 1e-4
_WARM_LENGTHS: Final = (1, 8, 16, 32, 64, 128, 256, 512, 1024)
_REPLAY_BATCH: Final = 16


class TrialError(Exception):
    """The engine failed its trial; `reason` is `golden_mismatch` or `warm_up_failed`."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


def prove(engine: Engine, path: Path) -> None:
    """Return when the engine repeats the golden answers of the version in `path`.

    Raises TrialError `golden_mismatch`, or CheckpointError when the golden file is damaged.
    """
    replay(engine, read_golden(path), lambda: None)


def replay(engine: Engine, golden: Sequence[GoldenQuery], proceed: Callable[[], None]) -> None:
    """Return when the engine answers every golden query as it was written down.

    Ids and scores must agree, but items whose scores lie within `SCORE_TOLERANCE` (absolute, or
    relative above 1) may change places. `proceed` is called between batches and may raise. Raises
    TrialError `golden_mismatch`.
    """
    for start in range(0, len(golden), _REPLAY_BATCH):
        proceed()
        batch = golden[start : start + _REPLAY_BATCH]
        rankings, _ = engine.recommend([_query(golden_query) for golden_query in batch])
        if len(rankings) != len(batch):
            raise TrialError("golden_mismatch", "the engine lost queries of a batch")
        for place, (query, ranking) in enumerate(zip(batch, rankings, strict=True), start=start):
            finding = _difference(query, ranking)
            if finding is not None:
                raise TrialError(
                    "golden_mismatch",
                    f"golden query {place + 1} on submodel {query.submodel}: {finding}",
                )


def warm_up(
    engine: Engine, golden: Sequence[GoldenQuery], max_batch: int, proceed: Callable[[], None]
) -> None:
    """Run every served submodel at every power of two up to `max_batch`, and the router.

    Each batch mixes short and long histories made of the golden queries' items, so that every
    padded length occurs. Raises TrialError `warm_up_failed` when an answer has a score that is
    not finite, else what the engine raises.
    """
    items = tuple(
        dict.fromkeys(item for query in golden for item in (*query.history, *query.items))
    )
    computes = [Compute(mode="fixed", submodel=entry.name) for entry in engine.info.submodels]
    lengths = [length for length in _WARM_LENGTHS if length < engine.info.max_length]
    lengths.append(engine.info.max_length)
    histories = [_repeat(items, length) for length in lengths]
    for compute in (*computes, Compute()):
        for history in histories:
            proceed()
            _check_scores(engine.recommend([Query(history=history, compute=compute)])[0])
        for size in _sizes(max_batch):
            proceed()
            batch = [
                Query(history=histories[place % len(histories)], compute=compute)
                for place in range(size)
            ]
            _check_scores(engine.recommend(batch)[0])


def _query(golden: GoldenQuery) -> Query:
    return Query(
        history=golden.history,
        k=max(1, len(golden.items)),
        exclude_seen=True,
        compute=Compute(mode="fixed", submodel=golden.submodel),
    )


def _difference(golden: GoldenQuery, ranking: Ranking) -> str | None:
    if ranking.submodel != golden.submodel:
        return f"submodel {ranking.submodel} answered"
    if len(ranking.items) != len(golden.items):
        return f"{len(ranking.items)} items instead of {len(golden.items)}"
    for rank, (item, score) in enumerate(zip(ranking.items, golden.scores, strict=True), start=1):
        if not _close(item.score, score):
            return f"score {item.score:.6g} at rank {rank} instead of {score:.6g}"
    written = dict(zip(golden.items, golden.scores, strict=True))
    answered = {item.external_id: item.score for item in ranking.items}
    if len(answered) != len(ranking.items):
        return "an item stands twice"
    last = golden.scores[-1] if golden.scores else 0.0
    for external in written.keys() | answered.keys():
        # An item in one list only must tie with the last rank, where the list was cut.
        if not _close(answered.get(external, last), written.get(external, last)):
            return "another item stands in its place"
    return None


def _close(one: float, other: float) -> bool:
    return math.isfinite(one) and abs(one - other) <= SCORE_TOLERANCE * max(1.0, abs(other))


def _check_scores(rankings: Sequence[Ranking]) -> None:
    for ranking in rankings:
        if not all(math.isfinite(item.score) for item in ranking.items):
            raise TrialError(
                "warm_up_failed", f"submodel {ranking.submodel} gave a score that is not finite"
            )


def _sizes(max_batch: int) -> list[int]:
    sizes = [2**power for power in range(1, max_batch.bit_length()) if 2**power < max_batch]
    return [*sizes, max_batch] if max_batch > 1 else []


def _repeat(items: Sequence[str], length: int) -> tuple[str, ...]:
    return tuple(items[place % len(items)] for place in range(length))
