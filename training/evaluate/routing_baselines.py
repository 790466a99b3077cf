"""What routing must beat, and what it could reach at most.

All functions read matrices over users and submodels: `quality_US`, higher is better (observed
metrics, or predictions where a function says so), and costs, either (submodels,) or
(users, submodels), in any one unit. Ties always go to the cheaper submodel, then to the first,
so equal inputs give equal choices.
"""

# U users, S submodels

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
_PRICE_PRECISION = 1e-12
_MOST_STEPS = 200


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Outcome:
    """What one way of routing gives: per-user quality (users,) and the mean cost."""

    quality: Floats
    cost: float


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Oracle:
    """The best choice in hindsight (users,) int64, and no routing's mean quality above `bound`."""

    choice: NDArray[np.int64]
    bound: float


@dataclass(frozen=True, slots=True, kw_only=True)
class FrontierPoint:
    """Mean observed quality and mean cost at one price."""

    price: float
    quality: float
    cost: float


def routed(quality_US: Floats, costs: Floats, choice_U: NDArray[np.integer]) -> Outcome:
    """Return what the given choice of a submodel per user gives."""
    cost_US = _costs(quality_US, costs)
    _check_choice(choice_U, quality_US)
    users = np.arange(len(quality_US))
    return Outcome(quality=quality_US[users, choice_U], cost=float(cost_US[users, choice_U].mean()))


def random_routing(quality_US: Floats, costs: Floats, choice_U: NDArray[np.integer]) -> Outcome:
    """Return the exact expectation of dealing the same mix of submodels out blindly.

    Each user's quality is its mean over the mix: the value that infinitely many random
    assignments approach, without their noise. Where costs differ by user, the mean cost is that
    of the blind mix and may differ from the choice's own; compare both.
    """
    cost_US = _costs(quality_US, costs)
    _check_choice(choice_U, quality_US)
    mix_S = np.bincount(choice_U, minlength=quality_US.shape[1]) / len(choice_U)
    return Outcome(quality=quality_US @ mix_S, cost=float((cost_US @ mix_S).mean()))


def best_static(quality_US: Floats, costs: Floats, *, budget: float) -> int:
    """Return the place of the best single submodel whose mean cost is at most `budget`.

    Choose on validation and report it on test, as any model choice. ValueError when even the
    cheapest costs more.
    """
    mean_S = _costs(quality_US, costs).mean(axis=0)
    affordable = mean_S <= budget * (1 + 1e-12)  # its own mean cost is affordable to a submodel
    if not affordable.any():
        raise ValueError(
            f"budget {budget:g} is below the cheapest submodel's mean cost {mean_S.min():g}"
        )
    value_S = np.where(affordable, quality_US.mean(axis=0), -np.inf)
    return int(_cheapest_best(value_S[None], mean_S[None])[0])


def choose(quality_US: Floats, costs: Floats, price: float) -> NDArray[np.int64]:
    """Return argmax over submodels of quality - price * cost, (users,) int64; ties to cheaper."""
    cost_US = _costs(quality_US, costs)
    if not (np.isfinite(price) and price >= 0):
        raise ValueError(f"price is {price}; it must be a finite number of at least 0")
    return _cheapest_best(quality_US - price * cost_US, cost_US)


def oracle(quality_US: Floats, costs: Floats) -> NDArray[np.int64]:
    """Return the best submodel of each user at any cost, (users,) int64; ties to cheaper."""
    return choose(quality_US, costs, 0.0)


def oracle_at_cost(quality_US: Floats, costs: Floats, *, budget: float) -> Oracle:
    """Return the best choice in hindsight whose mean cost is at most `budget`, and a bound.

    The choice is the Lagrangian one, `choose` at the least price that meets the budget; the
    bound is the Lagrangian dual at that price, mean(max(quality - price * cost)) + price *
    budget, which no choice within the budget exceeds, nor any random mixture of choices.
    ValueError when even the cheapest submodels cost more.
    """
    price = price_for_budget(quality_US, costs, budget=budget)
    cost_US = _costs(quality_US, costs)
    best_U = (quality_US - price * cost_US).max(axis=1)
    return Oracle(
        choice=choose(quality_US, costs, price), bound=float(best_U.mean() + price * budget)
    )


def price_frontier(
    predicted_US: Floats, observed_US: Floats, costs: Floats, prices: Floats
) -> list[FrontierPoint]:
    """Return one point per price, in the order given: chosen on predictions, read on observations.

    The cost never rises with the price.
    """
    points = []
    for price in prices:
        outcome = routed(observed_US, costs, choose(predicted_US, costs, float(price)))
        points.append(
            FrontierPoint(
                price=float(price), quality=float(outcome.quality.mean()), cost=outcome.cost
            )
        )
    return points


def price_for_budget(predicted_US: Floats, costs: Floats, *, budget: float) -> float:
    """Return the least price at which the mean cost of `choose` is at most `budget`.

    Found by bisection to a relative 1e-12. The mean cost falls in steps of one user, so it lies
    below the budget by less than the costs of the users who switch at this very price.
    ValueError when even the cheapest submodels cost more.
    """
    cost_US = _costs(predicted_US, costs)

    def spent(price: float) -> float:
        chosen_U = _cheapest_best(predicted_US - price * cost_US, cost_US)
        return float(np.take_along_axis(cost_US, chosen_U[:, None], axis=1).mean())

    least = float(cost_US.min(axis=1).mean())
    if not budget >= least:
        raise ValueError(f"budget {budget:g} is below the least mean cost {least:g}; raise it")
    if spent(0.0) <= budget:
        return 0.0
    low, high = 0.0, 1.0
    while spent(high) > budget:  # ends: at some price everybody takes the cheapest
        low, high = high, high * 2
        if not np.isfinite(high):
            raise ValueError(f"no finite price meets budget {budget:g}; the least is {least:g}")
    for _ in range(_MOST_STEPS):
        if high - low <= _PRICE_PRECISION * high:
            break
        middle = (low + high) / 2
        if spent(middle) <= budget:
            high = middle
        else:
            low = middle
    return high


def _cheapest_best(value_US: Floats, cost_US: Floats) -> NDArray[np.int64]:
    best = value_US == value_US.max(axis=1, keepdims=True)
    places: NDArray[np.int64] = np.where(best, cost_US, np.inf).argmin(axis=1)
    return places


def _costs(quality_US: Floats, costs: Floats) -> Floats:
    """Return costs as (users, submodels); ValueError on shapes or values that make no sense."""
    if quality_US.ndim != 2 or 0 in quality_US.shape:
        raise ValueError(f"quality has shape {quality_US.shape}; give (users, submodels)")
    if costs.shape not in {quality_US.shape, quality_US.shape[1:]}:
        raise ValueError(
            f"costs have shape {costs.shape}; "
            f"give {quality_US.shape[1:]} or {quality_US.shape} as the quality"
        )
    if not np.isfinite(quality_US).all():
        raise ValueError("quality holds NaN or infinity; give one finite number per cell")
    if not (np.isfinite(costs).all() and (costs >= 0).all()):
        raise ValueError("costs must be finite and at least 0")
    return np.broadcast_to(costs, quality_US.shape).astype(np.float64)


def _check_choice(choice_U: NDArray[np.integer], quality_US: Floats) -> None:
    users, submodels = quality_US.shape
    if choice_U.shape != (users,) or not np.issubdtype(choice_U.dtype, np.integer):
        raise ValueError(
            f"choice is {choice_U.dtype} of shape {choice_U.shape}; give integers of ({users},)"
        )
    if choice_U.min() < 0 or choice_U.max() >= submodels:
        raise ValueError(
            f"choices span {choice_U.min()} to {choice_U.max()}; submodels are 0..{submodels - 1}"
        )
