"""Rows of the evaluation table, as JSON and as text."""

from __future__ import annotations

import io
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.box import ASCII2, SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

# full: the whole network. routed: the router at `price`. random: the routed mix, dealt blindly.
# static: the best single submodel that costs no more. plain: a network of the routed cost,
# trained alone. canet: the published method, routed. oracle: the best submodel per user in
# hindsight. submodel: one of the grid.
NAMES = (
    "full",
    "routed",
    "random",
    "static",
    "plain",
    "canet",
    "oracle",
    "popularity",
    "markov",
    "window5",
    "submodel",
)

_COMPARISON = ("difference", "low", "high", "p")
_REQUIRED_METRICS = ("ndcg@10", "hr@10", "mrr@10")
# Measured for few rows, a key of all.
_SOME = ("coverage@10", "coverage@20")


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One system, measured on all users.

    name: one of NAMES. submodel: its public name, where one submodel answers everybody.
    price: the price of compute, where one was set. metrics: means over users by key, such as
    `ndcg@10`; at least ndcg, hr and mrr at 10. flops: average per user, everything charged.
    ndcg_low, ndcg_high: 95 % interval of `ndcg@10` over users. flops_ratio: to the full
    network. cpu_ms: CPU milliseconds per user.
    difference, low, high, p: routed's NDCG@10 minus this row's, its 95 % interval over users
    and the two-sided p; all or none. relative, relative_low, relative_high: the same as a share
    of this row's NDCG@10; None also where that is 0. each: NDCG@10 of every training, where the
    row is a mean over several.

    ValueError for an unknown name, a missing metric, a number that JSON cannot hold, or half a
    comparison.
    """

    name: str
    submodel: str | None = None
    price: float | None = None
    metrics: Mapping[str, float]
    ndcg_low: float | None = None
    ndcg_high: float | None = None
    flops: float | None = None
    flops_ratio: float | None = None
    cpu_ms: float | None = None
    difference: float | None = None
    low: float | None = None
    high: float | None = None
    p: float | None = None
    relative: float | None = None
    relative_low: float | None = None
    relative_high: float | None = None
    each: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        if self.name not in NAMES:
            raise ValueError(f"row name {self.name!r} is unknown; known are {', '.join(NAMES)}")
        missing = [key for key in _REQUIRED_METRICS if key not in self.metrics]
        if missing:
            raise ValueError(f"row {self.name!r} lacks the metrics {', '.join(missing)}")
        values = self.to_json()
        clash = sorted(set(self.metrics) & (set(self.__slots__) - {"metrics"}))
        if clash:
            raise ValueError(f"metrics {', '.join(clash)} of row {self.name!r} are columns")
        for key, value in values.items():
            if isinstance(value, float) and not math.isfinite(value):
                raise ValueError(f"{key} of row {self.name!r} is {value}; give a finite number")
        given = [key for key in _COMPARISON if values[key] is not None]
        if given and len(given) < len(_COMPARISON):
            raise ValueError(
                f"row {self.name!r} has {', '.join(given)} of a comparison; "
                f"give all of {', '.join(_COMPARISON)} or none"
            )

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values, every column as a key, metrics among them; None is null."""
        return {
            "name": self.name,
            "submodel": self.submodel,
            "price": self.price,
            **dict.fromkeys(_SOME),
            **self.metrics,
            "ndcg@10_low": self.ndcg_low,
            "ndcg@10_high": self.ndcg_high,
            "flops": self.flops,
            "flops_ratio": self.flops_ratio,
            "cpu_ms": self.cpu_ms,
            "difference": self.difference,
            "low": self.low,
            "high": self.high,
            "p": self.p,
            "relative": self.relative,
            "relative_low": self.relative_low,
            "relative_high": self.relative_high,
            "each": None if self.each is None else list(self.each),
        }


def render_table(
    rows: Sequence[Row], *, metrics: Sequence[str] | None = None, styled: bool | None = None
) -> str:
    """Return the rows as a text table; columns that no row fills are left out.

    Args:
        rows: in the order shown.
        metrics: keys to show; by default every metric at 10, in the order of the rows.
        styled: colours and lines for a terminal, else plain ASCII; by default whatever standard
            output is. Lines are never cut or wrapped.
    """
    styled = sys.stdout.isatty() if styled is None else styled
    columns = table_columns(rows, metrics=metrics)
    table = Table(box=SIMPLE_HEAD if styled else ASCII2, show_edge=not styled)
    for title, _ in columns:
        table.add_column(
            title, justify="left" if title in {"", "submodel"} else "right", no_wrap=True
        )
    routed = next((place for place, row in enumerate(rows) if row.name == "routed"), None)
    for place in range(len(rows)):
        table.add_row(
            *(cells[place] for _, cells in columns),
            style="bold" if styled and place == routed else None,
        )
    # Measured first: a console narrower than the table would cut its cells.
    out = io.StringIO()
    wide = Console(file=out, force_terminal=styled, no_color=not styled, width=10_000)
    console = Console(
        file=out,
        force_terminal=styled,
        no_color=not styled,
        width=max(1, wide.measure(table).maximum),
    )
    console.print(table)
    return "\n".join(line.rstrip() for line in out.getvalue().strip("\n").split("\n"))


def table_columns(
    rows: Sequence[Row], *, metrics: Sequence[str] | None = None
) -> list[tuple[str, list[str]]]:
    """Return (title, cells) of every column that some row fills; arguments as `render_table`."""
    if metrics is None:
        metrics = list(
            dict.fromkeys(key for row in rows for key in row.metrics if key.endswith("@10"))
        )
    columns = [("", [row.name for row in rows])]
    columns += [("submodel", [row.submodel or "" for row in rows])]
    columns += [("price", [_number(row.price, ".4g") for row in rows])]
    columns += [
        (_title(key), [_number(row.metrics.get(key), ".4f") for row in rows]) for key in metrics
    ]
    columns += [
        ("MFLOPs", [_number(row.flops and row.flops / 1e6, ".2f") for row in rows]),
        ("of full", [_number(row.flops_ratio, ".1%") for row in rows]),
        ("CPU ms", [_number(row.cpu_ms, ".2f") for row in rows]),
        ("routed ahead by", [_number(row.difference, "+.4f") for row in rows]),
        ("95 % interval", [_interval(row) for row in rows]),
        ("p", [_p(row.p) for row in rows]),
    ]
    columns += [
        ("each training", [" ".join(f"{one:.4f}" for one in row.each or ()) for row in rows])
    ]
    return [(title, cells) for title, cells in columns if any(cells)]


def _title(key: str) -> str:
    name, _, cutoff = key.partition("@")
    return f"{name.upper() if len(name) <= 4 else name}@{cutoff}"


def _number(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)


def _interval(row: Row) -> str:
    return "" if row.low is None or row.high is None else f"{row.low:+.4f} to {row.high:+.4f}"


def _p(value: float | None) -> str:
    return "" if value is None else "<.001" if value < 0.001 else f"{value:.3f}"
