"""Request bodies: strict, unknown fields refused, every list and string bounded."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from service.engine.contract import Compute, FilterClause, ItemFilter, Query
from service.http.timestamps import Timestamp
from service.ulid import PATTERN

# No control characters (C0, DEL, C1) and no line separators: they break logs and terminals.
TEXT = r"^[^\u0000-\u001f\u007f-\u009f\u2028\u2029]+$"
MOST_CLAUSES = 10

Id = Annotated[str, Field(min_length=1, max_length=256, pattern=TEXT)]
Text = Annotated[str, Field(max_length=256, pattern=TEXT)]


class Body(BaseModel):
    """What every request body shares."""

    model_config = ConfigDict(
        strict=True, extra="forbid", frozen=True, allow_inf_nan=False, regex_engine="rust-regex"
    )


def problem(code: str, message: str, field: str | None = None) -> PydanticCustomError:
    """Return a finding of ours; `field` is appended to the place where it was raised."""
    context = {} if field is None else {"field": field}
    return PydanticCustomError(code, message, context)


def all_different(ids: list[str] | None) -> list[str] | None:
    """Return the ids; raises when one stands twice, because the sender meant a set."""
    if ids is not None and len(set(ids)) != len(ids):
        twice = Counter(ids).most_common(1)[0][0]
        place = [index for index, value in enumerate(ids) if value == twice][1]
        raise PydanticCustomError(
            "duplicate", "the same id stands twice; send each id once", {"field": place}
        )
    return ids


SET: dict[str, Any] = {"uniqueItems": True}
# A default that is a list is copied, deeply, for every request: it is made instead.
SET_OR_NOTHING: dict[str, Any] = {**SET, "default": []}


def _items_are(model: str) -> dict[str, Any]:
    """Return the schema of a list whose items are checked one by one, not with the whole."""
    return {"items": {"$ref": f"#/components/schemas/{model}"}}


class Clause(Body):
    """`field` of an item's attributes holds any of these values."""

    field: Annotated[str, Field(min_length=1, max_length=64, pattern=TEXT)]
    any_of: Annotated[list[Text], Field(min_length=1, max_length=100)]


class Filter(Body):
    """Every `must` clause holds and no `must_not` clause does; at most 10 clauses in all."""

    must: list[Clause] = Field(default=[], max_length=MOST_CLAUSES)
    must_not: list[Clause] = Field(default=[], max_length=MOST_CLAUSES)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if len(self.must) + len(self.must_not) > MOST_CLAUSES:
            raise problem("too_many_clauses", f"at most {MOST_CLAUSES} clauses in all")
        return self

    def to_filter(self) -> ItemFilter:
        """Return the engine's form."""
        return ItemFilter(must=_clauses(self.must), must_not=_clauses(self.must_not))


class ComputeBody(Body):
    """How much network may be used, and how long the answer may take."""

    mode: Literal["auto", "full", "fixed"] = "auto"
    submodel: Annotated[str, Field(max_length=64, pattern=r"^d\d+-w\d+-e\d+(-l\d+)?$")] | None = (
        None
    )
    max_ratio: Annotated[float, Field(ge=0, le=1)] | None = None
    deadline_ms: Annotated[float, Field(ge=5, le=5000)] | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.mode == "fixed" and self.submodel is None:
            raise problem("missing", "mode fixed needs a submodel", "submodel")
        if self.mode != "fixed" and self.submodel is not None:
            raise problem("conflict", "a submodel is for mode fixed only", "submodel")
        if self.mode != "auto" and self.max_ratio is not None:
            raise problem("conflict", "max_ratio is for mode auto only", "max_ratio")
        return self


# Most requests say nothing of compute.
_UNBOUNDED, _FREELY = ComputeBody(), Compute()


class RecommendRequest(Body):
    """Asks for the next items of a user, or of a history sent along."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"user_id": "u42", "k": 10},
                {"history": ["50", "181", "174"], "k": 5, "include": ["scores"]},
            ],
            "anyOf": [
                {"required": ["user_id"], "properties": {"user_id": {"type": "string"}}},
                {"required": ["history"], "properties": {"history": {"type": "array"}}},
            ],
        }
    )

    user_id: Id | None = None
    history: Annotated[list[Id], Field(max_length=1000)] | None = None
    k: Annotated[int, Field(ge=1, le=500)] = 10
    exclude_seen: bool = True
    exclude_items: Annotated[
        list[Id], Field(max_length=1000, default_factory=list, json_schema_extra=SET_OR_NOTHING)
    ]
    candidates: (
        Annotated[list[Id], Field(min_length=1, max_length=2000, json_schema_extra=SET)] | None
    ) = None
    filter: Filter | None = None
    strict_filter: bool = True
    compute: ComputeBody = _UNBOUNDED
    include: Annotated[
        list[Literal["scores", "attributes", "explain"]],
        Field(max_length=3, default_factory=list, json_schema_extra=SET_OR_NOTHING),
    ]
    scenario: Annotated[str, Field(max_length=64, pattern=r"^[A-Za-z0-9_.-]+$")] | None = None

    _sets = field_validator("exclude_items", "candidates", "include")(all_different)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.user_id is None and self.history is None:
            raise problem("missing", "send user_id, or a history", "user_id")
        return self

    def to_query(self) -> Query:
        """Return the engine's form."""
        compute = self.compute
        return Query(
            history=tuple(self.history) if self.history else (),
            k=self.k,
            exclude_seen=self.exclude_seen,
            exclude_items=tuple(self.exclude_items) if self.exclude_items else (),
            candidates=None if self.candidates is None else tuple(self.candidates),
            filter=None if self.filter is None else self.filter.to_filter(),
            strict_filter=self.strict_filter,
            compute=_FREELY
            if compute is _UNBOUNDED
            else Compute(mode=compute.mode, submodel=compute.submodel, max_ratio=compute.max_ratio),
        )


class BatchRequest(Body):
    """Up to 128 requests; each is checked and answered on its own."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"requests": [{"user_id": "u42"}, {"history": ["50"]}]}]}
    )

    requests: Annotated[
        list[Any],
        Field(min_length=1, max_length=128, json_schema_extra=_items_are("RecommendRequest")),
    ]


class Event(Body):
    """One thing a user did; type `impression` carries `items` instead of `item_id`."""

    model_config = ConfigDict(
        json_schema_extra={
            "anyOf": [
                {
                    "required": ["item_id"],
                    "properties": {"item_id": {"type": "string"}, "items": {"type": "null"}},
                },
                {
                    "required": ["items", "type"],
                    "properties": {
                        "items": {"type": "array"},
                        "item_id": {"type": "null"},
                        "type": {"const": "impression"},
                    },
                },
            ]
        }
    )

    user_id: Id
    item_id: Id | None = None
    items: Annotated[list[Id], Field(min_length=1, max_length=100)] | None = None
    type: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,31}$")] = "view"
    timestamp: Timestamp | None = None
    event_id: Annotated[str, Field(min_length=1, max_length=128, pattern=TEXT)] | None = None
    recommendation_id: Annotated[str, Field(pattern=PATTERN)] | None = None
    value: float | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.type == "impression":
            if self.items is None:
                raise problem("missing", "an impression needs items", "items")
            if self.item_id is not None:
                raise problem("conflict", "an impression has items, no item_id", "item_id")
        else:
            if self.item_id is None:
                raise problem("missing", "an event needs an item_id", "item_id")
            if self.items is not None:
                raise problem("conflict", "items are for type impression only", "items")
        return self


class EventsRequest(Body):
    """Up to 1000 events; each is checked on its own."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "events": [
                        {
                            "user_id": "u42",
                            "item_id": "50",
                            "type": "view",
                            "timestamp": "2026-09-01T12:00:00Z",
                            "event_id": "e-1",
                        }
                    ]
                }
            ]
        }
    )

    events: Annotated[
        list[Any], Field(min_length=1, max_length=1000, json_schema_extra=_items_are("Event"))
    ]


class HistoryItem(Body):
    """One remembered item."""

    item_id: Id
    timestamp: Timestamp | None = None


class HistoryBody(Body):
    """A whole history, oldest first; timestamps for all items or for none."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"items": [{"item_id": "50"}, {"item_id": "181"}]}]}
    )

    items: Annotated[list[HistoryItem], Field(max_length=1000)]

    @model_validator(mode="after")
    def _check(self) -> Self:
        if len({item.timestamp is None for item in self.items}) > 1:
            raise problem("conflict", "give timestamps for all items or for none", "items")
        return self


class MergeRequest(Body):
    """Names the user whose history moves into another's."""

    source_user_id: Id


class ReloadRequest(Body):
    """Which version to load, as what; without one as stable, what CURRENT names."""

    version: Annotated[str, Field(min_length=1, max_length=128, pattern=TEXT)] | None = None
    variant: Annotated[Literal["stable", "candidate", "shadow"], Field(alias="as")] = "stable"

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.variant != "stable" and self.version is None:
            raise problem("missing", f"a {self.variant} needs a version", "version")
        return self


class UnloadRequest(Body):
    """What to end; the stable version cannot be."""

    variant: Annotated[Literal["candidate", "shadow"], Field(alias="as")]


class TrafficRequest(Body):
    """Shares of the users in percent; what is not given stays."""

    candidate_percent: Annotated[float, Field(ge=0, le=100)] | None = None
    shadow_percent: Annotated[float, Field(ge=0, le=100)] | None = None


class PriceRequest(Body):
    """What routing is to pay for compute; null goes back to the model's own price."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"price": 0.5}, {"price": None}]})

    price: Annotated[float, Field(ge=0, le=1e6)] | None


def _clauses(clauses: Sequence[Clause]) -> tuple[FilterClause, ...]:
    return tuple(FilterClause(field=one.field, any_of=tuple(one.any_of)) for one in clauses)
