"""What is loaded, and the admin routes that change it."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime

from starlette.requests import Request
from starlette.responses import Response

from service.engine.batcher import NoEngineError
from service.engine.contract import ModelInfo
from service.http.answers import CatalogAnswer, ModelAnswer, SideAnswer, SubmodelAnswer
from service.http.body import read_body, reply
from service.http.context import exchange, services
from service.http.schemas import ReloadRequest, TrafficRequest, UnloadRequest
from service.lifecycle.contract import SIDES, ReloadRefusedError
from service.lifecycle.sides import SideStatus
from service.ulid import tag_of


async def model(request: Request) -> Response:
    """Tell what is loaded: versions, submodels with their FLOPs, offline accuracy."""
    return _tell_stable(request)


async def reload_model(request: Request) -> Response:
    """Verify, warm and swap to a version; refused ones leave the old model serving."""
    body = await read_body(request, ReloadRequest, optional=True)
    here = services(request)
    if body.variant == "stable":
        return _tell(request, await here.models.reload(body.version))
    assert body.version is not None
    await here.sides.load(body.variant, body.version)
    return _tell_stable(request)


async def unload_model(request: Request) -> Response:
    """End the candidate or the shadow; its users get the stable version."""
    body = await read_body(request, UnloadRequest)
    services(request).sides.unload(body.variant)
    return _tell_stable(request)


async def promote_model(request: Request) -> Response:
    """Make the candidate the stable version, for everybody and after a restart too."""
    here = services(request)
    candidate = here.sides.engine("candidate")
    if candidate is None:
        raise ReloadRefusedError("there is no candidate; load one with as: candidate")
    info = await here.models.promote(candidate.info.version)
    if here.sides.engine("candidate") is candidate:
        here.sides.unload("candidate")
    return _tell(request, info)


async def rollback_model(request: Request) -> Response:
    """Swap back to the newest sound version that served before."""
    return _tell(request, await services(request).models.rollback())


async def set_traffic(request: Request) -> Response:
    """Set the shares of the users that candidate and shadow get, from the next request on."""
    body = await read_body(request, TrafficRequest)
    sides = services(request).sides
    if body.candidate_percent is not None:
        sides.set_percent("candidate", body.candidate_percent)
    if body.shadow_percent is not None:
        sides.set_percent("shadow", body.shadow_percent)
    return _tell_stable(request)


def _tell_stable(request: Request) -> Response:
    engine = services(request).models.current()
    if engine is None:
        raise NoEngineError("no model is loaded")
    return _tell(request, engine.info)


def _tell(request: Request, info: ModelInfo) -> Response:
    exchange(request).model_version = info.version
    trained = datetime.fromtimestamp(info.trained_at_unix, UTC)
    here = services(request)
    sides = {side: here.sides.status(side) for side in SIDES}
    candidate = sides["candidate"].percent if sides["candidate"].info is not None else 0.0
    shadow = sides["shadow"].percent if sides["shadow"].info is not None else 0.0
    return reply(
        request,
        ModelAnswer(
            version=info.version,
            recommendation_tag=tag_of(info.version),
            digest=info.digest,
            created_at=info.created_at,
            trained_at=trained.isoformat(timespec="seconds").replace("+00:00", "Z"),
            parent=info.parent,
            max_length=info.max_length,
            price=info.price,
            catalog=CatalogAnswer(
                num_items=info.num_items,
                filterable_fields=list(info.filterable_fields),
                search=info.search,
                table_bytes=info.table_bytes,
                head=info.head,
            ),
            submodels=[SubmodelAnswer(**asdict(submodel)) for submodel in info.submodels],
            offline_metrics=dict(info.offline_metrics),
            traffic={"stable": 100.0 - candidate, "candidate": candidate, "shadow": shadow},
            fallback=here.models.fallback,
            problem=here.models.problem,
            sides={side: _side(status) for side, status in sides.items()},
        ),
    )


def _side(status: SideStatus) -> SideAnswer:
    return SideAnswer(
        version=None if status.info is None else status.info.version,
        recommendation_tag=None if status.info is None else tag_of(status.info.version),
        wanted=status.wanted,
        digest=None if status.info is None else status.info.digest,
        percent=status.percent,
        problem=status.problem,
    )
