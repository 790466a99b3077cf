"""Requests: rate, errors and duration by route template."""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client import CollectorRegistry

from service.metrics.labels import (
    LATENCY,
    METHODS,
    OTHER,
    STAGES,
    UNMATCHED,
    UNMATCHED_STATUSES,
    USUAL_STATUSES,
)
from service.metrics.makers import Makers, create, within
from service.metrics.plain import Count, Distribution


class HttpMetrics(Makers):
    """What the middleware and the routes note."""

    def __init__(self, registry: CollectorRegistry) -> None:
        super().__init__(registry)
        http = ("method", "route")
        self.http_requests = self._counter(
            "http_requests_total", "Answered requests.", *http, "status"
        )
        self.http_duration = self._histogram(
            "http_request_duration_seconds", "From first byte to last.", LATENCY, *http
        )
        self.http_in_flight = self._gauge("http_requests_in_flight", "Requests being answered.")
        self.in_flight = 0
        """Requests being answered now; the middleware counts them."""
        self.http_in_flight.set_function(lambda: float(self.in_flight))
        self.stage_duration = self._histogram(
            "stage_duration_seconds", "Time by stage of a recommendation.", LATENCY, "stage"
        )
        create(self.stage_duration, STAGES)
        # Looking a child up by its labels takes longer than counting does.
        self._stages = {stage: self.stage_duration.labels(stage) for stage in STAGES}
        self._answers: dict[tuple[str, str, int], tuple[Count, Distribution]] = {}
        self._routes: set[tuple[str, str]] = set()

    def create_routes(self, routes: Iterable[tuple[str, str]]) -> None:
        """Create the counters of these (method, route template) pairs at 0, and of no route."""
        for method, route in routes:
            self._routes.add((method, route))
            self.http_duration.labels(method, route)
            create(self.http_requests, (method,), (route,), _texts(USUAL_STATUSES))
        create(self.http_requests, sorted(METHODS), (UNMATCHED,), _texts(UNMATCHED_STATUSES))
        create(self.http_duration, (OTHER,), (UNMATCHED,))

    def http_answered(
        self,
        method: str,
        route: str,
        status: int,
        seconds: float | None,
        *,
        trace_id: str | None = None,
    ) -> None:
        """Note one answered request.

        HEAD counts as the GET it was answered as, a method that its route does not have for no
        route, an unknown method as `other`.
        `trace_id` is that of a sampled trace: an example of how long requests take. Without
        `seconds` it is counted alone: what was refused at the door took no time, and would draw
        the quantiles down.
        """
        found = self._answers.get((method, route, status))
        if found is None:
            known = within(method, METHODS)
            counted, place = self._counted(known, route)
            found = (
                self.http_requests.labels(counted, place, str(status)),
                # Where no route matches, methods are as many buckets for nothing.
                self.http_duration.labels(OTHER if place == UNMATCHED else counted, place),
            )
            if known == method:  # other methods are without number
                self._answers[method, route, status] = found
        found[0].inc()
        if seconds is not None:
            found[1].observe(seconds, None if trace_id is None else {"trace_id": trace_id})

    def _counted(self, method: str, route: str) -> tuple[str, str]:
        """Return the method and route to count, from the closed set of `create_routes`."""
        for one in (method, "GET" if method == "HEAD" else method):
            if (one, route) in self._routes:
                return one, route
        return method, UNMATCHED

    def stage(self, stage: str, seconds: float) -> None:
        """Note the time of one stage of STAGES."""
        self._stages[stage].observe(seconds)


def _texts(statuses: Iterable[int]) -> list[str]:
    return [str(status) for status in statuses]
