"""How long an engine computes for a query, and hence how many the event loop may answer itself."""

from __future__ import annotations

from service.engine.contract import BatchTimings, Engine

# Of this weight is every query of a new batch: one dear query does not tell an engine's pace, and
# one that was alone was dear.
_WEIGHT = 0.02


class Pace:
    """Learns from batches; knows nothing of an engine that has not answered yet.

    `seconds` is how long the event loop may be held up by one batch. It counts CPU time, as the
    engine tells it: where others are on the processor as well, a thread has to wait no less. Of an
    engine that tells none nothing is known.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._engine: Engine | None = None
        self._each = 0.0

    def fits(self, engine: Engine | None) -> int:
        """Return how many queries this engine answers in time; 0 while that is not known."""
        if engine is not self._engine or not self._each:
            return 0
        return int(self._seconds / self._each)

    def took(self, engine: Engine | None, timings: BatchTimings, queries: int) -> None:
        """Learn what the engine took for a batch of so many."""
        each = sum([work.cpu_seconds for work in timings.work.values()]) / queries
        if engine is not self._engine:
            self._engine, self._each = engine, each
        elif each:  # else no network ran: that tells nothing
            self._each += min(1.0, _WEIGHT * queries) * (each - self._each)
