"""What a deployment needs: CPU per request as a function of the work, and how full a core may be.

CPU seconds per request = fixed + layer * layers + encoder * encoder FLOPs + scan * table bytes,
with coefficients fitted to measurements of the whole service process (`python -m bench fit-plan`).
A replica is one process on one core. How busy it may be follows from the objective by the waiting
time of a queue with random arrivals and exponential work (M/M/1): with service time s and
utilisation u, 99 % are answered within `s * (1 + ln(100 u) / (1 - u))`. Real work varies less
than exponential and is batched, which is on the safe side; pauses of the machine are not.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from importlib import resources
from pathlib import Path
from typing import Any

from models.config import Submodel, SupernetConfig
from models.cost import encoder_flops
from models.table.layout import FLOAT_BYTES, TableLayout

MOST_UTILISATION = 0.85
_LEAST_UTILISATION = 0.01
_SHIPPED = "capacity.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """The mean work of one request: layers run, encoder FLOPs, bytes of item table scored."""

    layers: float
    encoder_flops: float
    table_bytes: float

    def features(self) -> tuple[float, float, float, float]:
        """Return what the four coefficients multiply, in their order."""
        return (1.0, self.layers, self.encoder_flops, self.table_bytes)


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """Seconds of three small works, by which another machine is compared; see capacity_probe."""

    python: float
    product: float
    scan: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Coefficients:
    """Seconds per request, per layer, per encoder FLOP and per byte of table; where they hold.

    `memory_base` and `memory_per_item` are bytes of the resident set, at tables of width
    `emb_width`. `held_out_median` and `held_out_worst` are relative errors of the CPU seconds on
    points that the fit did not see; `rate_median` and `rate_worst` those of the highest rate at a
    p99 objective. `machine` names what was measured on, `remark` what was special.
    """

    machine: str
    remark: str
    points: int
    held_out: int
    fixed: float
    layer: float
    encoder: float
    scan: float
    memory_base: float
    memory_per_item: float
    emb_width: int
    fit_median: float
    held_out_median: float
    held_out_worst: float
    rate_median: float | None
    rate_worst: float | None
    probe: Probe

    def seconds(self, work: Work) -> dict[str, float]:
        """Return CPU seconds of one request by part: fixed, layers, encoder, scoring."""
        one, layers, flops, table = work.features()
        return {
            "fixed": self.fixed * one,
            "layers": self.layer * layers,
            "encoder": self.encoder * flops,
            "scoring": self.scan * table,
        }

    def scaled(self, here: Probe, machine: str) -> Coefficients:
        """Return the coefficients of a machine on which the probe takes `here`."""
        python = here.python / self.probe.python
        values = {
            **{field.name: getattr(self, field.name) for field in fields(self)},
            "machine": machine,
            "remark": f"scaled from {self.machine} by a short probe; its own error is not known",
            "fixed": self.fixed * python,
            "layer": self.layer * python,
            "encoder": self.encoder * here.product / self.probe.product,
            "scan": self.scan * here.scan / self.probe.scan,
            "probe": here,
        }
        return Coefficients(**values)

    def to_json(self) -> str:
        """Return the text that `read_coefficients` reads."""
        return json.dumps(asdict(self), indent=2) + "\n"


def read_coefficients(path: Path | None = None) -> Coefficients:
    """Return the coefficients in `path`, or those that come with the package.

    ValueError, naming the file, when it does not hold coefficients; OSError when unreadable.
    """
    if path is None:
        text = resources.files("models").joinpath(_SHIPPED).read_text(encoding="utf-8")
    else:
        text = path.read_text(encoding="utf-8")
    try:
        values: dict[str, Any] = json.loads(text)
        return Coefficients(**{**values, "probe": Probe(**values["probe"])})
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(
            f"{path or _SHIPPED} holds no coefficients ({error}); write it with "
            "`python -m bench fit-plan --out FILE`"
        ) from None


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """What is asked of a deployment. `budget` is the mean FLOPs over the full network's.

    `table` is the item table's blocks, None where it is stored whole; `table_bytes` says what its
    rows and projections take without saying how. ValueError for both at once, or for bytes that
    are none or more than the whole table's.
    """

    items: int
    length: int
    depth: int
    width: int
    emb_width: int
    budget: float | None
    table: TableLayout | None = None
    table_bytes: int | None = None

    def __post_init__(self) -> None:
        if self.table_bytes is None:
            return
        if self.table is not None:
            raise ValueError("give the table's cuts and ranks, or its bytes, not both")
        whole = FLOAT_BYTES * (self.items + 1) * self.emb_width
        if not 1 <= self.table_bytes <= whole:
            raise ValueError(
                f"table bytes is {self.table_bytes:,}; it must lie between 1 and {whole:,}, the "
                f"whole table of {self.items:,} items at embedding width {self.emb_width}"
            )

    @property
    def is_small(self) -> bool:
        """Whether the table has fewer bytes than one that is stored whole."""
        return self.table is not None or self.table_bytes is not None

    @property
    def stored_bytes(self) -> int:
        """Bytes of the item table: rows and projections."""
        return self.table_bytes or self.config.layout.num_bytes(self.emb_width)

    @property
    def config(self) -> SupernetConfig:
        """The supernet meant; the smallest submodel has one layer, a quarter and a half width."""
        return SupernetConfig(
            num_items=self.items,
            max_length=self.length,
            depths=tuple(sorted({1, self.depth})),
            widths=(self.width // 4, self.width),
            emb_widths=(self.emb_width // 2, self.emb_width),
            memory=None,
            table=self.table,
        )

    def work(self) -> tuple[Work, float]:
        """Return the mean work of one request and the budget it spends.

        The router is taken to mix the smallest submodel and the full network; without a budget
        a third of the FLOPs, or the least there is. Of a table that is given by its bytes every
        submodel is taken to read all of them. ValueError for a budget out of reach.
        """
        works = self._works()
        least = _flops(works[0]) / _flops(works[1])
        budget = max(0.35, least) if self.budget is None else self.budget
        if not least - 1e-9 <= budget <= 1:
            raise ValueError(
                f"budget is {budget:g}; it must lie between {least:.3f}, what the smallest "
                f"submodel costs with {self.items:,} items, and 1, the full network"
            )
        share = (budget - least) / (1 - least)
        parts = [one.features() for one in works]
        _, layers, flops, table = (
            low + share * (high - low) for low, high in zip(*parts, strict=True)
        )
        return Work(layers=layers, encoder_flops=flops, table_bytes=table), budget

    def _works(self) -> tuple[Work, Work]:
        """Return the work of the smallest submodel and of the full network."""
        config = self.config
        small, full = (
            submodel_work(config, one, self.length) for one in (config.smallest, config.largest)
        )
        if self.table_bytes is None:
            return small, full
        own = float(self.table_bytes)
        return replace(small, table_bytes=own), replace(full, table_bytes=own)


def submodel_work(config: SupernetConfig, submodel: Submodel, padded: int) -> Work:
    """Return the work of one request that `submodel` answers at a padded length."""
    return Work(
        layers=submodel.depth,
        encoder_flops=encoder_flops(config, submodel, padded),
        table_bytes=FLOAT_BYTES
        * sum(config.layout.parameters(config.emb_width, submodel.emb_width)),
    )


def mean_work(parts: Sequence[tuple[float, Work]]) -> Work:
    """Return the mean of the works, weighted; weights need not sum to one."""
    total = sum(weight for weight, _ in parts)
    return Work(
        layers=sum(weight * one.layers for weight, one in parts) / total,
        encoder_flops=sum(weight * one.encoder_flops for weight, one in parts) / total,
        table_bytes=sum(weight * one.table_bytes for weight, one in parts) / total,
    )


def p99_seconds(service_seconds: float, utilisation: float) -> float:
    """Return the time within which 99 % are answered on a core this busy."""
    waiting = max(0.0, math.log(100 * utilisation)) / (1 - utilisation)
    return service_seconds * (1 + waiting)


def highest_utilisation(service_seconds: float, p99: float) -> float:
    """Return how busy a core may be for 99 % within `p99` seconds, at most MOST_UTILISATION.

    ValueError when not even an idle core would do.
    """
    if p99_seconds(service_seconds, _LEAST_UTILISATION) > p99:
        raise ValueError(
            f"one request takes {1e3 * service_seconds:.1f} ms of a core, so p99 <= "
            f"{1e3 * p99:g} ms cannot be held; raise --p99, or lower --budget, --catalog or "
            "--length"
        )
    low, high = _LEAST_UTILISATION, MOST_UTILISATION
    if p99_seconds(service_seconds, high) <= p99:
        return high
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if p99_seconds(service_seconds, middle) <= p99 else (low, middle)
    return low


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to deploy: replicas of one core each; seconds by part; bytes."""

    seconds: Mapping[str, float]
    budget: float
    utilisation: float
    rate_per_core: float
    replicas: int
    memory_per_replica: float

    @property
    def cpu_seconds(self) -> float:
        """CPU seconds of one request."""
        return sum(self.seconds.values())


def plan(deployment: Deployment, coefficients: Coefficients, *, rps: float, p99: float) -> Plan:
    """Return what carries `rps` requests per second with 99 % within `p99` seconds.

    ValueError for a budget or an objective out of reach.
    """
    work, budget = deployment.work()
    seconds = coefficients.seconds(work)
    service = sum(seconds.values())
    utilisation = highest_utilisation(service, p99)
    rate = utilisation / service
    # The full table, and a contiguous copy of the half that narrow submodels read; of a small one
    # there are no copies.
    copies = 1.5 * FLOAT_BYTES
    stored = copies * deployment.emb_width * deployment.items
    if deployment.is_small:
        stored = deployment.stored_bytes
    beside = max(0.0, coefficients.memory_per_item - copies * coefficients.emb_width)
    return Plan(
        seconds=seconds,
        budget=budget,
        utilisation=utilisation,
        rate_per_core=rate,
        replicas=max(1, math.ceil(rps / rate)),
        memory_per_replica=coefficients.memory_base + beside * deployment.items + stored,
    )


def _flops(work: Work) -> float:
    """Return encoder and scoring FLOPs; every number of the table is multiplied once."""
    return work.encoder_flops + 2 * work.table_bytes / FLOAT_BYTES
