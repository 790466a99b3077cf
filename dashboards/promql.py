"""Expressions that panels share. All are over Grafana's `$__rate_interval`."""

from __future__ import annotations

RATE = "[$__rate_interval]"
RECOMMEND = 'route=~"(/v1)?/recommend(/batch)?"'
# A shadow's work is no part of what answers cost.
ANSWERING = 'variant!="shadow"'


def rate(metric: str, *, by: str = "", where: str = "") -> str:
    """Return the summed rate of a counter, `by` labels, `where` matchers hold."""
    grouped = f" by ({by})" if by else ""
    selector = f"{{{where}}}" if where else ""
    return f"sum{grouped} (rate({metric}{selector}{RATE}))"


def over(part: str, whole: str, *, on: str | None = None) -> str:
    """Return `part / whole`, absent rather than NaN where the whole is 0.

    `on` names no labels ("") when a grouped part is divided by one total.
    """
    matching = "" if on is None else f" on ({on}) group_left ()"
    return f"{part} /{matching} ({whole} > 0)"


def saved(spent: str, baseline: str) -> str:
    """Return the share of `baseline` that was not `spent`."""
    return f"1 - {over(spent, baseline)}"


def quantile(share: float, metric: str, *, by: str = "", where: str = "") -> str:
    """Return a quantile of a histogram."""
    labels = f"le, {by}" if by else "le"
    return f"histogram_quantile({share}, {rate(f'{metric}_bucket', by=labels, where=where)})"


def mean(metric: str, *, by: str = "", where: str = "") -> str:
    """Return the mean of a histogram's observations."""
    return over(
        rate(f"{metric}_sum", by=by, where=where), rate(f"{metric}_count", by=by, where=where)
    )


def increase(metric: str, over_time: str, *, by: str = "", where: str = "") -> str:
    """Return the summed growth of a counter over a time such as `1h`."""
    grouped = f" by ({by})" if by else ""
    selector = f"{{{where}}}" if where else ""
    return f"sum{grouped} (increase({metric}{selector}[{over_time}]))"
