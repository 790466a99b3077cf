"""The engine that runs a checkpoint: encode ids, route once, group, score, decode."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from models.arrays import Ids
from models.checkpoint.contents import Checkpoint
from models.checkpoint.ranker import ranker_of
from models.checkpoint.read import read_checkpoint
from models.cost import Cost
from models.histories import Histories
from models.price_curve import CurvePoint
from models.router import NEWEST
from models.search.search import INDEX_FROM_ROWS
from models.topk import top_rows
from service.engine.accounting import Accounting, GroupCost
from service.engine.blocked import BlockedIndex
from service.engine.contract import (
    AS_PUBLISHED,
    NOTHING_BLOCKED,
    BatchTimings,
    Blocked,
    Flops,
    ModelInfo,
    Price,
    Query,
    RankedItem,
    Ranking,
    SubmodelInfo,
    UnknownItemError,
    UnknownSubmodelError,
)
from service.engine.eligibility import AttributeIndex
from service.engine.fallback import Fallback
from service.engine.prepared import Prepared, prepare
from service.engine.routing import Dispatcher
from service.engine.scoring import Scored, choose_scorer
from service.engine.selection import Floats


@dataclass(frozen=True, slots=True)
class _Encoded:
    """Queries of one submodel and padded length, encoded."""

    place: int
    members: list[int]
    query_BE: Floats
    cpu_seconds: float


class _Clock:
    """Wall and CPU seconds of this thread between laps."""

    __slots__ = ("_cpu", "_wall")

    def __init__(self) -> None:
        self._wall, self._cpu = time.perf_counter(), time.thread_time()

    def lap(self) -> tuple[float, float]:
        """Return (wall, CPU) seconds since the last lap."""
        wall, cpu = time.perf_counter(), time.thread_time()
        lapsed = wall - self._wall, cpu - self._cpu
        self._wall, self._cpu = wall, cpu
        return lapsed


class TorchEngine:
    """One loaded checkpoint behind the Engine contract. Not for concurrent `recommend` calls.

    `price` overrides the checkpoint's price of compute; `allowed` limits routing to these
    submodels (the full network stays reachable by mode `full`). Catalogs of `index_from` rows and
    more are searched by an index, with the same answers.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        *,
        price: float | None = None,
        allowed: Sequence[str] | None = None,
        index_from: int = INDEX_FROM_ROWS,
    ) -> None:
        manifest = checkpoint.manifest
        self._ranker = ranker_of(checkpoint)
        served = self._ranker.served
        self._catalog = checkpoint.catalog
        self._attributes = AttributeIndex(checkpoint.catalog)
        self._blocked = BlockedIndex(checkpoint.catalog)
        self._fallback = Fallback(checkpoint.catalog, checkpoint.popular, self._attributes)
        self._names = tuple(submodel.name for submodel in served)
        self._places = {name: place for place, name in enumerate(self._names)}
        paid = manifest.router.price if price is None else price
        self._dispatcher = Dispatcher(
            self._ranker,
            self._places,
            price=paid,
            routed=manifest.router.submodels,
            allowed=allowed,
        )
        self._scorer = choose_scorer(self._ranker, index_from=index_from)
        self._accounting = Accounting(full=served[-1].name)
        self._norms_V = self._ranker.table.norms().clamp(min=1e-12)
        self._flops = {
            (place, bucket, routed): _flops(self._ranker.cost(place, bucket, routed=routed))
            for place in range(len(served))
            for bucket in self._ranker.buckets
            for routed in (True, False)
        }
        self._reads = {
            (place, bucket): submodel.reads(bucket)
            for place, submodel in enumerate(served)
            for bucket in self._ranker.buckets
        }
        self._flops_full = {
            bucket: _flops(self._ranker.full_cost(bucket)) for bucket in self._ranker.buckets
        }
        self._info = ModelInfo(
            version=manifest.version,
            digest=checkpoint.digest,
            created_at=manifest.created_at,
            trained_at_unix=datetime.fromisoformat(manifest.created_at).timestamp(),
            num_items=len(checkpoint.catalog),
            max_length=checkpoint.config.max_length,
            price=paid,
            submodels=tuple(self._submodel_info(place) for place in range(len(served))),
            filterable_fields=self._attributes.fields,
            offline_metrics=manifest.metrics,
            parent=manifest.parent,
            price_curve=tuple(
                sorted(
                    CurvePoint(point.price, point.flops_ratio)
                    for point in manifest.router.price_curve
                )
            ),
            search=self._scorer.kind,
            table_bytes=self._ranker.table.num_bytes,
            head=checkpoint.config.head,
        )

    @property
    def info(self) -> ModelInfo:
        """What is loaded; never changes during the engine's life."""
        return self._info

    def check(self, query: Query) -> None:
        """Raise UnknownSubmodelError or UnknownFieldError when the query cannot be answered."""
        wanted = query.compute.submodel
        if wanted is not None and wanted not in self._places:
            raise UnknownSubmodelError(
                f"submodel {wanted!r} is not served; served are: {', '.join(self._places)}"
            )
        if query.filter is not None:
            self._attributes.check(query.filter)

    def attributes(self, external_id: str) -> Mapping[str, Any]:
        """Return the item's attributes; empty when it has none or is unknown."""
        row = self._catalog.item_id(external_id)
        return {} if row is None else self._catalog.attributes_of(row)

    def popular(self, query: Query) -> Ranking:
        """Return popular items under the query's exclusions and filters; no network runs."""
        return self._popular_ranking(self._prepare(query), reason="no_history")

    @torch.inference_mode()
    def similar(
        self, external_id: str, k: int, blocked: Blocked = NOTHING_BLOCKED
    ) -> list[RankedItem]:
        """Return the k nearest items that are not blocked; UnknownItemError if unknown."""
        row = self._catalog.item_id(external_id)
        if row is None:
            raise UnknownItemError(f"item {external_id!r} is not in the catalog")
        table = self._ranker.table
        vector_E = table.embed(torch.tensor(row))
        cosines_V = table.products(vector_E) / (self._norms_V * self._norms_V[row])
        cosines_V[0] = -torch.inf
        cosines_V[row] = -torch.inf
        closed = self._blocked.rows(blocked)
        if closed is not None:
            cosines_V[torch.from_numpy(closed.rows)] = -torch.inf
        return self._decode(*top_rows(cosines_V, k))

    def recommend(
        self, queries: Sequence[Query], price: Price = AS_PUBLISHED
    ) -> tuple[list[Ranking], BatchTimings]:
        """Return one ranking per query, in order; no query's answer depends on another's."""
        clock = _Clock()
        prepared = [self._prepare(query) for query in queries]
        known = [one for one in prepared if one.length]
        histories = Histories([one.history for one in known])
        recent_BW = histories.newest(max(NEWEST, self._ranker.window))
        self._dispatcher.dispatch(known, recent_BW, price)
        route_seconds, router_cpu = clock.lap()
        encoded: defaultdict[int, list[_Encoded]] = defaultdict(list)
        encode_seconds = 0.0
        for (place, reads), members in self._grouped(known).items():
            query_BE = self._ranker.encode(place, *histories.stack(reads, members))
            seconds, cpu = clock.lap()
            encode_seconds += seconds
            encoded[query_BE.shape[1]].append(_Encoded(place, members, query_BE, cpu))
        rankings: dict[int, Ranking] = {}
        score_seconds = 0.0
        costs: list[GroupCost] = []
        recent_BW = self._ranker.remembered(recent_BW, [one.place for one in known])
        for groups in encoded.values():
            members = [index for group in groups for index in group.members]
            ranked = self._rank(groups, [known[index] for index in members], recent_BW[members])
            rankings.update(zip(members, ranked, strict=True))
            seconds, cpu = clock.lap()
            score_seconds += seconds
            costs += [self._group_cost(group, cpu / len(members)) for group in groups]
        computed = [rankings[index] for index in range(len(known))]
        timings = BatchTimings(
            route_seconds=route_seconds,
            encode_seconds=encode_seconds,
            score_seconds=score_seconds,
            work=self._accounting.work(computed, costs, router_cpu),
            full_cpu_per_flop=self._accounting.full_cpu_per_flop(
                computed, len({one.bucket for one in known})
            ),
        )
        if len(known) == len(queries):
            return computed, timings
        in_order = iter(computed)
        answers = [
            next(in_order) if one.length else self._popular_ranking(one, reason="no_history")
            for one in prepared
        ]
        return answers, timings

    def _prepare(self, query: Query) -> Prepared:
        most = self._ranker.config.max_length
        return prepare(query, self._catalog, self._attributes, self._blocked, most)

    def _grouped(self, known: Sequence[Prepared]) -> dict[tuple[int, int], list[int]]:
        """Return the places among `known` by (submodel, padded length that it reads)."""
        groups: defaultdict[tuple[int, int], list[int]] = defaultdict(list)
        for index, one in enumerate(known):
            groups[one.place, self._reads[one.place, one.bucket]].append(index)
        return groups

    def _rank(
        self, groups: Sequence[_Encoded], batch: Sequence[Prepared], recent_BW: Ids
    ) -> list[Ranking]:
        """Score and rank the queries of groups that share an embedding width, in their order."""
        queries = [group.query_BE for group in groups]
        query_BE = queries[0] if len(queries) == 1 else np.concatenate(queries)
        best = self._scorer.best(batch, query_BE, recent_BW)
        return [self._ranking(one, scored) for one, scored in zip(batch, best, strict=True)]

    def _group_cost(self, group: _Encoded, scoring_cpu_each: float) -> GroupCost:
        """Return the group's cost; scoring done together is shared evenly among its queries."""
        return GroupCost(
            submodel=self._names[group.place],
            members=tuple(group.members),
            cpu_seconds={
                "encoder": group.cpu_seconds,
                "scoring": scoring_cpu_each * len(group.members),
            },
        )

    def _ranking(self, one: Prepared, scored: Scored) -> Ranking:
        query = one.query
        items = self._decode(scored.rows, scored.scores)
        if len(items) < query.k:
            filled = self._fallback.fill(one, scored.rows, query.k - len(items))
            items += self._decode(*_columns(filled))
        flops = self._flops[one.place, one.bucket, one.reason not in {"full", "fixed"}]
        if scored.flops is not None:
            flops = replace(flops, scoring=scored.flops)
        return Ranking(
            items=tuple(items),
            source="model",
            model_version=self._info.version,
            submodel=self._names[one.place],
            flops=flops,
            flops_full=self._flops_full[one.bucket],
            reason=one.reason,
            history_length=one.length,
            missing_items=one.missing,
            short_list=len(items) < query.k,
        )

    def _popular_ranking(self, one: Prepared, *, reason: str) -> Ranking:
        query = one.query
        items = self._decode(*_columns(self._fallback.top(one)))
        return Ranking(
            items=tuple(items),
            source="popular",
            model_version=self._info.version,
            reason=reason,
            missing_items=one.missing,
            short_list=len(items) < query.k,
        )

    def _decode(self, rows: Sequence[int], scores: Sequence[float]) -> list[RankedItem]:
        names = self._catalog.external_ids
        # As a named tuple makes itself, without its Python: ten times a query.
        pairs = zip([names[row - 1] for row in rows], scores, strict=True)
        return list(map(_ranked, pairs))

    def _submodel_info(self, place: int) -> SubmodelInfo:
        """Return what is told of a submodel; FLOPs as this engine spends them."""
        submodel, most = self._ranker.served[place], self._ranker.config.max_length
        flops = self._ranker.cost(place, most, routed=True).total
        return SubmodelInfo(
            name=submodel.name,
            depth=submodel.depth,
            width=submodel.width,
            emb_width=submodel.emb_width,
            flops=flops,
            flops_ratio=flops / self._ranker.full_cost(most).total,
        )


_ranked: Callable[[tuple[str, float]], RankedItem] = partial(tuple.__new__, RankedItem)


def _columns(pairs: Sequence[tuple[int, float]]) -> tuple[list[int], list[float]]:
    return [row for row, _ in pairs], [score for _, score in pairs]


def _flops(cost: Cost) -> Flops:
    return Flops(router=cost.router, encoder=cost.encoder, scoring=cost.scoring)


def load_engine(path: Path, *, price: float | None, allowed: Sequence[str] | None) -> TorchEngine:
    """Verify and load the checkpoint directory `path`; CheckpointError when it is refused."""
    return TorchEngine(read_checkpoint(path), price=price, allowed=allowed)
