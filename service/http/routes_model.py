"""What is loaded, and the admin routes that change it."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime

from starlette.requests import Request
from starlette.responses import Response

from service.engine.batcher import NoEngineError
from service.engine.contract import ModelInfo
from service.http.answers import CatalogAnswer, ModelAnswer, SubmodelAnswer
from service.http.body import read_body, reply
from service.http.context import exchange, services
from service.http.schemas import ReloadRequest


async def model(request: Request) -> Response:
    """Tell what is loaded: versions, submodels with their FLOPs, offline accuracy."""
    engine = services(request).models.current()
    if engine is None:
        raise NoEngineError("no model is loaded")
    return _tell(request, engine.info)


async def reload_model(request: Request) -> Response:
    """Verify, warm and swap to a version; refused ones leave the old model serving."""
    body = await read_body(request, ReloadRequest, optional=True)
    return _tell(request, await services(request).models.reload(body.version))


async def rollback_model(request: Request) -> Response:
    """Swap back to the version that served before."""
    return _tell(request, await services(request).models.rollback())


def _tell(request: Request, info: ModelInfo) -> Response:
    exchange(request).model_version = info.version
    trained = datetime.fromtimestamp(info.trained_at_unix, UTC)
    return reply(
        request,
        ModelAnswer(
            version=info.version,
            digest=info.digest,
            created_at=info.created_at,
            trained_at=trained.isoformat(timespec="seconds").replace("+00:00", "Z"),
            parent=info.parent,
            max_length=info.max_length,
            price=info.price,
            catalog=CatalogAnswer(
                num_items=info.num_items, filterable_fields=list(info.filterable_fields)
            ),
            submodels=[SubmodelAnswer(**asdict(submodel)) for submodel in info.submodels],
            offline_metrics=dict(info.offline_metrics),
            traffic={"stable": 100},
        ),
    )
