"""Online quality: events, what was shown, and what came of it."""

from __future__ import annotations

from prometheus_client import CollectorRegistry

from service.metrics.labels import EVENT_RESULTS, EVENT_TYPES, OTHER, VARIANTS
from service.metrics.makers import Makers, create, within


class QualityMetrics(Makers):
    """What the ingester notes."""

    def __init__(self, registry: CollectorRegistry) -> None:
        super().__init__(registry)
        self.events = self._counter("events_total", "Events received.", "type", "result")
        self.attributed_events = self._counter(
            "attributed_events_total", "New events naming a recommendation.", "type", "variant"
        )
        self.impressions = self._counter("impressions_total", "Items reported as shown.", "variant")
        types = (*EVENT_TYPES, OTHER)
        create(self.events, types, EVENT_RESULTS)
        create(self.attributed_events, types, VARIANTS)
        create(self.impressions, VARIANTS)

    def event(self, event_type: str, result: str, *, attributed_to: str | None = None) -> None:
        """Note one event; types outside the allow-list count as `other`.

        `attributed_to` is the variant whose recommendation it names, None without one.
        """
        kind = within(event_type, EVENT_TYPES)
        self.events.labels(kind, result).inc()
        if attributed_to is not None:
            self.attributed_events.labels(kind, attributed_to).inc()

    def impressions_shown(self, items: int, variant: str) -> None:
        """Note that so many items of this variant were reported as shown."""
        self.impressions.labels(variant).inc(items)
