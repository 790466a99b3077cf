"""The evaluation as one HTML file that needs no network."""

from __future__ import annotations

from collections.abc import Sequence

from jinja2 import Environment, PackageLoader, StrictUndefined

from training.evaluate.evaluation import Evaluation
from training.evaluate.html.frontier_plot import frontier_figure
from training.evaluate.html.plots import groups_figure, mix_figure, price_figure
from training.evaluate.html.svg import styled, to_svg
from training.evaluate.price_points import CurvePoint
from training.evaluate.report import table_columns


def render_page(
    evaluation: Evaluation, curve: Sequence[CurvePoint], *, version: str, data: str, split: str
) -> str:
    """Return the whole page as text.

    Args:
        evaluation: what is shown.
        curve: the checkpoint's stored price curve.
        version: of the checkpoint.
        data: the name of the file of interactions.
        split: how it was split.
    """
    columns = table_columns(
        evaluation.rows,
        metrics=list(dict.fromkeys(key for row in evaluation.rows for key in row.metrics)),
    )
    with styled():
        plots = [
            {
                "title": "Frontier",
                "svg": to_svg(
                    frontier_figure(evaluation),
                    "frontier",
                    "NDCG@10 over the share of the full network's FLOPs",
                ),
                "caption": "Up and to the left is better. Routing pays where its points lie above "
                "the blue line, the best fixed mixture of submodels, chosen on these very cases. "
                "No routing reaches the oracle's bound. Counts without a network are horizontal "
                "lines; they have no cost here.",
            },
            {
                "title": "Routing mix",
                "svg": to_svg(mix_figure(evaluation), "mix", "Share of cases by submodel"),
                "caption": "What the router gives the cases at every price.",
            },
            {
                "title": "Accuracy by group",
                "svg": to_svg(groups_figure(evaluation), "groups", "NDCG@10 by group of cases"),
                "caption": "Below the bars: NDCG@10 of routed relative to the full network. "
                "Small groups swing by chance.",
            },
            {
                "title": "Price curve",
                "svg": to_svg(
                    price_figure(evaluation, curve), "price", "Cost and NDCG@10 by price"
                ),
                "caption": "The line was measured on validation when the checkpoint was made; the "
                "points are the cases of this report.",
            },
        ]
    environment = Environment(
        loader=PackageLoader("training.evaluate.html", ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("page.html.j2").render(
        evaluation=evaluation,
        version=version,
        data=data,
        split=split,
        titles=[title for title, _ in columns],
        rows=list(zip(*(cells for _, cells in columns), strict=True)),
        bold=next(place for place, row in enumerate(evaluation.rows) if row.name == "routed"),
        routed=evaluation.row("routed"),
        full=evaluation.row("full"),
        plots=plots,
    )
