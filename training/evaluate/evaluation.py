"""The whole table: submodels, routed at several prices, random, static, oracle, simple floors."""

# U cases, S submodels

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.ranker import Ranker
from training.data.split import EvalCases, Split
from training.evaluate.baselines import Markov, Popularity, Window, baseline_ranks
from training.evaluate.beside import Contender
from training.evaluate.bootstrap import compare, interval
from training.evaluate.groups import Group, groups
from training.evaluate.lists import coverage, top_lists
from training.evaluate.metrics import CUTOFFS, hr_at, mrr_at, ndcg_at
from training.evaluate.price_points import Price, oracle_bound, price_point
from training.evaluate.quality import (
    cpu_milliseconds,
    ranks_by_submodel,
    routed_places,
    router_view,
    totals,
)
from training.evaluate.report import Row
from training.evaluate.routing_baselines import best_static, oracle, random_routing
from training.progress import Progress

Metrics = dict[str, NDArray[np.float64]]
_METRICS = {"ndcg": ndcg_at, "hr": hr_at, "mrr": mrr_at}
_CPU_CASES = 60


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
        if not (np.isfinite(one) and one >= 0):
            raise ValueError(f"price is {one}; it must be a finite number of at least 0")
    ranks_US = ranks_by_submodel(ranker, cases, exclude_seen=exclude_seen, progress=progress)
    lengths_U = router_view(ranker, cases)[1]
    chosen_U = routed_places(ranker, cases, price)
    routed_cost_US, full_U = totals(ranker, lengths_U)
    alone_cost_US = totals(ranker, lengths_U, routed=False)[0]
    users = np.arange(len(cases))
    by_submodel = _by_metric(ranks_US)
    cpu_S, router_cpu = cpu_milliseconds(ranker, cases, most=_CPU_CASES)
    cpu = np.asarray(cpu_S)
    mix_S = np.bincount(chosen_U, minlength=len(ranker.served)) / len(cases)
    routed: Metrics = {name: values[users, chosen_U] for name, values in by_submodel.items()}
    routed_cost = float(routed_cost_US[users, chosen_U].mean())
    average_S = alone_cost_US.mean(0)
    # The router's own cost may leave no submodel that is as cheap: then the cheapest.
    affordable = max(routed_cost, float(average_S.min()))
    static = best_static(validation_ndcg_S[None], average_S[None], budget=affordable)
    table = _Table(routed["ndcg@10"], float(full_U.mean()), seed)
    full = len(ranker.served) - 1
    names = [submodel.name for submodel in ranker.served]
    coverage_of = [
        coverage(
            top_lists(ranker, cases, places_U, exclude_seen=exclude_seen, progress=progress),
            num_items=ranker.config.num_items,
        )
        for places_U in (np.full(len(cases), full), chosen_U)
    ]
    table.add(
        "full",
        _at(by_submodel, full),
        average_S[full],
        cpu[full],
        submodel=names[full],
        coverage=coverage_of[0],
    )
    table.add(
        "routed",
        routed,
        routed_cost,
        router_cpu + float(cpu @ mix_S),
        price=price,
        coverage=coverage_of[1],
    )
    blind: Metrics = {
        name: random_routing(values, routed_cost_US, chosen_U).quality
        for name, values in by_submodel.items()
    }
    table.add("random", blind, routed_cost, router_cpu + float(cpu @ mix_S))
    table.add(
        "static", _at(by_submodel, static), average_S[static], cpu[static], submodel=names[static]
    )
    best_U = oracle(1 / ranks_US, alone_cost_US)
    table.add(
        "oracle",
        {name: values[users, best_U] for name, values in by_submodel.items()},
        float(alone_cost_US[users, best_U].mean()),
        None,
    )
    frontier: list[Price] = []
    for other in sorted(set(prices)):
        places_U = routed_places(ranker, cases, other)
        shares_S = np.bincount(places_U, minlength=len(names)) / len(cases)
        table.add(
            "routed",
            {name: values[users, places_U] for name, values in by_submodel.items()},
            float(routed_cost_US[users, places_U].mean()),
            router_cpu + float(cpu @ shares_S),
            price=other,
        )
        frontier.append(
            price_point(
                other,
                places_U,
                names=names,
                ndcg_US=by_submodel["ndcg@10"],
                routed_cost_US=routed_cost_US,
                alone_cost_US=alone_cost_US,
                full_cost=float(full_U.mean()),
                seed=seed,
            )
        )
    for place, name in enumerate(names):
        table.add("submodel", _at(by_submodel, place), average_S[place], cpu[place], submodel=name)
    for rival in beside:
        table.add(
            rival.name,
            _by_metric(rival.ranks_U),
            rival.flops,
            rival.cpu_ms,
            submodel=rival.submodel,
            price=rival.price,
        )
    for name, baseline in (
        ("window5", Window(split.training, num_items=len(split.catalog))),
        ("markov", Markov(split.training, num_items=len(split.catalog))),
        ("popularity", Popularity(split.training, num_items=len(split.catalog))),
    ):
        ranks_U = baseline_ranks(baseline, cases, exclude_seen=exclude_seen, progress=progress)
        table.add(name, _by_metric(ranks_U), None, None)
    return Evaluation(
        rows=tuple(table.rows),
        mix={name: float(share) for name, share in zip(names, mix_S, strict=True)},
        cases=len(cases),
        price=price,
        oracle_bound=oracle_bound(by_submodel["ndcg@10"], alone_cost_US, cost=routed_cost),
        frontier=tuple(frontier),
        groups=groups(
            cases,
            ranker.table.dense().numpy(),
            full_U=by_submodel["ndcg@10"][:, full],
            routed_U=routed["ndcg@10"],
        ),
        density=ranker.density,
        table_bytes=ranker.table.num_bytes,
        head=ranker.config.head,
    )


class _Table:
    def __init__(self, routed_U: NDArray[np.float64], full_cost: float, seed: int) -> None:
        self.rows: list[Row] = []
        self._routed_U = routed_U
        self._full_cost = full_cost
        self._seed = seed

    def add(
        self,
        name: str,
        metrics: Metrics,
        flops: float | None,
        cpu_ms: float | None,
        *,
        submodel: str | None = None,
        price: float | None = None,
        coverage: Mapping[str, float] | None = None,
    ) -> None:
        here = interval(metrics["ndcg@10"], seed=self._seed)
        against = (
            None
            if metrics["ndcg@10"] is self._routed_U
            else compare(self._routed_U, metrics["ndcg@10"], seed=self._seed)
        )
        self.rows.append(
            Row(
                name=name,
                submodel=submodel,
                price=price,
                metrics={key: float(values.mean()) for key, values in metrics.items()}
                | dict(coverage or {}),
                ndcg_low=here.low,
                ndcg_high=here.high,
                flops=flops,
                flops_ratio=flops / self._full_cost if flops is not None else None,
                cpu_ms=float(cpu_ms) if cpu_ms is not None else None,
                difference=against.difference if against else None,
                low=against.low if against else None,
                high=against.high if against else None,
                p=against.p if against else None,
            )
        )


def _by_metric(ranks: NDArray[np.float64]) -> Metrics:
    return {f"{name}@{k}": metric(ranks, k) for name, metric in _METRICS.items() for k in CUTOFFS}


def _at(by_submodel: Metrics, place: int) -> Metrics:
    return {name: values[:, place] for name, values in by_submodel.items()}
