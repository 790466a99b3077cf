"""The use case of incoming events: durable first, counted after, acknowledged last."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from service.metrics.metrics import Metrics
from service.store.contract import HistoryStore, Interaction

IMPRESSION = "impression"


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

    What was shown and clicked is counted for the variant that answers its user now.
    """

    def __init__(
        self,
        *,
        store: HistoryStore,
        metrics: Metrics,
        variant_of: Callable[[str | None], str],
    ) -> None:
        self._store = store
        self._variant_of = variant_of
        self._metrics = metrics

    async def ingest(
        self, interactions: Sequence[Interaction], impressions: Sequence[Impression]
    ) -> Receipt:
        """Return the receipt once everything is durable.

        Raises StoreUnavailableError; then nothing is acknowledged, and sending the same events
        again is safe where they carry an event id or a timestamp.
        """
        fresh = await self._store.append(interactions) if interactions else []
        for interaction, new in zip(interactions, fresh, strict=True):
            self._metrics.event(
                interaction.type,
                "accepted" if new else "duplicate",
                attributed_to=self._variant_of(interaction.user_id)
                if new and interaction.recommendation_id is not None
                else None,
            )
        for impression in impressions:
            self._metrics.event(IMPRESSION, "accepted")
            self._metrics.impressions_shown(
                len(impression.external_ids), self._variant_of(impression.user_id)
            )
        accepted = sum(fresh) + len(impressions)
        return Receipt(accepted=accepted, duplicates=len(fresh) - sum(fresh))

    def rejected(self, event_type: str) -> None:
        """Count one event that was refused before it came here."""
        self._metrics.event(event_type, "rejected")
