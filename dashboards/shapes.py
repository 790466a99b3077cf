"""Panels that come again and again: a counter by a label, a histogram's spread, and shares."""

from __future__ import annotations

from collections.abc import Mapping

from dashboards.panels import NO_TRAFFIC, Panel, Query, graph
from dashboards.promql import mean, over, quantile, rate, saved

NO_INSTANCE = "no instance"
NO_MODEL = "no model"
MEDIAN_AND_95 = {0.5: "median", 0.95: "95th percentile"}


def rates(
    title: str,
    description: str,
    unit: str,
    metric: str,
    by: str,
    *,
    where: str = "",
    empty: str = NO_INSTANCE,
    width: int = 8,
    stacked: bool = False,
) -> Panel:
    """Return a counter's growth a second, a line for each value of the label `by`.

    Counters exist from 0, so without an instance alone there is nothing to show.
    """
    query = Query(rate(metric, by=by, where=where), f"{{{{{by}}}}}")
    return graph(title, description, unit, query, empty=empty, width=width, stacked=stacked)


def mix(
    title: str, description: str, metric: str, by: str, *, empty: str = NO_TRAFFIC, width: int = 8
) -> Panel:
    """Return the shares that the values of the label `by` have of a counter's growth."""
    query = Query(over(rate(metric, by=by), rate(metric), on=""), f"{{{{{by}}}}}")
    return graph(
        title, description, "percentunit", query, empty=empty, width=width, stacked=True, top=1
    )


def spread(
    title: str,
    description: str,
    unit: str,
    metric: str,
    *,
    shares: Mapping[float, str] = MEDIAN_AND_95,
    where: str = "",
    with_mean: bool = False,
    exemplars: bool = False,
    empty: str = NO_TRAFFIC,
    width: int = 8,
    top: float | None = None,
) -> Panel:
    """Return quantiles of a histogram's observations by their names, and their mean."""
    queries = [
        Query(quantile(share, metric, where=where), name, exemplars=exemplars)
        for share, name in shares.items()
    ]
    if with_mean:
        queries.append(Query(mean(metric, where=where), "mean"))
    return graph(title, description, unit, *queries, empty=empty, width=width, top=top)


def slowest(
    title: str,
    description: str,
    metric: str,
    by: str,
    share: float = 0.99,
    *,
    exemplars: bool = False,
    width: int = 8,
) -> Panel:
    """Return one quantile of a histogram of seconds, a line for each value of the label `by`."""
    query = Query(quantile(share, metric, by=by), f"{{{{{by}}}}}", exemplars=exemplars)
    return graph(title, description, "s", query, width=width)


def means(title: str, description: str, metric: str, by: str, *, width: int = 8) -> Panel:
    """Return the mean of a histogram of seconds, a line for each value of the label `by`."""
    query = Query(mean(metric, by=by), f"{{{{{by}}}}}")
    return graph(title, description, "s", query, width=width)


def ratios(
    title: str, description: str, unit: str, part: str, whole: str, by: str, *, empty: str
) -> Panel:
    """Return a counter's growth over another's, a line for each value of the label `by`."""
    query = Query(over(rate(part, by=by), rate(whole, by=by)), f"{{{{{by}}}}}")
    return graph(title, description, unit, query, empty=empty)


def shares_saved(
    title: str, description: str, *lines: tuple[str, str, str], empty: str, width: int = 8
) -> Panel:
    """Return what was saved of a baseline: (spent, baseline, legend) for each line.

    Below 0, more was spent than the baseline.
    """
    queries = [Query(saved(spent, baseline), legend) for spent, baseline, legend in lines]
    return graph(
        title, description, "percentunit", *queries, empty=empty, width=width, top=1, bottom=None
    )


def beside_full(
    title: str,
    description: str,
    unit: str,
    spent: Query,
    full: str,
    *,
    estimated: bool = False,
    empty: str,
) -> Panel:
    """Return what was spent, and what the full network would have spent."""
    legend = "full network, estimated" if estimated else "full network"
    return graph(title, description, unit, spent, Query(full, legend), empty=empty)


def levels(
    title: str,
    description: str,
    unit: str,
    metric: str,
    by: str,
    *,
    how: str = "max",
    where: str = "",
    empty: str = NO_INSTANCE,
    width: int = 8,
    stacked: bool = False,
    top: float | None = None,
) -> Panel:
    """Return a gauge over the instances (`how`: max, sum, ...), a line for each value of `by`."""
    selector = f"{{{where}}}" if where else ""
    legend = " ".join(f"{{{{{label.strip()}}}}}" for label in by.split(","))
    query = Query(f"{how} by ({by}) ({metric}{selector})", legend)
    return graph(
        title, description, unit, query, empty=empty, width=width, stacked=stacked, top=top
    )
