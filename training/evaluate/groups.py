"""Is routing fair? Routed beside full by history length, item popularity and complexity."""

# U cases, E embedding width

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.data.split import EvalCases

Floats = NDArray[np.float64]

_NEWEST = 10
_QUARTERS = ("1st quarter", "2nd quarter", "3rd quarter", "4th quarter")


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """NDCG@10 of one group of cases.

    by: `length` (quarters, shortest first), `popularity` (tenths of the cases by the target's
    popularity, most popular first) or `complexity` (quarters by how little neighbours among the
    newest ten items resemble each other, most alike first). relative: routed over full, less 1;
    None where full is 0.
    """

    by: str
    group: str
    cases: int
    full: float
    routed: float
    relative: float | None

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return asdict(self)


def groups(
    cases: EvalCases, table_VE: NDArray[np.float32], *, full_U: Floats, routed_U: Floats
) -> tuple[Group, ...]:
    """Return every group that holds a case. `table_VE` are the item vectors, row 0 padding."""
    found: list[Group] = []
    # Rows stand by falling popularity.
    orders = (
        ("length", cases.histories.lengths().astype(np.float64), _QUARTERS),
        ("popularity", cases.targets.astype(np.float64), _tenths()),
        ("complexity", complexity(cases, table_VE), _QUARTERS),
    )
    for by, value_U, names in orders:
        for name, chosen_U in _parts(value_U, names):
            full, routed = float(full_U[chosen_U].mean()), float(routed_U[chosen_U].mean())
            found.append(
                Group(
                    by=by,
                    group=name,
                    cases=len(chosen_U),
                    full=full,
                    routed=routed,
                    relative=routed / full - 1 if full > 0 else None,
                )
            )
    return tuple(found)


def complexity(cases: EvalCases, table_VE: NDArray[np.float32]) -> Floats:
    """Return 1 - mean cosine of neighbours among the newest ten items; 0 for a single item."""
    norms_V = np.linalg.norm(table_VE, axis=1)
    unit_VE = table_VE / np.maximum(norms_V, 1e-12)[:, None]
    found = np.zeros(len(cases))
    for place in range(len(cases)):
        newest = unit_VE[cases.histories[place][-_NEWEST:]]
        if len(newest) > 1:
            found[place] = 1.0 - float((newest[1:] * newest[:-1]).sum(axis=1).mean())
    return found


def _tenths() -> tuple[str, ...]:
    return tuple(f"tenth {place}" for place in range(1, 11))


def _parts(value_U: Floats, names: tuple[str, ...]) -> Iterator[tuple[str, NDArray[np.int64]]]:
    """Yield the cases of each part of equal size, ascending; equal values stay together."""
    order = np.argsort(value_U, kind="stable")
    ranks = np.searchsorted(value_U[order], value_U, side="left")
    part_U = ranks * len(names) // max(1, len(value_U))
    for place, name in enumerate(names):
        chosen_U = np.flatnonzero(part_U == place)
        if len(chosen_U):
            yield name, chosen_U
