"""The use case of incoming events: durable first, counted after, acknowledged last."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from service.impressions import Impressions, Missing
from service.metrics.labels import IMPRESSION
from service.metrics.metrics import Metrics
from service.store.contract import HistoryStore, Interaction, Shown
from service.store.shown import holds


@dataclass(frozen=True, slots=True, kw_only=True)
class Impression:
    """Items that a user was shown; counted, not part of the history."""

    user_id: str
    external_ids: tuple[str, ...]
    recommendation_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """How many events are durable, and how many were known before."""

    accepted: int
    duplicates: int


class Ingester:
    """Writes events to the store; the next recommendation reflects what was acknowledged.

    What was shown and clicked is booked on the variant and submodel of the recommendation that
    the event names, and on none where it did not show these items to this user.
    """

    def __init__(self, *, store: HistoryStore, impressions: Impressions, metrics: Metrics) -> None:
        self._store = store
        self._impressions = impressions
        self._metrics = metrics

    async def ingest(
        self, interactions: Sequence[Interaction], impressions: Sequence[Impression]
    ) -> Receipt:
        """Return the receipt once everything is durable.

        Raises StoreUnavailableError; then nothing is acknowledged, and sending the same events
        again is safe where they carry an event id or a timestamp.
        """
        events: list[Interaction | Impression] = [*interactions, *impressions]
        fresh, shown = await asyncio.gather(self._append(interactions), self._shown(events))
        for interaction, new in zip(interactions, fresh, strict=True):
            self._metrics.event(interaction.type, "accepted" if new else "duplicate")
            if new and interaction.recommendation_id is not None:
                self._book(interaction.type, shown[_named(interaction)], [interaction.external_id])
        for impression in impressions:
            self._metrics.event(IMPRESSION, "accepted")
            if impression.recommendation_id is None:
                self._metrics.unattributed(IMPRESSION, "unnamed")
            else:
                self._book(IMPRESSION, shown[_named(impression)], impression.external_ids)
        accepted = sum(fresh) + len(impressions)
        return Receipt(accepted=accepted, duplicates=len(fresh) - sum(fresh))

    def rejected(self, event_type: str) -> None:
        """Count one event that was refused before it came here."""
        self._metrics.event(event_type, "rejected")

    async def _append(self, interactions: Sequence[Interaction]) -> list[bool]:
        return await self._store.append(interactions) if interactions else []

    async def _shown(
        self, events: Sequence[Interaction | Impression]
    ) -> dict[tuple[str, str], Shown | Missing]:
        named = list(
            dict.fromkeys(_named(one) for one in events if one.recommendation_id is not None)
        )
        found = await self._impressions.recall(named) if named else []
        return dict(zip(named, found, strict=True))

    def _book(self, event_type: str, found: Shown | Missing, external_ids: Sequence[str]) -> None:
        if isinstance(found, str):
            self._metrics.unattributed(event_type, found)
            return
        items = sum(holds(found, external_id) for external_id in external_ids)
        if not items:
            self._metrics.unattributed(event_type, "not_recommended")
        elif event_type == IMPRESSION:
            self._metrics.impressions_shown(items, found.variant, found.submodel)
        else:
            self._metrics.attributed(event_type, found.variant, found.submodel)


def _named(event: Interaction | Impression) -> tuple[str, str]:
    return event.user_id, event.recommendation_id or ""
