"""What a measurement says: method, machine, one table, findings; as text or as JSON."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Value = str | float | int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """`rows` share their keys; `findings` are sentences; `rounds` are the raw measurements."""

    name: str
    method: Sequence[str]
    machine: str
    rows: Sequence[Mapping[str, Value]]
    findings: Sequence[str] = ()
    rounds: Sequence[Mapping[str, Any]] = field(default_factory=tuple)
    extra: Mapping[str, Any] = field(default_factory=dict)

    def show(self, *, as_json: bool) -> None:
        """Print the report on standard output."""
        if as_json:
            print(
                json.dumps(
                    {
                        "name": self.name,
                        "machine": self.machine,
                        "method": list(self.method),
                        "rows": [dict(row) for row in self.rows],
                        "findings": list(self.findings),
                        "rounds": [dict(one) for one in self.rounds],
                        **self.extra,
                    },
                    indent=2,
                )
            )
            return
        print(f"# {self.name}\n\nMachine: {self.machine}.")
        print("Method: " + " ".join(self.method) + "\n")
        print(table(self.rows))
        for finding in self.findings:
            print(f"\n{finding}")


def table(rows: Sequence[Mapping[str, Value]]) -> str:
    """Return the rows as a Markdown table; the first row's keys head the columns."""
    if not rows:
        return "(nothing measured)"
    heads = list(rows[0])
    cells = [[_text(row[head]) for head in heads] for row in rows]
    widths = [
        max(len(head), *(len(line[place]) for line in cells)) for place, head in enumerate(heads)
    ]

    def line(texts: Sequence[str]) -> str:
        padded = [text.ljust(width) for text, width in zip(texts, widths, strict=True)]
        return "| " + " | ".join(padded) + " |"

    rule = "|" + "|".join("-" * (width + 2) for width in widths) + "|"
    return "\n".join([line(heads), rule, *(line(texts) for texts in cells)])


def median(values: Sequence[float]) -> float:
    """Return the median; ValueError when there is none."""
    return statistics.median(values)


def spread(values: Sequence[float]) -> str:
    """Return `lowest-highest` for a table."""
    return f"{_text(min(values))}-{_text(max(values))}"


def _text(value: Value) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        size = abs(value)
        if size >= 100:
            return f"{value:,.0f}"
        return f"{value:.1f}" if size >= 10 else f"{value:.2f}" if size >= 0.1 else f"{value:.3g}"
    return f"{value:,}" if isinstance(value, int) else value
