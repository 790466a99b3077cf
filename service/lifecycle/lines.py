"""Who answers a user: the candidate for its share of the users, the stable version for the rest."""

from __future__ import annotations

from dataclasses import dataclass

from service.engine.batcher import Batcher, NoEngineError
from service.engine.contract import Engine, Query, UnknownFieldError, UnknownSubmodelError
from service.lifecycle.contract import ModelManager, Variant
from service.lifecycle.sides import SideModels


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One variant as it stands now: its engine, and the queue in front of it."""

    variant: Variant
    engine: Engine
    batcher: Batcher


class Lines:
    """Picks the line; with no candidate loaded that is always the stable one."""

    def __init__(
        self,
        *,
        models: ModelManager,
        batcher: Batcher,
        sides: SideModels,
        candidate_batcher: Batcher,
    ) -> None:
        self._models = models
        self._batcher = batcher
        self._sides = sides
        self._candidate_batcher = candidate_batcher

    def stable(self) -> Line:
        """Return the stable line; NoEngineError before the first load."""
        engine = self._models.current()
        if engine is None:
            raise NoEngineError("no model is loaded")
        return Line(variant="stable", engine=engine, batcher=self._batcher)

    def of(self, query: Query, user_id: str | None) -> Line:
        """Return the line for this user and query, whose engine can answer it.

        A candidate that lacks the submodel or field asked for leaves the query to the stable
        version. Raises NoEngineError, UnknownSubmodelError or UnknownFieldError.
        """
        stable = self.stable()
        candidate = self._sides.takes("candidate", user_id)
        if candidate is not None:
            try:
                candidate.check(query)
            except (UnknownSubmodelError, UnknownFieldError):
                pass
            else:
                return Line(variant="candidate", engine=candidate, batcher=self._candidate_batcher)
        stable.engine.check(query)
        return stable
