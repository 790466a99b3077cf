"""Answer bodies. Built from our own values, so they are not validated a second time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict


class Answer(BaseModel):
    """What every answer body shares."""

    model_config = ConfigDict(extra="forbid")


class ItemAnswer(Answer):
    """One ranked item; `score` and `attributes` where they were asked for."""

    item_id: str
    rank: int
    score: float | None = None
    attributes: dict[str, Any] | None = None


class ComputeAnswer(Answer):
    """What the answer cost, in FLOPs (one multiply-add is two): zeros without a network."""

    submodel: str | None
    flops: int
    flops_full: int
    saved_ratio: float
    reason: str


class ExplainAnswer(Answer):
    """Where the answer came from."""

    history_source: Literal["request", "store", "none"]
    price: float
    flops_by_part: dict[str, int]
    stage_ms: dict[str, float]


class RecommendAnswer(Answer):
    """A ranking, most likely next item first."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "recommendation_id": "01K4A4V9QZ3N8T5R6M7W8X9YAB",
                    "model_version": "2026-09-01T03-00-00Z",
                    "variant": "stable",
                    "source": "model",
                    "degraded": [],
                    "history_length": 17,
                    "missing_items": ["x9"],
                    "items": [{"item_id": "50", "rank": 1}],
                    "compute": {
                        "submodel": "d2-w64-e64",
                        "flops": 21400000,
                        "flops_full": 65800000,
                        "saved_ratio": 0.6748,
                        "reason": "router",
                    },
                }
            ]
        }
    )

    recommendation_id: str
    model_version: str
    variant: str
    source: Literal["model", "cache", "popular"]
    degraded: list[Literal["redis_down", "deadline", "overload", "short_list"]]
    history_length: int
    missing_items: list[str]
    items: list[ItemAnswer]
    compute: ComputeAnswer
    explain: ExplainAnswer | None = None


class FieldProblem(Answer):
    """One wrong field."""

    pointer: str
    code: str
    detail: str


class Problem(Answer):
    """RFC 9457 problem details; the one shape of every failure."""

    type: str
    title: str
    status: int
    detail: str
    instance: str | None
    request_id: str
    code: str
    errors: list[FieldProblem]


class ProblemTypeAnswer(Answer):
    """What the `type` of a problem means."""

    type: str
    title: str
    status: int


class BatchItemAnswer(Answer):
    """One of the two, `result` or `problem`."""

    result: RecommendAnswer | None = None
    problem: Problem | None = None


class BatchAnswer(Answer):
    """One entry per request, in order."""

    results: list[BatchItemAnswer]


class EventError(Answer):
    """Why the event at `index` was refused."""

    index: int
    pointer: str
    code: str
    detail: str


class EventsAnswer(Answer):
    """What became of the events; accepted ones are durable and visible."""

    accepted: int
    duplicates: int
    rejected: int
    errors: list[EventError]


class HistoryItemAnswer(Answer):
    """One remembered item; the time is RFC 3339, UTC."""

    item_id: str
    timestamp: str


class HistoryAnswer(Answer):
    """A user's newest items, oldest first."""

    items: list[HistoryItemAnswer]
    length: int


class LengthAnswer(Answer):
    """How many items are remembered now."""

    length: int


class SimilarAnswer(Answer):
    """Nearest items by cosine, nearest first."""

    item_id: str
    model_version: str
    items: list[ItemAnswer]


class SubmodelAnswer(Answer):
    """One served submodel, FLOPs at full history length."""

    name: str
    depth: int
    width: int
    emb_width: int
    flops: int
    flops_ratio: float


class CatalogAnswer(Answer):
    """What can be recommended and filtered on."""

    num_items: int
    filterable_fields: list[str]
    search: Literal["product", "index"]
    """Whether every request reads the whole table, or an index of it."""
    table_bytes: int
    """Bytes of the item table."""
    head: Literal["full", "flat_lowrank", "two_level"]
    """One softmax over a table that is stored whole, or in blocks, or one over blocks first."""


class SideAnswer(Answer):
    """A candidate or a shadow; `version` is None while `wanted` could not be loaded."""

    version: str | None
    recommendation_tag: str | None
    wanted: str | None
    digest: str | None
    percent: float
    problem: str | None


class ModelAnswer(Answer):
    """What is loaded. `problem` tells an operator what is not as it should be.

    With `fallback` the version is an older one: what should serve is refused or missing.
    """

    version: str
    recommendation_tag: str
    """Characters 11 to 14 of the ids of recommendations that this version made."""
    digest: str
    created_at: str
    trained_at: str
    parent: str | None
    max_length: int
    price: float
    catalog: CatalogAnswer
    submodels: list[SubmodelAnswer]
    offline_metrics: Mapping[str, Any]
    traffic: dict[str, float]
    fallback: bool
    problem: str | None
    sides: dict[str, SideAnswer]


class BlockedItemAnswer(Answer):
    """One item that nobody is shown."""

    item_id: str
    since: str


class BlocklistAnswer(Answer):
    """All items that nobody is shown, by id; at most `limit`."""

    items: list[BlockedItemAnswer]
    size: int
    limit: int
    revision: int
    """Rises with every change."""


class BlocklistChangeAnswer(Answer):
    """How many items were newly blocked and unblocked, and how many are blocked now."""

    added: int
    removed: int
    size: int
    revision: int


class PriceAnswer(Answer):
    """What routing pays for compute; `pressure` is 0 without overload and 1 at its height."""

    price: float
    set_price: float | None
    surcharge: float
    reason: Literal["published", "set", "overload"]
    pressure: float


class HealthAnswer(Answer):
    """The process runs."""

    status: Literal["ok"]


class ReadyAnswer(Answer):
    """Whether traffic should come here."""

    status: Literal["ready", "unready"]
    checks: dict[str, str]
    detail: dict[str, str]
    """What is not as it should be, also where it keeps nobody from answering."""
