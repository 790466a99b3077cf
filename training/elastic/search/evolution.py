"""RULE's search: an estimator learns from labelled choices, evolution follows the estimator.

The published search code could not be read; this is its description (population of 20, 50
children a generation, the 5 best kept) with what makes it honest: the best of every round are
labelled by the real network, the estimator learns from them too, and what is returned is the
best choice that was really measured.
"""

# N choices, G item groups

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from training.elastic.search.estimator import estimates, fit_estimator
from training.elastic.search.problem import Floats, Ints, Problem
from training.elastic.search.simple import random_choice

Label = Callable[[Ints], float]


@dataclass(frozen=True, slots=True, kw_only=True)
class EvolutionConfig:
    """`labels` choices are measured at random first, then `checked` in each of `rounds`.

    A round fits the estimator and runs `generations` of `children` from the `kept` best of
    `population`.
    """

    labels: int = 30
    rounds: int = 4
    checked: int = 5
    population: int = 20
    children: int = 50
    kept: int = 5
    generations: int = 30
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("labels", "checked", "population", "children", "kept", "generations"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1")
        if self.rounds < 0:
            raise ValueError(f"rounds is {self.rounds}; it must be at least 0")


def evolve(
    problem: Problem,
    label: Label,
    config: EvolutionConfig,
    *,
    starts: Sequence[Ints] = (),
    advance: Callable[[int], None] = lambda units: None,
) -> Ints:
    """Return the best choice measured; `label` measures one (higher is better).

    `starts` are feasible choices that are labelled besides the random ones. At most
    `config.labels + rounds * checked` labels are asked for, `advance` is told each. Deterministic
    for a seed.
    """
    generator = np.random.default_rng(config.seed)
    labelled: dict[tuple[int, ...], float] = {}

    def measure(choice_G: Ints) -> None:
        key = tuple(choice_G.tolist())
        if key not in labelled:
            labelled[key] = label(choice_G)
        advance(1)

    for start in starts[: config.labels]:
        measure(start)
    for _ in range(config.labels - len(starts)):
        measure(random_choice(problem, generator))
    for round_ in range(config.rounds):
        choices_NG = np.array(list(labelled), dtype=np.int64)
        values_N = np.array(list(labelled.values()))
        estimator = fit_estimator(choices_NG, values_N, len(problem.widths_W), config.seed + round_)
        best_first = choices_NG[np.argsort(-values_N, kind="stable")]
        found_NG = _search(
            problem,
            partial(estimates, estimator),
            best_first[: config.population],
            config,
            generator,
        )
        fresh = [one for one in found_NG if tuple(one.tolist()) not in labelled]
        for choice_G in fresh[: config.checked]:
            measure(choice_G)
    best = max(labelled, key=lambda key: labelled[key])
    return np.array(best, dtype=np.int64)


def _search(
    problem: Problem,
    predict: Callable[[Ints], Floats],
    population_NG: Ints,
    config: EvolutionConfig,
    generator: np.random.Generator,
) -> Ints:
    """Return distinct choices by falling prediction after the generations."""
    for _ in range(config.generations):
        parents_NG = population_NG[: config.kept]
        children = []
        for _ in range(config.children):
            mother, father = parents_NG[generator.integers(len(parents_NG), size=2)]
            child_G = np.where(generator.random(problem.groups) < 0.5, mother, father)
            children.append(_repair(problem, _mutate(problem, child_G, generator), generator))
        pool_NG = np.unique(np.concatenate([population_NG, np.stack(children)]), axis=0)
        order = np.argsort(-predict(pool_NG), kind="stable")
        population_NG = pool_NG[order[: config.population]]
    return population_NG


def _mutate(problem: Problem, choice_G: Ints, generator: np.random.Generator) -> Ints:
    """Return the choice with one group a step narrower and another a step wider."""
    choice_G = choice_G.copy()
    narrower, wider = generator.integers(problem.groups, size=2)
    choice_G[narrower] = max(0, choice_G[narrower] - 1)
    choice_G[wider] = min(len(problem.widths_W) - 1, choice_G[wider] + 1)
    return choice_G


def _repair(problem: Problem, choice_G: Ints, generator: np.random.Generator) -> Ints:
    """Return the choice made feasible: random groups narrowed, then widened while they fit."""
    choice_G = choice_G.copy()
    while not problem.fits(choice_G):
        wide = np.flatnonzero(choice_G > 0)
        choice_G[wide[generator.integers(len(wide))]] -= 1
    left = problem.budget - problem.bytes_of(choice_G)
    steps_GW = np.diff(problem.bytes_GW, axis=1)
    for group in generator.permutation(problem.groups):
        place = int(choice_G[group])
        if place < steps_GW.shape[1] and steps_GW[group, place] <= left:
            choice_G[group] += 1
            left -= int(steps_GW[group, place])
    return choice_G
