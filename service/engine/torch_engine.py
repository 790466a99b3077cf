"""The engine that runs a checkpoint with torch: encode ids, route once, group, score, decode."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from models.checkpoint.contents import Checkpoint
from models.checkpoint.read import read_checkpoint
from models.config import Submodel
from models.cost import Cost
from models.ranker import load_ranker, recent, stack
from models.router import choose
from models.topk import top_rows
from service.engine.accounting import Accounting, GroupCost
from service.engine.contract import (
    AS_PUBLISHED,
    BatchTimings,
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
from service.engine.eligibility import AttributeIndex, Mask, PopularRanking


@dataclass(slots=True)
class _Prepared:
    """A query in rows of this engine's tables."""

    query: Query
    history: list[int]
    missing: tuple[str, ...]
    excluded: set[int]
    candidates: list[int] | None
    allowed: Mask | None
    bucket: int = 0
    place: int = 0
    reason: str = "router"


class TorchEngine:
    """One loaded checkpoint behind the Engine contract. Not for concurrent `recommend` calls.

    `price` overrides the checkpoint's price of compute; `allowed` limits routing to these
    submodels (the full network stays reachable by mode `full`).
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        *,
        price: float | None = None,
        allowed: Sequence[str] | None = None,
    ) -> None:
        manifest = checkpoint.manifest
        served = tuple(Submodel.parse(entry.name) for entry in manifest.submodels)
        self._ranker = load_ranker(
            checkpoint.config, checkpoint.tensors, served, router_hidden=manifest.router.hidden
        )
        self._catalog = checkpoint.catalog
        self._attributes = AttributeIndex(checkpoint.catalog)
        self._popular = PopularRanking(checkpoint.catalog, checkpoint.popular)
        self._places = {submodel.name: place for place, submodel in enumerate(served)}
        self._price = manifest.router.price if price is None else price
        self._routable = self._routable_places(manifest.router.submodels, allowed)
        self._accounting = Accounting(full=served[-1].name)
        self._norms_V = self._ranker.table_VE.norm(dim=1).clamp(min=1e-12)
        self._info = ModelInfo(
            version=manifest.version,
            digest=checkpoint.digest,
            created_at=manifest.created_at,
            trained_at_unix=datetime.fromisoformat(manifest.created_at).timestamp(),
            num_items=len(checkpoint.catalog),
            max_length=checkpoint.config.max_length,
            price=self._price,
            submodels=tuple(
                SubmodelInfo(
                    name=entry.name,
                    depth=submodel.depth,
                    width=submodel.width,
                    emb_width=submodel.emb_width,
                    flops=entry.flops,
                    flops_ratio=entry.flops_ratio,
                )
                for entry, submodel in zip(manifest.submodels, served, strict=True)
            ),
            filterable_fields=self._attributes.fields,
            offline_metrics=manifest.metrics,
            parent=manifest.parent,
        )

    def _routable_places(self, routed: Sequence[str], allowed: Sequence[str] | None) -> Tensor:
        names = set(routed)
        if allowed is not None:
            unknown = sorted(set(allowed) - set(self._places))
            if unknown:
                raise ValueError(
                    f"submodels {unknown} are not served; served are {sorted(self._places)}"
                )
            names &= set(allowed)
        if not names:
            raise ValueError("the allow-list leaves the router no submodel")
        return torch.tensor([name in names for name in self._places])

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
    def similar(self, external_id: str, k: int) -> list[RankedItem]:
        """Return the k nearest items by cosine of the item table; UnknownItemError if unknown."""
        row = self._catalog.item_id(external_id)
        if row is None:
            raise UnknownItemError(f"item {external_id!r} is not in the catalog")
        table_VE = self._ranker.table_VE
        cosines_V = (table_VE @ table_VE[row]) / (self._norms_V * self._norms_V[row])
        cosines_V[0] = -torch.inf
        cosines_V[row] = -torch.inf
        return self._decode(*top_rows(cosines_V, k))

    @torch.inference_mode()
    def recommend(
        self, queries: Sequence[Query], price: Price = AS_PUBLISHED
    ) -> tuple[list[Ranking], BatchTimings]:
        """Return one ranking per query, in order; no query's answer depends on another's."""
        began = time.perf_counter()
        cpu = time.thread_time()
        prepared = [self._prepare(query) for query in queries]
        known = [one for one in prepared if one.history]
        self._route(known, price)
        router_cpu = time.thread_time() - cpu
        route_seconds = time.perf_counter() - began
        groups: defaultdict[tuple[int, int], list[int]] = defaultdict(list)
        for index, one in enumerate(prepared):
            if one.history:
                groups[one.place, one.bucket].append(index)
        rankings: list[Ranking | None] = [None] * len(queries)
        encode_seconds = score_seconds = 0.0
        costs: list[GroupCost] = []
        for (place, bucket), members in groups.items():
            cpu, began = time.thread_time(), time.perf_counter()
            ids_BL, lengths_B = stack([prepared[i].history for i in members], bucket)
            query_BE = self._ranker.encode(place, ids_BL, lengths_B)
            encoded, encoded_cpu = time.perf_counter(), time.thread_time()
            scores_BV = self._ranker.score(place, query_BE, ids_BL, lengths_B)
            for scores_V, index in zip(scores_BV, members, strict=True):
                rankings[index] = self._rank(prepared[index], scores_V)
            encode_seconds += encoded - began
            score_seconds += time.perf_counter() - encoded
            costs.append(
                GroupCost(
                    submodel=self._ranker.served[place].name,
                    members=tuple(members),
                    cpu_seconds={
                        "encoder": encoded_cpu - cpu,
                        "scoring": time.thread_time() - encoded_cpu,
                    },
                )
            )
        answers = [
            ranking if ranking is not None else self._popular_ranking(one, reason="no_history")
            for one, ranking in zip(prepared, rankings, strict=True)
        ]
        return answers, BatchTimings(
            route_seconds=route_seconds,
            encode_seconds=encode_seconds,
            score_seconds=score_seconds,
            work=self._accounting.work(answers, costs, router_cpu),
            full_cpu_per_flop=self._accounting.full_cpu_per_flop(
                answers, len({bucket for _, bucket in groups})
            ),
        )

    def _prepare(self, query: Query) -> _Prepared:
        history, missing = self._catalog.encode(query.history)
        excluded_rows, missing_excluded = self._catalog.encode(query.exclude_items)
        excluded = set(excluded_rows)
        if query.exclude_seen:
            excluded.update(history)
        candidates: list[int] | None = None
        if query.candidates is not None:
            found, missing_candidates = self._catalog.encode(query.candidates)
            candidates = sorted(set(found) - excluded)
            missing = missing + missing_candidates
        allowed = self._attributes.mask(query.filter) if query.filter is not None else None
        one = _Prepared(
            query=query,
            history=history,
            missing=tuple(dict.fromkeys(missing + missing_excluded)),
            excluded=excluded,
            candidates=candidates,
            allowed=allowed,
        )
        if history:
            length = min(len(history), self._ranker.config.max_length)
            one.bucket = self._ranker.bucket(length)
        return one

    def _route(self, known: Sequence[_Prepared], price: Price) -> None:
        """Give every query its submodel; the batch passes the router once."""
        routed: list[_Prepared] = []
        for one in known:
            compute = one.query.compute
            if compute.mode == "full":
                one.place, one.reason = len(self._places) - 1, "full"
            elif compute.mode == "fixed" and compute.submodel in self._places:
                one.place, one.reason = self._places[compute.submodel], "fixed"
            else:
                routed.append(one)
        if not routed:
            return
        most = self._ranker.config.max_length
        lengths_B = torch.tensor([min(len(one.history), most) for one in routed])
        recent_BW = recent([one.history for one in routed])
        quality_BS = self._ranker.quality(recent_BW, lengths_B)
        cost_BS = self._ranker.cost_ratios(lengths_B)
        allowed_BS = self._routable.expand(len(routed), -1)
        base = self._price if price.base is None else price.base
        free = choose(quality_BS, cost_BS, base, allowed_BS)
        bounded = [one.query.compute.max_ratio for one in routed]
        chosen = free
        if any(bound is not None for bound in bounded):
            full_B1 = torch.tensor([[self._ranker.full_cost(one.bucket).total] for one in routed])
            full_at_most = self._ranker.full_cost(most).total
            bound_B1 = torch.tensor([[1e9 if bound is None else bound] for bound in bounded])
            within_BS = cost_BS * full_at_most <= bound_B1 * full_B1 * (1 + 1e-6)
            allowed_BS = allowed_BS & within_BS
            chosen = choose(quality_BS, cost_BS, base, allowed_BS)
        for one, place, freely in zip(routed, chosen.tolist(), free.tolist(), strict=True):
            one.place = place
            one.reason = "router" if place == freely else "max_ratio"
        if price.surcharge > 0:
            dear = choose(quality_BS, cost_BS, base + price.surcharge, allowed_BS)
            for one, place in zip(routed, dear.tolist(), strict=True):
                if place != one.place:
                    one.place, one.reason = place, "overload"

    def _rank(self, one: _Prepared, scores_V: Tensor) -> Ranking:
        query = one.query
        if one.allowed is not None:
            scores_V = scores_V.masked_fill(~torch.from_numpy(one.allowed.copy()), -torch.inf)
        if one.candidates is not None:
            rows_C = torch.tensor(one.candidates, dtype=torch.int64)
            places, scores = top_rows(scores_V[rows_C], query.k) if one.candidates else ([], [])
            rows = [one.candidates[place] for place in places]
        else:
            if one.excluded:
                scores_V[list(one.excluded)] = -torch.inf
            rows, scores = top_rows(scores_V, query.k)
        items = self._decode(rows, scores)
        short = len(items) < query.k
        if short and query.filter is not None and not query.strict_filter:
            items += self._fill(one, rows, query.k - len(items))
        cost = self._ranker.cost(one.place, one.bucket, routed=one.reason not in {"full", "fixed"})
        return Ranking(
            items=tuple(items),
            source="model",
            model_version=self._info.version,
            submodel=self._ranker.served[one.place].name,
            flops=_flops(cost),
            flops_full=_flops(self._ranker.full_cost(one.bucket)),
            reason=one.reason,
            history_length=min(len(one.history), self._ranker.config.max_length),
            missing_items=one.missing,
            short_list=len(items) < query.k,
        )

    def _fill(self, one: _Prepared, rows: Sequence[int], missing: int) -> list[RankedItem]:
        """Return popular items that ignore the filter but no exclusion; scores below all others."""
        found = self._popular.top(
            missing,
            excluded=one.excluded | set(rows),
            allowed=None,
            candidates=set(one.candidates) if one.candidates is not None else None,
        )
        return self._decode([row for row, _ in found], [-1e9] * len(found))

    def _popular_ranking(self, one: _Prepared, *, reason: str) -> Ranking:
        query = one.query
        found = self._popular.top(
            query.k,
            excluded=one.excluded,
            allowed=one.allowed,
            candidates=set(one.candidates) if one.candidates is not None else None,
        )
        items = self._decode([row for row, _ in found], [score for _, score in found])
        if len(items) < query.k and query.filter is not None and not query.strict_filter:
            items += self._fill(one, [row for row, _ in found], query.k - len(items))
        return Ranking(
            items=tuple(items),
            source="popular",
            model_version=self._info.version,
            reason=reason,
            missing_items=one.missing,
            short_list=len(items) < query.k,
        )

    def _decode(self, rows: Sequence[int], scores: Sequence[float]) -> list[RankedItem]:
        return [
            RankedItem(external_id=self._catalog.external_id(row), score=score)
            for row, score in zip(rows, scores, strict=True)
        ]


def _flops(cost: Cost) -> Flops:
    return Flops(router=cost.router, encoder=cost.encoder, scoring=cost.scoring)


def load_engine(path: Path, *, price: float | None, allowed: Sequence[str] | None) -> TorchEngine:
    """Verify and load the checkpoint directory `path`; CheckpointError when it is refused."""
    return TorchEngine(read_checkpoint(path), price=price, allowed=allowed)
