"""Online quality: events, what was shown, and what came of it."""

from __future__ import annotations

from prometheus_client import CollectorRegistry

from service.engine.contract import ModelInfo
from service.lifecycle.contract import Variant
from service.metrics.labels import (
    EVENT_RESULTS,
    EVENT_TYPES,
    IMPRESSION,
    NO_NETWORK,
    OTHER,
    RECORD_RESULTS,
    UNATTRIBUTED,
    VARIANTS,
)
from service.metrics.makers import create, within
from service.metrics.model import ModelMetrics

# What can be booked on a recommendation: impressions are, as items, by a metric of their own.
_RESPONSES = (*(kind for kind in EVENT_TYPES if kind != IMPRESSION), OTHER)
# A shadow's answers are shown to nobody.
_SHOWING = tuple(variant for variant in VARIANTS if variant != "shadow")


class QualityMetrics(ModelMetrics):
    """What the ingester notes, and the records of what was recommended."""

    def __init__(self, registry: CollectorRegistry) -> None:
        super().__init__(registry)
        counter = self._counter
        self.events = counter("events_total", "Events received.", "type", "result")
        self.attributed_events = counter(
            "attributed_events_total",
            "New events booked on the recommendation that they name.",
            *("type", "variant"),
        )
        self.impressions = counter(
            "impressions_total", "Recommended items reported as shown.", "variant"
        )
        self.submodel_events = counter(
            "submodel_attributed_events_total",
            "The same, all types, by the submodel that had answered; none: no network had.",
            "submodel",
        )
        self.submodel_impressions = counter(
            "submodel_impressions_total", "The same by the submodel that had answered.", "submodel"
        )
        self.unattributed_events = counter(
            "unattributed_events_total",
            "New events that name a recommendation and are booked on none.",
            *("type", "reason"),
        )
        self.records = counter(
            "recommendation_records_total",
            "Recommendations remembered for the events that name them.",
            "result",
        )
        create(self.events, (*EVENT_TYPES, OTHER), EVENT_RESULTS)
        create(self.attributed_events, _RESPONSES, _SHOWING)
        create(self.impressions, _SHOWING)
        create(self.unattributed_events, (*EVENT_TYPES, OTHER), UNATTRIBUTED)
        create(self.records, RECORD_RESULTS)
        self._create_submodel(NO_NETWORK)

    def model_loaded(
        self, info: ModelInfo, *, loaded_at_unix: float, variant: Variant = "stable"
    ) -> None:
        """Note that `info` serves from now on; its submodels' counters exist afterwards."""
        super().model_loaded(info, loaded_at_unix=loaded_at_unix, variant=variant)
        if variant in _SHOWING:
            for submodel in info.submodels:
                if submodel.name in self._served:
                    self._create_submodel(submodel.name)

    def event(self, event_type: str, result: str) -> None:
        """Note one event; types outside the allow-list count as `other`."""
        self.events.labels(within(event_type, EVENT_TYPES), result).inc()

    def attributed(self, event_type: str, variant: str, submodel: str | None) -> None:
        """Note one new event that came of a recommendation of this variant and submodel."""
        kind = within(event_type, EVENT_TYPES)
        self.attributed_events.labels(kind, within(variant, _SHOWING)).inc()
        self.submodel_events.labels(self._answering(submodel)).inc()

    def impressions_shown(self, items: int, variant: str, submodel: str | None) -> None:
        """Note that so many items of such a recommendation were reported as shown."""
        self.impressions.labels(within(variant, _SHOWING)).inc(items)
        self.submodel_impressions.labels(self._answering(submodel)).inc(items)

    def unattributed(self, event_type: str, reason: str) -> None:
        """Note one new event that is booked on no recommendation; `reason` of UNATTRIBUTED."""
        self.unattributed_events.labels(within(event_type, EVENT_TYPES), reason).inc()

    def recorded(self, count: int, result: str) -> None:
        """Note so many recommendations `kept` for their events, or `lost`."""
        self.records.labels(result).inc(count)

    def _answering(self, submodel: str | None) -> str:
        return NO_NETWORK if submodel is None else within(submodel, self._served)

    def _create_submodel(self, submodel: str) -> None:
        create(self.submodel_events, (submodel,))
        create(self.submodel_impressions, (submodel,))
