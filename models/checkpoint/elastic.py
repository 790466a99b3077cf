"""What a manifest says of an elastic table: how it may be narrowed, and what that was seen to cost.

With it a checkpoint can be made smaller without data and without training (`canet specialize`).
"""

# G item groups, W widths, N column blocks, U cases, S submodels

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Any, Final, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

_STRICT = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

MAX_GROUPS: Final = 256
MAX_WIDTHS: Final = 64
MAX_BLOCKS: Final = 4096
MAX_SAMPLE: Final = 1_000

Share = Annotated[float, Field(ge=0, le=1)]
Whole = Annotated[int, Field(ge=1, lt=2**31)]
Row = Annotated[tuple[float, ...], Field(max_length=MAX_WIDTHS)]
Matrix = Annotated[tuple[Row, ...], Field(min_length=1, max_length=MAX_GROUPS)]
Order = Annotated[
    tuple[Annotated[int, Field(ge=0, lt=MAX_BLOCKS)], ...],
    Field(min_length=2, max_length=MAX_BLOCKS),
]
Scores = Annotated[tuple[float, ...], Field(max_length=4096)]

SEARCHES: Final = ("knapsack", "evolution", "random", "uniform", "popularity")
Search = Literal["knapsack", "evolution", "random", "uniform", "popularity"]


class RoutingSample(BaseModel):
    """Validation cases as the router saw them: from these the price curve is drawn again.

    `buckets` are padded lengths; `quality` and `ndcg_10` (U, S) stand in the order of the router's
    submodels: what a router that had not seen the case expected, and what came with whole rows.
    """

    model_config = _STRICT

    buckets: Annotated[tuple[Whole, ...], Field(min_length=1, max_length=MAX_SAMPLE)]
    quality: Annotated[tuple[Scores, ...], Field(max_length=MAX_SAMPLE)]
    ndcg_10: Annotated[tuple[Scores, ...], Field(max_length=MAX_SAMPLE)]

    @model_validator(mode="after")
    def _check(self) -> RoutingSample:
        sizes = {len(row) for row in (*self.quality, *self.ndcg_10)}
        if not len(self.buckets) == len(self.quality) == len(self.ndcg_10) or len(sizes) != 1:
            raise ValueError("buckets, quality and ndcg_10 must list the same cases and submodels")
        return self


class ElasticEntry(BaseModel):
    """Item groups in row order, the widths that each may have, and measurements on validation.

    `stops` are exclusive table rows, the last is the table's end; `widths` ascend to the whole
    embedding. With group g at width w its rows are multiplied by exp(scale[g][w]) and bias[g][w]
    is added to its scores; both are 0 at the whole width.

    Of the served network on `cases` validation cases, with that group alone narrowed:
    `divergence[g][w]`, of the softmax over all items from the one with whole rows (nats), and
    `log_rank[g][w]`, by how much the logarithm of the target's rank rises; both are 0 at the whole
    width. `uniform_ndcg_10[w]`: NDCG@10 with all groups at one width; `exposure[w][g]`: the group's
    share of the top 10 then. `traffic[g]` is its share of the training interactions.

    Group g at width w keeps its leading w columns. With `orders` (G, N) the embedding is N blocks
    of columns, numbered from 0, and the group keeps w columns' worth of them, the first in
    `orders[g]`.
    """

    model_config = _STRICT

    stops: Annotated[tuple[Whole, ...], Field(min_length=1, max_length=MAX_GROUPS)]
    widths: Annotated[tuple[Whole, ...], Field(min_length=1, max_length=MAX_WIDTHS)]
    scale: Matrix
    bias: Matrix
    cases: Whole
    divergence: Matrix
    log_rank: Matrix
    uniform_ndcg_10: Row
    exposure: Annotated[
        tuple[Annotated[tuple[Share, ...], Field(max_length=MAX_GROUPS)], ...],
        Field(max_length=MAX_WIDTHS),
    ]
    traffic: Annotated[tuple[Share, ...], Field(max_length=MAX_GROUPS)]
    routing: RoutingSample
    orders: Annotated[tuple[Order, ...], Field(max_length=MAX_GROUPS)] | None = None

    @property
    def blocks(self) -> int | None:
        """N, into how many blocks the columns are cut; None where groups keep prefixes."""
        return None if self.orders is None else len(self.orders[0])

    @model_serializer(mode="wrap")
    def _write(self, values: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out `orders` where groups keep prefixes, as manifests of before do."""
        written: dict[str, Any] = values(self)
        if self.orders is None:
            del written["orders"]
        return written

    @model_validator(mode="after")
    def _check(self) -> ElasticEntry:
        groups, widths = len(self.stops), len(self.widths)
        for name in ("stops", "widths"):
            if any(one >= other for one, other in pairwise(getattr(self, name))):
                raise ValueError(f"{name} must rise")
        for name in ("scale", "bias", "divergence", "log_rank"):
            matrix: tuple[tuple[float, ...], ...] = getattr(self, name)
            if len(matrix) != groups or any(len(row) != widths for row in matrix):
                raise ValueError(f"{name} must hold a number for each group and width")
            if any(row[-1] for row in matrix):
                raise ValueError(f"{name} must be 0 at the whole width")
        if len(self.uniform_ndcg_10) != widths or len(self.traffic) != groups:
            raise ValueError("uniform_ndcg_10 needs a number a width, traffic one a group")
        if len(self.exposure) != widths or any(len(row) != groups for row in self.exposure):
            raise ValueError("exposure must hold a share for each width and group")
        self._check_orders()
        return self

    def _check_orders(self) -> None:
        if self.orders is None:
            return
        if len(self.orders) != len(self.stops):
            raise ValueError("orders must hold an order of blocks for each group")
        blocks = len(self.orders[0])
        if any(sorted(order) != list(range(blocks)) for order in self.orders):
            raise ValueError(f"orders must each name the blocks 0 to {blocks - 1} once")
        if self.widths[-1] % blocks or any(w % (self.widths[-1] // blocks) for w in self.widths):
            raise ValueError(f"widths must be whole numbers of the {blocks} blocks")


class SpecializedEntry(BaseModel):
    """How a checkpoint was made from an elastic one: `widths[g]` of each group of `source`.

    `table_bytes` is what item vectors, biases and the blocks' index take, at most `budget_bytes`.
    `expected_ndcg_10` is what the source's measurements say of these widths on validation;
    `measured_ndcg_10` what validation showed, where data was given.
    """

    model_config = _STRICT

    source: Annotated[str, Field(min_length=1, max_length=64)]
    search: Search
    budget_bytes: Annotated[int, Field(ge=1, lt=2**63)]
    table_bytes: Annotated[int, Field(ge=1, lt=2**63)]
    widths: Annotated[tuple[Whole, ...], Field(min_length=1, max_length=MAX_GROUPS)]
    expected_ndcg_10: float
    measured_ndcg_10: Share | None = None
