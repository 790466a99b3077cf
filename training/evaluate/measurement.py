"""One checkpoint on a set of cases: ranked once, then routed at any price."""

# U cases, S submodels

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from models.ranker import Ranker
from training.data.split import EvalCases
from training.evaluate.lines import Line, Metrics, by_metric
from training.evaluate.price_points import Price, oracle_bound, price_point
from training.evaluate.quality import (
    cpu_milliseconds,
    lengths_read,
    ranks_by_submodel,
    routed_places,
    totals,
)
from training.evaluate.routing_baselines import best_static, oracle, random_routing
from training.progress import Progress

_CPU_CASES = 60


class Measurement:
    """The ranks of every case under each served submodel, and what each costs.

    FLOPs charge router (where one runs), encoder and scoring at the length that runs.
    """

    def __init__(
        self,
        ranker: Ranker,
        cases: EvalCases,
        *,
        validation_ndcg_S: NDArray[np.float64],
        exclude_seen: bool,
        progress: Progress,
    ) -> None:
        self.ranker = ranker
        self.cases = cases
        self.names = [submodel.name for submodel in ranker.served]
        ranks_US = ranks_by_submodel(ranker, cases, exclude_seen=exclude_seen, progress=progress)
        lengths_U = lengths_read(ranker, cases.histories)
        self._routed_cost_US, full_U = totals(ranker, lengths_U)
        self._alone_cost_US = totals(ranker, lengths_U, routed=False)[0]
        self.full_cost = float(full_U.mean())
        """FLOPs that the full network alone spends on a case on average."""
        self._by_submodel = by_metric(ranks_US)
        self._best_U = oracle(1 / ranks_US, self._alone_cost_US)
        self._validation_ndcg_S = validation_ndcg_S
        cpu_S, self._router_cpu = cpu_milliseconds(ranker, cases, most=_CPU_CASES)
        self._cpu_S = np.asarray(cpu_S)
        self._users = np.arange(len(cases))

    def places(self, price: float) -> NDArray[np.int64]:
        """Return the place in `names` that the router gives every case at `price`, (U,)."""
        return routed_places(self.ranker, self.cases, price)

    def mix(self, choice_U: NDArray[np.int64]) -> dict[str, float]:
        """Return the share of the cases by submodel name."""
        share_S = np.bincount(choice_U, minlength=len(self.names)) / len(choice_U)
        return {name: float(share) for name, share in zip(self.names, share_S, strict=True)}

    def submodel(self, place: int, name: str = "submodel") -> Line:
        """Return the line of one submodel for everybody, without a router."""
        return Line(
            name=name,
            submodel=self.names[place],
            metrics={key: values[:, place] for key, values in self._by_submodel.items()},
            flops=float(self._alone_cost_US[:, place].mean()),
            cpu_ms=float(self._cpu_S[place]),
        )

    def full(self) -> Line:
        """Return the line of the full network for everybody."""
        return self.submodel(len(self.names) - 1, "full")

    def routed(self, choice_U: NDArray[np.int64], price: float) -> Line:
        """Return the line of the router's choice."""
        return Line(
            name="routed",
            price=price,
            metrics=self._at(choice_U),
            flops=self._routed_cost(choice_U),
            cpu_ms=self._routed_cpu(choice_U),
        )

    def random(self, choice_U: NDArray[np.int64]) -> Line:
        """Return the line of the same mix dealt out blindly, in exact expectation, at its cost."""
        blind: Metrics = {
            key: random_routing(values, self._routed_cost_US, choice_U).quality
            for key, values in self._by_submodel.items()
        }
        return Line(
            name="random",
            metrics=blind,
            flops=self._routed_cost(choice_U),
            cpu_ms=self._routed_cpu(choice_U),
        )

    def static(self, choice_U: NDArray[np.int64]) -> Line:
        """Return the submodel that was best on validation among those of no greater mean cost.

        The cheapest one when all cost more than the choice.
        """
        average_S = self._alone_cost_US.mean(0)
        # The router's own cost may leave no submodel that is as cheap: then the cheapest.
        affordable = max(self._routed_cost(choice_U), float(average_S.min()))
        place = best_static(self._validation_ndcg_S[None], average_S[None], budget=affordable)
        return self.submodel(place, "static")

    def oracle(self) -> Line:
        """Return the line of the best submodel of every case in hindsight."""
        return Line(
            name="oracle",
            metrics=self._at(self._best_U),
            flops=float(self._alone_cost_US[self._users, self._best_U].mean()),
        )

    def oracle_bound(self, choice_U: NDArray[np.int64]) -> float:
        """Return a mean NDCG@10 that no routing of the choice's cost exceeds on these cases."""
        return oracle_bound(
            self._by_submodel["ndcg@10"], self._alone_cost_US, cost=self._routed_cost(choice_U)
        )

    def price_point(self, price: float, choice_U: NDArray[np.int64], *, seed: int) -> Price:
        """Return what the choice is worth beside blind dealing and hindsight of equal cost."""
        return price_point(
            price,
            choice_U,
            names=self.names,
            ndcg_US=self._by_submodel["ndcg@10"],
            routed_cost_US=self._routed_cost_US,
            alone_cost_US=self._alone_cost_US,
            full_cost=self.full_cost,
            seed=seed,
        )

    def _at(self, choice_U: NDArray[np.int64]) -> Metrics:
        return {key: values[self._users, choice_U] for key, values in self._by_submodel.items()}

    def _routed_cost(self, choice_U: NDArray[np.int64]) -> float:
        return float(self._routed_cost_US[self._users, choice_U].mean())

    def _routed_cpu(self, choice_U: NDArray[np.int64]) -> float:
        share_S = np.bincount(choice_U, minlength=len(self.names)) / len(choice_U)
        return self._router_cpu + float(self._cpu_S @ share_S)
