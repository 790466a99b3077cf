"""What an engine's work cost, by submodel and part, and what the full network's would have.

FLOPs are known exactly. CPU time of a network that did not run can only be estimated: from the
calls in which the full network did run, warm-up included, as a fixed cost per call plus a cost
per FLOP.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from service.engine.contract import EVERY_SUBMODEL, Part, Ranking, Work

# Of this weight is every earlier measurement when a new one comes: about the last hundred count.
_FORGETTING = 0.99
_NETWORK: tuple[Part, ...] = ("encoder", "scoring")


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupCost:
    """One group of queries that ran through one submodel at one padded length."""

    submodel: str
    members: tuple[int, ...]
    """Places of its queries among the rankings."""
    cpu_seconds: Mapping[Part, float]
    """Thread CPU seconds of `encoder` and `scoring`."""


class FullNetworkCpu:
    """Predicts one part's CPU seconds of the full network: seconds per call and per FLOP.

    Least squares over (flops, seconds) with fading memory; neither cost is ever negative.
    """

    def __init__(self) -> None:
        self._count = self._x = self._y = self._xx = self._xy = 0.0

    def measured(self, flops: float, seconds: float) -> None:
        """Learn from one call that took so many FLOPs and CPU seconds."""
        self._count = self._count * _FORGETTING + 1
        self._x = self._x * _FORGETTING + flops
        self._y = self._y * _FORGETTING + seconds
        self._xx = self._xx * _FORGETTING + flops * flops
        self._xy = self._xy * _FORGETTING + flops * seconds

    def predict(self, calls: int, flops: float) -> float | None:
        """Return the CPU seconds of so many calls with so many FLOPs in all; None unmeasured."""
        if not self._xx:
            return None
        spread = self._count * self._xx - self._x * self._x
        if spread <= 1e-9 * self._count * self._xx:  # all calls were alike
            return flops * self._y / self._x
        per_flop = (self._count * self._xy - self._x * self._y) / spread
        per_call = (self._y - per_flop * self._x) / self._count
        if per_flop < 0:
            return calls * self._y / self._count
        if per_call < 0:
            return flops * self._xy / self._xx
        return calls * per_call + flops * per_flop


class Accounting:
    """Adds up one engine's batches. `full` names its largest submodel."""

    def __init__(self, full: str) -> None:
        self._full = full
        self._cpu = {part: FullNetworkCpu() for part in _NETWORK}

    def work(
        self, rankings: Sequence[Ranking], groups: Iterable[GroupCost], router_cpu_seconds: float
    ) -> dict[tuple[str, Part], Work]:
        """Return what the batch took by (submodel, part); learn from the full network's groups."""
        flops: defaultdict[tuple[str, Part], int] = defaultdict(int)
        cpu: defaultdict[tuple[str, Part], float] = defaultdict(float)
        cpu[EVERY_SUBMODEL, "router"] = router_cpu_seconds
        flops[EVERY_SUBMODEL, "router"] = sum(ranking.flops.router for ranking in rankings)
        for group in groups:
            members = [rankings[place] for place in group.members]
            name = group.submodel
            flops[name, "encoder"] += sum([one.flops.encoder for one in members])
            flops[name, "scoring"] += sum([one.flops.scoring for one in members])
            for part in _NETWORK:
                cpu[name, part] += group.cpu_seconds[part]
                if name == self._full:
                    # Per planned FLOP, for that is what is asked of `predict`: a search of the
                    # catalog may have needed fewer.
                    planned = sum(getattr(one.flops_full, part) for one in members)
                    self._cpu[part].measured(planned, group.cpu_seconds[part])
        return {key: Work(flops=flops[key], cpu_seconds=cpu[key]) for key in cpu}

    def full_cpu_per_flop(self, rankings: Sequence[Ranking], lengths: int) -> dict[Part, float]:
        """Return the full network's CPU seconds per FLOP, had it answered this batch.

        `lengths` counts the padded lengths that occur: so many calls it would have taken. Empty
        until the full network has run, or when the batch needed no network.
        """
        rates: dict[Part, float] = {}
        for part in _NETWORK:
            flops = sum(getattr(ranking.flops_full, part) for ranking in rankings)
            seconds = self._cpu[part].predict(lengths, flops)
            if flops and seconds is not None:
                rates[part] = seconds / flops
        return rates
