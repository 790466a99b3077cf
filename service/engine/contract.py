"""What the service asks of an engine: external ids in, ranked external ids out.

Everything here is plain values, so routes and the batcher are tested without torch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, Protocol

from models.price_curve import CurvePoint

ComputeMode = Literal["auto", "full", "fixed"]
Part = Literal["router", "encoder", "scoring"]
PARTS: tuple[Part, ...] = ("router", "encoder", "scoring")
Source = Literal["model", "cache", "popular"]


@dataclass(frozen=True, slots=True, kw_only=True)
class FilterClause:
    """`field` of an item's attributes must (or must not) hold any of these values."""

    field: str
    any_of: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemFilter:
    """Every `must` clause holds and no `must_not` clause does."""

    must: tuple[FilterClause, ...] = ()
    must_not: tuple[FilterClause, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Compute:
    """How much network a request may use. `max_ratio` bounds FLOPs relative to the full network."""

    mode: ComputeMode = "auto"
    submodel: str | None = None
    max_ratio: float | None = None


@dataclass(frozen=True, slots=True)
class Blocked:
    """Items that nobody is shown; two with the same `digest` hold the same items."""

    external_ids: frozenset[str] = field(default=frozenset(), compare=False, repr=False)
    digest: str = ""


NOTHING_BLOCKED = Blocked()


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """One request as the engine sees it; `history` is oldest first, external ids only."""

    history: tuple[str, ...] = ()
    k: int = 10
    exclude_seen: bool = True
    exclude_items: tuple[str, ...] = ()
    candidates: tuple[str, ...] | None = None
    filter: ItemFilter | None = None
    strict_filter: bool = True
    compute: Compute = Compute()
    blocked: Blocked = NOTHING_BLOCKED
    """Never among the answers, whatever else the query asks for."""

    def asking(self, history: tuple[str, ...], blocked: Blocked) -> Query:
        """Return the same query for this history, under this blocklist."""
        return Query(
            history=history,
            k=self.k,
            exclude_seen=self.exclude_seen,
            exclude_items=self.exclude_items,
            candidates=self.candidates,
            filter=self.filter,
            strict_filter=self.strict_filter,
            compute=self.compute,
            blocked=blocked,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """What routing pays for compute: `base` (None: as published) plus what overload adds."""

    base: float | None = None
    surcharge: float = 0.0


AS_PUBLISHED = Price()


@dataclass(frozen=True, slots=True, kw_only=True)
class Flops:
    """FLOPs by part; one multiply-add counts as two."""

    router: int = 0
    encoder: int = 0
    scoring: int = 0

    @property
    def total(self) -> int:
        """The sum of all parts."""
        return self.router + self.encoder + self.scoring


class RankedItem(NamedTuple):
    """One recommended item; higher scores rank first, ties by falling popularity."""

    external_id: str
    score: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranking:
    """The engine's answer to one query.

    `source` is `popular` when nothing in the history was known; then `submodel` is None and no
    FLOPs are charged. `flops` is what really ran (at the padded length, and the rows that a search
    looked at); `flops_full` is what the full network would have spent on the same query at the same
    length, scoring every row, router excluded.
    """

    items: tuple[RankedItem, ...]
    source: Source
    model_version: str
    submodel: str | None = None
    flops: Flops = Flops()
    flops_full: Flops = Flops()
    reason: str = "router"
    """Why this submodel: router, full, fixed, max_ratio, overload (the surcharge on the price made
    it a smaller one); `no_history` when source is popular."""
    history_length: int = 0
    """Known items of the history that the network read."""
    missing_items: tuple[str, ...] = ()
    """Unknown external ids of history, exclude_items and candidates."""
    short_list: bool = False
    """Fewer than k items were eligible."""


EVERY_SUBMODEL = "all"
"""Stands for the submodel of work that is done once for all of them: routing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """Executed FLOPs and the thread CPU seconds they took."""

    flops: int = 0
    cpu_seconds: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchTimings:
    """Wall and CPU seconds of one engine call by stage; shared by every query of the batch."""

    route_seconds: float = 0.0
    encode_seconds: float = 0.0
    score_seconds: float = 0.0
    work: Mapping[tuple[str, Part], Work] = field(default_factory=dict)
    """What was executed, by (submodel, part); routing stands under EVERY_SUBMODEL."""
    full_cpu_per_flop: Mapping[Part, float] = field(default_factory=dict)
    """The full network's CPU seconds per FLOP on this batch, estimated; empty while unknown."""


class UnknownSubmodelError(ValueError):
    """The query asks for a submodel that this engine does not serve."""


class UnknownFieldError(ValueError):
    """The query filters on an attribute that no item of the catalog has."""


class UnknownItemError(LookupError):
    """The external id is not in the catalog."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SubmodelInfo:
    """One served submodel; FLOPs at full history length with scoring charged."""

    name: str
    depth: int
    width: int
    emb_width: int
    flops: int
    flops_ratio: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelInfo:
    """What is loaded, as `GET /v1/model` tells it."""

    version: str
    digest: str
    created_at: str
    trained_at_unix: float
    num_items: int
    max_length: int
    price: float
    submodels: tuple[SubmodelInfo, ...]
    filterable_fields: tuple[str, ...]
    offline_metrics: Mapping[str, Any]
    parent: str | None = None
    price_curve: tuple[CurvePoint, ...] = ()
    """What each price of compute spent where the checkpoint was evaluated, by rising price."""
    search: Literal["product", "index"] = "product"
    """How the catalog is scored: the whole table for every query, or an index of it."""
    table_bytes: int = 0
    """Bytes of the item table: its rows and projections."""
    head: Literal["full", "flat_lowrank", "two_level"] = "full"
    """One softmax over a table that is stored whole, or in blocks, or one over blocks first."""


class Engine(Protocol):
    """A loaded checkpoint. Synchronous; called from one thread at a time, not always the same."""

    @property
    def info(self) -> ModelInfo:
        """What is loaded; never changes during the engine's life."""
        ...

    def check(self, query: Query) -> None:
        """Return when the query can be answered; cheap, callable from the event loop.

        Raises UnknownSubmodelError or UnknownFieldError.
        """
        ...

    def recommend(
        self, queries: Sequence[Query], price: Price = AS_PUBLISHED
    ) -> tuple[list[Ranking], BatchTimings]:
        """Return one ranking per query, in order; no query's answer depends on another's.

        A query that `check` would refuse may have slipped in through a model swap: it is
        answered with the router's choice (unknown submodel) or an empty list (unknown field).
        """
        ...

    def popular(self, query: Query) -> Ranking:
        """Return popular items under the query's exclusions and filters; no network runs.

        Where items have categories, those of the history are preferred.

        Called on the event loop when a deadline passed, so beside `recommend`: thread-safe, quick.
        """
        ...

    def similar(
        self, external_id: str, k: int, blocked: Blocked = NOTHING_BLOCKED
    ) -> list[RankedItem]:
        """Return the k nearest items that are not blocked, by cosine of the item table.

        Raises UnknownItemError.
        """
        ...

    def attributes(self, external_id: str) -> Mapping[str, Any]:
        """Return the item's attributes; empty when it has none or is unknown."""
        ...
