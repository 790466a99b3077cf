"""Accuracy against compute: the picture that says whether routing pays."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, PercentFormatter
from numpy.typing import NDArray

from training.evaluate.evaluation import Evaluation
from training.evaluate.html.svg import COLOURS
from training.evaluate.report import Row

Floats = NDArray[np.float64]

_FLOORS = {"window5": "--", "markov": "-.", "popularity": ":"}
_BESIDE = ("plain", "canet")


def frontier_figure(evaluation: Evaluation) -> Figure:
    """Return NDCG@10 over the share of the full network's FLOPs, logarithmic."""
    figure = Figure(figsize=(8.2, 4.8), layout="constrained")
    axes = figure.add_subplot()
    rows = evaluation.rows
    _hull(axes, [row for row in rows if row.name in {"submodel", "full"}])
    points = evaluation.frontier
    if points:
        costs = [point.flops_ratio for point in points]
        blind = [point.random for point in points]
        axes.plot(costs, blind, color=COLOURS["random"], label="random routing of equal cost")
        axes.fill_between(
            costs,
            [point.random_low for point in points],
            [point.random_high for point in points],
            color=COLOURS["random"],
            alpha=0.2,
            linewidth=0,
        )
        ndcg = [point.ndcg for point in points]
        spread = [
            [point.ndcg - point.low for point in points],
            [point.high - point.ndcg for point in points],
        ]
        axes.errorbar(
            costs, ndcg, yerr=spread, fmt="o-", color=COLOURS["routed"], label="routed", capsize=2
        )
        bound = [point.oracle for point in points]
        axes.plot(costs, bound, "--", color=COLOURS["oracle"], label="oracle's bound at this cost")
    _point(axes, evaluation.row("routed"), "*", COLOURS["routed"], "routed at the table's price")
    _point(axes, evaluation.row("oracle"), "^", COLOURS["oracle"], "oracle")
    for name in _BESIDE:
        for place, row in enumerate(row for row in rows if row.name == name):
            _point(axes, row, "D", COLOURS[name], name if place == 0 else None)
    bottom, top = axes.get_ylim()
    for row in rows:
        if row.name in _FLOORS:
            value = row.metrics["ndcg@10"]
            # A floor far away would flatten everything else: the legend then gives it.
            seen = bottom - (top - bottom) / 2 <= value <= top + (top - bottom) / 2
            axes.plot(
                [],
                [],
                linestyle=_FLOORS[row.name],
                color=COLOURS["floor"],
                linewidth=1,
                label=f"{row.name} {value:.4f}" + ("" if seen else ", not in the picture"),
            )
            if seen:
                axes.axhline(
                    value, linestyle=_FLOORS[row.name], color=COLOURS["floor"], linewidth=1
                )
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=None))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel("FLOPs of the full network, router and scoring charged (log)")
    axes.set_ylabel("NDCG@10, 95 % interval over users")
    figure.legend(loc="outside right upper")
    return figure


def hull(costs: Sequence[float], values: Sequence[float]) -> tuple[Floats, Floats]:
    """Return the upper concave hull from the cheapest point to the best one, costs ascending.

    What any fixed mixture of the points reaches at most.
    """
    order = np.lexsort((-np.asarray(values), np.asarray(costs)))
    kept: list[tuple[float, float]] = []
    for place in order:
        point = (float(costs[place]), float(values[place]))
        if kept and point[1] <= kept[-1][1]:
            continue  # dearer and no better
        while len(kept) > 1 and _turn(kept[-2], kept[-1], point) >= 0:
            kept.pop()
        kept.append(point)
    found = np.asarray(kept)
    return found[:, 0], found[:, 1]


def _turn(a: tuple[float, float], b: tuple[float, float], c: tuple[float, float]) -> float:
    return (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])


def _hull(axes: Axes, rows: Sequence[Row]) -> None:
    """Draw every submodel with its interval, and the best fixed mixtures of them."""
    costs = [row.flops_ratio or 0.0 for row in rows]
    values = [row.metrics["ndcg@10"] for row in rows]
    corners, tops = hull(costs, values)
    # A straight line in cost is a curve over its logarithm.
    between = np.geomspace(corners[0], max(costs), 200)
    label = "best fixed mixture of no greater cost (static hull)"
    axes.plot(between, np.interp(between, corners, tops), color=COLOURS["hull"], label=label)
    for place, row in enumerate(rows):
        low, high = _spread(row)
        axes.errorbar(
            costs[place],
            values[place],
            yerr=[[low], [high]],
            fmt="s",
            markersize=4,
            capsize=2,
            color=COLOURS["full"],
            label="submodels" if place == 0 else None,
        )
        if row.name == "submodel":
            axes.annotate(
                row.submodel or "",
                (costs[place], values[place]),
                xytext=(4, -10),
                textcoords="offset points",
                fontsize=7,
            )


def _point(axes: Axes, row: Row, marker: str, colour: str, label: str | None) -> None:
    if row.flops_ratio is not None:
        low, high = _spread(row)
        axes.errorbar(
            row.flops_ratio,
            row.metrics["ndcg@10"],
            yerr=[[low], [high]],
            fmt=marker,
            markersize=10 if marker == "*" else 6,
            capsize=2,
            color=colour,
            label=label,
            zorder=3,
        )


def _spread(row: Row) -> tuple[float, float]:
    """Return how far the interval reaches below and above the mean; nothing when unknown."""
    value = row.metrics["ndcg@10"]
    if row.ndcg_low is None or row.ndcg_high is None:
        return 0.0, 0.0
    return max(0.0, value - row.ndcg_low), max(0.0, row.ndcg_high - value)
