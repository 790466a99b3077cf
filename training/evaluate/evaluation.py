"""The whole table: submodels, routed at several prices, random, static, oracle, simple floors."""

# U cases, S submodels

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.ranker import Ranker
from training.data.split import EvalCases, Split
from training.evaluate.baselines import Markov, Popularity, Window, baseline_ranks
from training.evaluate.beside import Contender
from training.evaluate.groups import Group, groups
from training.evaluate.lines import Line, by_metric, tabulate
from training.evaluate.lists import coverage, top_lists
from training.evaluate.measurement import Measurement
from training.evaluate.price_points import Price
from training.evaluate.report import Row
from training.progress import Progress


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """All rows, how the router spread the cases, and on how many cases it was measured.

    oracle_bound: no routing of routed's cost has a higher mean NDCG@10 on these cases; None
    where it was not measured. frontier: the router at other prices, ascending, on the same cases.
    """

    rows: tuple[Row, ...]
    mix: Mapping[str, float]
    cases: int
    price: float
    oracle_bound: float | None = None
    frontier: tuple[Price, ...] = ()
    groups: tuple[Group, ...] = ()
    density: float = 1.0
    """Share of the weights that are not zero; see `models.density`."""
    table_bytes: int = 0
    """Bytes of the item table: rows and projections."""
    head: str = "full"
    """How scores become probabilities; see `SupernetConfig.head`."""

    def row(self, name: str) -> Row:
        """Return the first row called `name`; KeyError when there is none."""
        for row in self.rows:
            if row.name == name:
                return row
        raise KeyError(name)

    def metrics(self) -> dict[str, float]:
        """Return the headline figures, as the manifest and `GET /v1/model` show them."""
        found: dict[str, float] = {"cases": float(self.cases)}
        for name in ("full", "routed", "random", "static", "window5", "popularity"):
            row = self.row(name)
            found[f"{name}_ndcg_10"] = row.metrics["ndcg@10"]
            found[f"{name}_hr_10"] = row.metrics["hr@10"]
        ratio = self.row("routed").flops_ratio
        assert ratio is not None
        found["routed_flops_ratio"] = ratio
        found["density"] = self.density
        return found

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values; `rows` has the keys that docs/evaluation.md lists."""
        return {
            "cases": self.cases,
            "price": self.price,
            "mix": dict(self.mix),
            "oracle_bound": self.oracle_bound,
            "density": self.density,
            "table_bytes": self.table_bytes,
            "head": self.head,
            "frontier": [price.to_json() for price in self.frontier],
            "rows": [row.to_json() for row in self.rows],
            "groups": [group.to_json() for group in self.groups],
        }


def evaluate(
    ranker: Ranker,
    split: Split,
    cases: EvalCases,
    *,
    price: float,
    prices: Sequence[float] = (),
    validation_ndcg_S: NDArray[np.float64],
    exclude_seen: bool,
    seed: int,
    progress: Progress,
    beside: Sequence[Contender] = (),
) -> Evaluation:
    """Return the table for `cases`, usually the opened test part.

    - full: always the full network. routed: the router at `price`, and again, after the oracle,
      at each of `prices`, ascending, which also make `frontier`.
    - random: the routed mix dealt out blindly, in expectation: equal cost, no intelligence.
    - static: the submodel that was best on validation among those that cost no more on average
      than routed; the cheapest one when all cost more.
    - oracle: the best submodel for every case in hindsight, a bound that nothing reaches.
    - the rows of `beside`, other checkpoints on the same cases; shares of this full network.
    - `difference` is the row's NDCG@10 subtracted from routed's, paired over users, with a 95 %
      bootstrap interval and a two-sided p: positive means that routed is better.

    FLOPs charge router (where one runs), encoder and scoring at the length that runs.
    ValueError for a price that is negative or no number.
    """
    for one in (price, *prices):
        check_price(one)
    measured = Measurement(
        ranker,
        cases,
        validation_ndcg_S=validation_ndcg_S,
        exclude_seen=exclude_seen,
        progress=progress,
    )
    chosen_U = measured.places(price)
    full, routed = (
        replace(
            line,
            coverage=coverage(
                top_lists(ranker, cases, places_U, exclude_seen=exclude_seen, progress=progress),
                num_items=ranker.config.num_items,
            ),
        )
        for line, places_U in (
            (measured.full(), np.full(len(cases), len(measured.names) - 1)),
            (measured.routed(chosen_U, price), chosen_U),
        )
    )
    lines = [full, routed, measured.random(chosen_U), measured.static(chosen_U), measured.oracle()]
    frontier: list[Price] = []
    for other in sorted(set(prices)):
        places_U = measured.places(other)
        lines.append(measured.routed(places_U, other))
        frontier.append(measured.price_point(other, places_U, seed=seed))
    lines += [measured.submodel(place) for place in range(len(measured.names))]
    lines += [rival.line() for rival in beside]
    lines += floors(split, cases, exclude_seen=exclude_seen, progress=progress)
    return Evaluation(
        rows=tabulate(lines, full_cost=measured.full_cost, seed=seed),
        mix=measured.mix(chosen_U),
        cases=len(cases),
        price=price,
        oracle_bound=measured.oracle_bound(chosen_U),
        frontier=tuple(frontier),
        groups=groups(
            cases,
            ranker.table.dense().numpy(),
            full_U=full.metrics["ndcg@10"],
            routed_U=routed.metrics["ndcg@10"],
        ),
        density=ranker.density,
        table_bytes=ranker.table.num_bytes,
        head=ranker.config.head,
    )


def check_price(price: float) -> None:
    """Raise ValueError for a price that is negative or no number."""
    if not (np.isfinite(price) and price >= 0):
        raise ValueError(f"price is {price}; it must be a finite number of at least 0")


def floors(split: Split, cases: EvalCases, *, exclude_seen: bool, progress: Progress) -> list[Line]:
    """Return the lines of what needs no learning: window5, markov and popularity."""
    return [
        Line(
            name=name,
            metrics=by_metric(
                baseline_ranks(baseline, cases, exclude_seen=exclude_seen, progress=progress)
            ),
        )
        for name, baseline in (
            ("window5", Window(split.training, num_items=len(split.catalog))),
            ("markov", Markov(split.training, num_items=len(split.catalog))),
            ("popularity", Popularity(split.training, num_items=len(split.catalog))),
        )
    ]
