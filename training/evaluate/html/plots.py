"""Routing mix, accuracy by group, and the price curve."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from training.evaluate.evaluation import Evaluation
from training.evaluate.html.svg import COLOURS
from training.evaluate.price_points import CurvePoint

_GROUPS = {
    "length": "by length of the history",
    "popularity": "by popularity of the target",
    "complexity": "by complexity of the history",
}


def mix_figure(evaluation: Evaluation) -> Figure:
    """Return how many cases each submodel answers, at the table's price and at the others."""
    bars = [(f"price {evaluation.price:.3g}, the table's", evaluation.mix)]
    bars += [(f"price {point.price:.3g}", point.mix) for point in evaluation.frontier]
    figure = Figure(figsize=(8.2, 0.9 + 0.35 * len(bars)), layout="constrained")
    axes = figure.add_subplot()
    names = list(evaluation.mix)
    shades = mpl.colormaps["viridis"].resampled(max(2, len(names)))
    left = [0.0] * len(bars)
    for place, name in enumerate(names):
        shares = [mix[name] for _, mix in bars]
        axes.barh(range(len(bars)), shares, left=left, color=shades(place), label=name)
        left = [before + share for before, share in zip(left, shares, strict=True)]
    axes.set_yticks(range(len(bars)), [title for title, _ in bars])
    axes.invert_yaxis()
    axes.set_xlim(0, 1)
    axes.grid(visible=False)
    axes.xaxis.set_major_formatter(PercentFormatter(1.0))
    axes.set_xlabel("share of the cases, cheapest submodel on the left")
    figure.legend(loc="outside right upper")
    return figure


def groups_figure(evaluation: Evaluation) -> Figure:
    """Return NDCG@10 of full and routed, one panel for each kind of group."""
    kinds = list(dict.fromkeys(group.by for group in evaluation.groups))
    figure = Figure(figsize=(8.2, 2.6 * len(kinds)), layout="constrained")
    for place, kind in enumerate(kinds):
        axes = figure.add_subplot(len(kinds), 1, place + 1)
        found = [group for group in evaluation.groups if group.by == kind]
        middle = range(len(found))
        for name, shift in (("full", -0.2), ("routed", 0.2)):
            values = [group.full if name == "full" else group.routed for group in found]
            axes.bar(
                [x + shift for x in middle], values, width=0.38, color=COLOURS[name], label=name
            )
        # Below the bars: what routing costs this group.
        labels = [
            f"{group.group}\n" + ("" if group.relative is None else f"{group.relative:+.1%}")
            for group in found
        ]
        axes.set_xticks(list(middle), labels, fontsize=7)
        axes.grid(visible=False, axis="x")
        axes.set_title(_GROUPS.get(kind, kind), loc="left", fontsize=9)
        axes.set_ylabel("NDCG@10")
        if place == 0:
            figure.legend(*axes.get_legend_handles_labels(), loc="outside right upper")
    return figure


def price_figure(evaluation: Evaluation, curve: Sequence[CurvePoint]) -> Figure:
    """Return cost and NDCG@10 over the price: as stored with the checkpoint, and as measured."""
    stored = sorted(curve, key=lambda point: point.price)
    measured = evaluation.frontier
    figure = Figure(figsize=(8.2, 4.6), layout="constrained")
    cost, quality = figure.subplots(2, 1, sharex=True)
    for axes, stored_values, values in (
        (cost, [point.flops_ratio for point in stored], [point.flops_ratio for point in measured]),
        (quality, [point.ndcg_10 for point in stored], [point.ndcg for point in measured]),
    ):
        axes.plot(
            [point.price for point in stored],
            stored_values,
            color=COLOURS["full"],
            label="stored curve (validation)",
        )
        axes.plot(
            [point.price for point in measured],
            values,
            "o",
            color=COLOURS["routed"],
            label="these cases",
        )
        axes.axvline(
            evaluation.price, color=COLOURS["random"], linestyle="--", label="the table's price"
        )
    prices = [point.price for point in stored] + [point.price for point in measured]
    above = [price for price in prices if price > 0]
    if above:  # the first price is 0, which no logarithm shows
        quality.set_xscale("symlog", linthresh=min(above))
        quality.set_xlim(left=0)
    cost.yaxis.set_major_formatter(PercentFormatter(1.0))
    cost.set_ylabel("FLOPs of full")
    quality.set_ylabel("NDCG@10")
    quality.set_xlabel("price of compute (logarithmic, 0 on the left)")
    figure.legend(*cost.get_legend_handles_labels(), loc="outside right upper")
    return figure
