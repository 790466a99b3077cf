"""POST /recommend, its batch form, and similar items."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from pydantic import ValidationError
from starlette.requests import Request
from starlette.responses import Response

from service.engine.batcher import QueueFullError
from service.engine.contract import PARTS, UnknownFieldError, UnknownSubmodelError
from service.http.answers import ItemAnswer, SimilarAnswer
from service.http.body import read_body, reply
from service.http.context import Services, exchange, services
from service.http.parameters import ItemId, SimilarK
from service.http.problems import (
    NOT_FILTERABLE,
    FieldError,
    ProblemError,
    field_errors,
    invalid,
    problem_of,
)
from service.http.schemas import BatchRequest, RecommendRequest
from service.recommend import Recommendation
from service.tracing.contract import Marks

log = logging.getLogger("canet.http")


async def recommend(request: Request) -> Response:
    """Rank the next items of a user or of a history sent along."""
    here, record = services(request), exchange(request)
    _refuse_early(here)
    body = await read_body(request, RecommendRequest)
    record.fields |= _asked(here, body)
    found = await answer(here, body, record.marks)
    record.model_version = found.ranking.model_version
    record.stage_seconds |= found.stage_seconds
    record.fields |= _told(found)
    response = reply(request, to_answer(found, body))
    here.metrics.stage("serialise", record.stage_seconds["serialise"])
    return response


async def recommend_batch(request: Request) -> Response:
    """Answer up to 128 requests, in order, each with a result or a problem of its own."""
    here, record = services(request), exchange(request)
    _refuse_early(here)
    batch = await read_body(request, BatchRequest)

    async def one(raw: object) -> dict[str, Any]:
        try:
            body = RecommendRequest.model_validate(raw)
            return {"result": to_answer(await answer(here, body, record.marks), body)}
        except ValidationError as error:
            problem = invalid(field_errors(error.errors(include_url=False)))
        except Exception as error:
            problem = problem_of(error)
            if problem.code == "internal_error":
                log.exception("one of the batch of request %s failed", record.request_id)
        return {"problem": problem.to_json(request_id=record.request_id, instance=None)}

    results = await asyncio.gather(*(one(raw) for raw in batch.requests))
    record.fields |= {
        "batch": len(results),
        "problems": sum("problem" in result for result in results),
    }
    response = reply(request, {"results": results})
    here.metrics.stage("serialise", record.stage_seconds["serialise"])
    return response


async def similar(request: Request, item_id: ItemId, k: SimilarK = 10) -> Response:
    """Return the nearest items of the model's item table, by cosine."""
    here = services(request)
    blocked = here.blocklist.current
    with here.overload.admit():
        version, ranked = await here.batcher.call(
            lambda engine: (engine.info.version, engine.similar(item_id, k, blocked))
        )
    exchange(request).model_version = version
    items = [
        ItemAnswer(item_id=item.external_id, rank=rank, score=item.score)
        for rank, item in enumerate(ranked, start=1)
    ]
    return reply(request, SimilarAnswer(item_id=item_id, model_version=version, items=items))


def _refuse_early(here: Services) -> None:
    """Raise QueueFullError in overload before the body costs anything."""
    if here.overload.refuses():
        raise QueueFullError


async def answer(here: Services, body: RecommendRequest, marks: Marks | None) -> Recommendation:
    """Return the recommendation for one checked body; an inline history leaves Redis alone.

    Stages are noted in `marks` where there are any.
    """
    milliseconds = body.compute.deadline_ms
    try:
        with here.overload.admit():
            return await here.recommender.recommend(
                body.to_query(),
                user_id=body.user_id if body.history is None else None,
                asks=body.user_id,
                deadline_seconds=None if milliseconds is None else milliseconds / 1000,
                marks=marks,
            )
    except UnknownSubmodelError as error:
        raise problem_of(error) from None
    except UnknownFieldError:
        raise _unknown_fields(here, body) from None


def to_answer(found: Recommendation, body: RecommendRequest) -> dict[str, Any]:
    """Return the wire form, a `RecommendAnswer`; fields that were not asked for are absent.

    Plain values: building and checking models of our own values costs more than encoding them.
    """
    ranking = found.ranking
    items: list[dict[str, Any]] = [
        {"item_id": item.external_id, "rank": rank}
        for rank, item in enumerate(ranking.items, start=1)
    ]
    if "scores" in body.include:
        for one, item in zip(items, ranking.items, strict=True):
            one["score"] = item.score
    if "attributes" in body.include:
        for one, item in zip(items, ranking.items, strict=True):
            one["attributes"] = dict(found.engine.attributes(item.external_id))
    result: dict[str, Any] = {
        "recommendation_id": found.recommendation_id,
        "model_version": ranking.model_version,
        "variant": found.variant,
        "source": ranking.source,
        "degraded": found.degraded,
        "history_length": ranking.history_length,
        "missing_items": ranking.missing_items,
        "items": items,
        "compute": {
            "submodel": ranking.submodel,
            "flops": ranking.flops.total,
            "flops_full": ranking.flops_full.total,
            "saved_ratio": round(found.saved_ratio, 4),
            "reason": ranking.reason,
        },
    }
    if "explain" in body.include:
        result["explain"] = {
            "history_source": found.history_source,
            "price": found.engine.info.price,
            "flops_by_part": {part: getattr(ranking.flops, part) for part in PARTS},
            "stage_ms": {name: round(s * 1000, 3) for name, s in found.stage_seconds.items()},
        }
    return result


def _unknown_fields(here: Services, body: RecommendRequest) -> ProblemError:
    engine = here.models.current()
    known = set() if engine is None else set(engine.info.filterable_fields)
    wrong = [
        FieldError(f"/filter/{part}/{place}/field", "unknown_field", NOT_FILTERABLE)
        for part in ("must", "must_not")
        for place, clause in enumerate(getattr(body.filter, part))
        if clause.field not in known
    ]
    return invalid(wrong or [FieldError("/filter", "unknown_field", NOT_FILTERABLE)])


def _asked(here: Services, body: RecommendRequest) -> dict[str, object]:
    fields: dict[str, object] = {"k": body.k}
    if body.user_id is not None:
        fields["user"] = here.hash_user(body.user_id)
    if body.scenario is not None:
        fields["scenario"] = body.scenario
    return fields


def _told(found: Recommendation) -> dict[str, object]:
    ranking = found.ranking
    return {
        "recommendation_id": found.recommendation_id,
        "model_version": ranking.model_version,
        "variant": found.variant,
        "source": ranking.source,
        "submodel": ranking.submodel,
        "reason": ranking.reason,
        "flops": ranking.flops.total,
        "flops_full": ranking.flops_full.total,
        "history_length": ranking.history_length,
        "items": len(ranking.items),
        "degraded": list(found.degraded),
    }
