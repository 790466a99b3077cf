"""The searches by name."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from models.checkpoint.elastic import Search
from training.elastic.search.evolution import EvolutionConfig, Label, evolve
from training.elastic.search.knapsack import knapsack
from training.elastic.search.problem import Ints, Problem
from training.elastic.search.simple import by_popularity, random_choice, uniform


def choose(
    search: Search,
    problem: Problem,
    *,
    label: Label | None = None,
    evolution: EvolutionConfig | None = None,
    seed: int = 0,
    advance: Callable[[int], None] = lambda units: None,
) -> Ints:
    """Return the choice that a search finds; deterministic for a seed.

    ValueError for evolution without `label`, which measures a choice on validation.
    """
    if search == "knapsack":
        return knapsack(problem)
    if search == "uniform":
        return uniform(problem)
    if search == "popularity":
        return by_popularity(problem)
    if search == "random":
        return random_choice(problem, np.random.default_rng(seed))
    if label is None:
        raise ValueError(
            "search evolution ranks validation users with the widths it tries, so it needs the "
            "interactions; give --data, or take search knapsack"
        )
    config = evolution or EvolutionConfig(seed=seed)
    return evolve(problem, label, config, advance=advance)
