"""The table of endpoints: path, scope, bodies; the framework's routes are made from it."""

from __future__ import annotations

from collections.abc import Sequence

from fastapi import Depends, FastAPI
from starlette.convertors import register_url_convertor
from starlette.responses import Response

from service.http import answers as out
from service.http import (
    routes_blocklist,
    routes_events,
    routes_model,
    routes_price,
    routes_probes,
    routes_recommend,
    routes_users,
)
from service.http import schemas as body
from service.http.blocklist_bodies import BlocklistBody, BlocklistChangeRequest
from service.http.direct import Shortcut
from service.http.endpoint import Endpoint
from service.http.openapi import document, extra, responses
from service.http.parameters import AnyText, check_path_encoding
from service.http.security import require

_ASKING = (400, 401, 403, 413, 415, 422, 429, 503)
_WRITING = (400, 401, 403, 413, 415, 422, 503)
_USER = "/v1/users/{user_id:path}"

ENDPOINTS: Sequence[Endpoint] = (
    *(
        Endpoint(
            method="POST",
            path=path,
            handler=routes_recommend.recommend,
            scope="read",
            sends=body.RecommendRequest,
            answer=out.RecommendAnswer,
            failures=_ASKING,
        )
        for path in ("/recommend", "/v1/recommend")
    ),
    Endpoint(
        method="POST",
        path="/v1/recommend/batch",
        handler=routes_recommend.recommend_batch,
        scope="read",
        sends=body.BatchRequest,
        answer=out.BatchAnswer,
        failures=_ASKING,
    ),
    Endpoint(
        method="POST",
        path="/v1/events",
        handler=routes_events.events,
        scope="write",
        sends=body.EventsRequest,
        answer=out.EventsAnswer,
        failures=_WRITING,
    ),
    Endpoint(
        method="GET",
        path=f"{_USER}/history",
        handler=routes_users.read_history,
        scope="read",
        answer=out.HistoryAnswer,
        failures=(400, 401, 403, 422, 503),
    ),
    Endpoint(
        method="PUT",
        path=f"{_USER}/history",
        handler=routes_users.replace_history,
        scope="write",
        sends=body.HistoryBody,
        answer=out.LengthAnswer,
        failures=_WRITING,
    ),
    Endpoint(
        method="DELETE",
        path=f"{_USER}/history",
        handler=routes_users.delete_history,
        scope="write",
        success=204,
        failures=(400, 401, 403, 422, 503),
    ),
    Endpoint(
        method="POST",
        path=f"{_USER}/merge",
        handler=routes_users.merge_users,
        scope="write",
        sends=body.MergeRequest,
        answer=out.LengthAnswer,
        failures=_WRITING,
    ),
    Endpoint(
        method="GET",
        path="/v1/items/{item_id:path}/similar",
        handler=routes_recommend.similar,
        scope="read",
        answer=out.SimilarAnswer,
        failures=(400, 401, 403, 404, 422, 429, 503),
    ),
    Endpoint(
        method="GET",
        path="/v1/model",
        handler=routes_model.model,
        scope="read",
        answer=out.ModelAnswer,
        failures=(401, 403, 503),
    ),
    Endpoint(
        method="POST",
        path="/v1/admin/model/reload",
        handler=routes_model.reload_model,
        scope="admin",
        sends=body.ReloadRequest,
        body_required=False,
        answer=out.ModelAnswer,
        failures=(400, 401, 403, 409, 413, 415, 422, 503),
    ),
    Endpoint(
        method="POST",
        path="/v1/admin/model/rollback",
        handler=routes_model.rollback_model,
        scope="admin",
        answer=out.ModelAnswer,
        failures=(401, 403, 409, 422),
    ),
    Endpoint(
        method="POST",
        path="/v1/admin/model/promote",
        handler=routes_model.promote_model,
        scope="admin",
        answer=out.ModelAnswer,
        failures=(401, 403, 409, 422),
    ),
    Endpoint(
        method="POST",
        path="/v1/admin/model/unload",
        handler=routes_model.unload_model,
        scope="admin",
        sends=body.UnloadRequest,
        answer=out.ModelAnswer,
        failures=(400, 401, 403, 413, 415, 422, 503),
    ),
    Endpoint(
        method="PUT",
        path="/v1/admin/traffic",
        handler=routes_model.set_traffic,
        scope="admin",
        sends=body.TrafficRequest,
        answer=out.ModelAnswer,
        failures=(400, 401, 403, 413, 415, 422, 503),
    ),
    Endpoint(
        method="GET",
        path="/v1/admin/blocklist",
        handler=routes_blocklist.read_blocklist,
        scope="admin",
        answer=out.BlocklistAnswer,
        failures=(401, 403, 503),
    ),
    *(
        Endpoint(
            method=method,
            path="/v1/admin/blocklist",
            handler=handler,
            scope="admin",
            sends=sends,
            answer=out.BlocklistChangeAnswer,
            failures=_WRITING,
        )
        for method, handler, sends in (
            ("POST", routes_blocklist.change_blocklist, BlocklistChangeRequest),
            ("PUT", routes_blocklist.replace_blocklist, BlocklistBody),
        )
    ),
    Endpoint(
        method="GET",
        path="/v1/admin/price",
        handler=routes_price.read_price,
        scope="admin",
        answer=out.PriceAnswer,
        failures=(401, 403),
    ),
    Endpoint(
        method="PUT",
        path="/v1/admin/price",
        handler=routes_price.set_price,
        scope="admin",
        sends=body.PriceRequest,
        answer=out.PriceAnswer,
        failures=(400, 401, 403, 413, 415, 422),
    ),
    Endpoint(
        method="GET",
        path="/healthz",
        handler=routes_probes.healthz,
        scope=None,
        answer=out.HealthAnswer,
    ),
    Endpoint(
        method="GET",
        path="/readyz",
        handler=routes_probes.readyz,
        scope=None,
        answer=out.ReadyAnswer,
    ),
    Endpoint(
        method="GET",
        path="/metrics",
        handler=routes_probes.metrics,
        scope=None,
        texts=("text/plain", "application/openmetrics-text"),
    ),
    Endpoint(
        method="GET",
        path="/problems/{code}",
        handler=routes_probes.problem_type,
        scope=None,
        answer=out.ProblemTypeAnswer,
        failures=(400, 404, 422),
    ),
)


def add_routes(app: FastAPI) -> None:
    """Add every endpoint to `app`, guarded by its scope, and the OpenAPI document."""
    register_url_convertor("path", AnyText())
    for endpoint in ENDPOINTS:
        guards = [] if endpoint.scope is None else [Depends(require(endpoint.scope))]
        if "{" in endpoint.path:
            guards.append(Depends(check_path_encoding))
        app.add_api_route(
            endpoint.path,
            endpoint.handler,
            methods=[endpoint.method],
            dependencies=guards,
            response_model=None,
            response_class=Response,  # its media type is that of `responses`
            responses=responses(endpoint),
            status_code=endpoint.success,
            summary=(endpoint.handler.__doc__ or "").split("\n")[0].rstrip("."),
            openapi_extra=extra(endpoint),
            operation_id=endpoint.operation_id,
        )
    app.openapi = lambda: document(app, ENDPOINTS)  # type: ignore[method-assign]


def shortcuts() -> dict[tuple[str, str], Shortcut]:
    """Return the guarded endpoints that take a body and no parameters, by method and path."""
    return {
        (endpoint.method, endpoint.path): Shortcut(
            path=endpoint.path, guard=require(endpoint.scope), handler=endpoint.handler
        )
        for endpoint in ENDPOINTS
        if endpoint.scope is not None and endpoint.sends is not None and "{" not in endpoint.path
    }


def templates() -> frozenset[str]:
    """Return every route template, the OpenAPI document's included."""
    return frozenset(endpoint.path for endpoint in ENDPOINTS) | {"/openapi.json"}
