"""The HTML report: whole, readable without a network, and honest about what is missing."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest

from models.checkpoint.manifest import PricePoint
from training.evaluate.evaluation import Evaluation
from training.evaluate.groups import Group
from training.evaluate.html.frontier_plot import hull
from training.evaluate.html.page import render_page
from training.evaluate.price_points import Price
from training.evaluate.report import Row

CURVE = tuple(
    PricePoint(price=price, flops_ratio=cost, ndcg_10=0.1)
    for price, cost in ((0.0, 0.9), (0.01, 0.4), (0.2, 0.05))
)


def a_row(name: str, ndcg: float, cost: float | None = None, submodel: str | None = None) -> Row:
    return Row(
        name=name,
        submodel=submodel,
        price=0.01 if name == "routed" else None,
        metrics={"ndcg@10": ndcg, "hr@10": 2 * ndcg, "mrr@10": ndcg / 2, "ndcg@20": ndcg},
        ndcg_low=ndcg - 0.01,
        ndcg_high=ndcg + 0.01,
        flops=None if cost is None else 1e6 * cost,
        flops_ratio=cost,
    )


def a_price(price: float, cost: float) -> Price:
    return Price(
        price=price,
        flops_ratio=cost,
        ndcg=0.16,
        low=0.15,
        high=0.17,
        random=0.15,
        random_low=0.14,
        random_high=0.16,
        oracle=0.2,
        mix={"d1-w32-e32": 1 - cost, "d2-w64-e64": cost},
    )


EVALUATION = Evaluation(
    rows=(
        a_row("full", 0.17, 1.0, "d2-w64-e64"),
        a_row("routed", 0.168, 0.3),
        a_row("random", 0.16, 0.3),
        a_row("static", 0.15, 0.1, "d1-w32-e32"),
        a_row("plain", 0.155, 0.25),
        a_row("oracle", 0.22, 0.2),
        a_row("submodel", 0.15, 0.1, "d1-w32-e32"),
        a_row("submodel", 0.17, 1.0, "d2-w64-e64"),
        a_row("window5", 0.12),
        a_row("popularity", 0.02),
    ),
    mix={"d1-w32-e32": 0.7, "d2-w64-e64": 0.3},
    cases=200,
    price=0.01,
    oracle_bound=0.21,
    frontier=tuple(a_price(point.price, point.flops_ratio) for point in CURVE),
    groups=tuple(
        Group(by=by, group="1st quarter", cases=50, full=0.1, routed=0.1, relative=relative)
        for by, relative in (("length", 0.0), ("popularity", -0.02), ("complexity", None))
    ),
)


def page(evaluation: Evaluation = EVALUATION, *, data: str = "ratings.csv") -> str:
    return render_page(evaluation, CURVE, version="v7", data=data, split="leave-one-out")


class Loads(HTMLParser):
    """Collects whatever a browser would fetch, and every id."""

    def __init__(self) -> None:
        super().__init__()
        self.fetched: list[str] = []
        self.ids: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.ids += [given["id"] or ""] if "id" in given else []
        for key in ("src", "href", "xlink:href", "data", "srcset"):
            value = given.get(key)
            if value is not None and not value.startswith("#"):
                self.fetched.append(f"<{tag} {key}={value}>")


def test_nothing_is_fetched_and_no_two_plots_share_an_id() -> None:
    text = page()
    found = Loads()
    found.feed(text)
    assert found.fetched == []
    assert re.findall(r"@import|url\((?!#)", text) == []
    assert "<script" not in text
    assert len(set(found.ids)) == len(found.ids)
    for name in re.findall(r"(?:url\(#|href=\"#)([^)\"]+)", text):
        assert name in found.ids


def test_four_plots_with_their_words_in_text() -> None:
    plots = re.findall(r"<svg.*?</svg>", page(), flags=re.DOTALL)
    words = [" ".join(ET.fromstring(plot).itertext()) for plot in plots]
    assert len(plots) == 4
    for word in ("routed", "random routing", "static hull", "oracle", "plain", "window5"):
        assert word in words[0]
    assert "d1-w32-e32" in words[1]
    assert "by popularity of the target" in words[2]
    assert "-2.0%" in words[2]
    assert "stored curve (validation)" in words[3]


def test_the_table_shows_every_row_and_metrics_at_20() -> None:
    text = page()
    assert text.count("<tr") == 1 + len(EVALUATION.rows)
    assert "NDCG@20" in text
    assert "0.2100 on these cases" in text
    assert "are not zero" not in text
    assert "50.0 % of the weights are not zero" in page(replace(EVALUATION, density=0.5))


def test_names_from_outside_are_escaped() -> None:
    assert "<b>" not in page(data="<b>.csv")


def test_equal_evaluations_give_equal_pages() -> None:
    assert page() == page()


def test_a_checkpoint_without_a_curve_still_gets_a_report() -> None:
    bare = replace(EVALUATION, frontier=(), groups=(), oracle_bound=None)
    text = render_page(bare, (), version="v7", data="ratings.csv", split="temporal")
    assert text.count("<svg") == 4


def test_the_hull_keeps_what_no_mixture_of_others_beats() -> None:
    costs, values = hull([1.0, 0.1, 0.5, 0.2, 0.8], [0.20, 0.10, 0.12, 0.15, 0.20])
    assert np.column_stack((costs, values)).tolist() == [[0.1, 0.10], [0.2, 0.15], [0.8, 0.20]]


def test_one_submodel_is_its_own_hull() -> None:
    costs, values = hull([0.5], [0.1])
    assert (costs.tolist(), values.tolist()) == ([0.5], [0.1])


@pytest.mark.parametrize("name", ["canet", "plain"])
def test_networks_trained_alone_stand_on_the_frontier(name: str) -> None:
    row = a_row(name, 0.15, 0.3)
    assert f">{name}</text>" in page(replace(EVALUATION, rows=(*EVALUATION.rows, row)))
