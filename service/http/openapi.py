"""The OpenAPI document: what every endpoint answers, and how one call leads to the next."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from service.http import answers as out
from service.http.endpoint import Endpoint
from service.http.problems import KINDS, MEDIA_TYPE
from service.http.schemas import Event
from service.http.security import KEY_HEADER

ALWAYS = (500,)
COMPONENTS = "#/components/schemas/"
_HEADERS = "#/components/headers/"

_HEADER_TYPES: Mapping[str, dict[str, Any]] = {
    "X-Request-ID": {
        "description": "What was sent, or one made here; the log holds the request under it.",
        "required": True,
        "schema": {"type": "string", "pattern": "^[!-~]{1,128}$"},
    },
    "X-Model-Version": {
        "description": "The version that answered, or serves now; absent while none does.",
        "schema": {"type": "string"},
    },
    "Retry-After": {
        "description": "Seconds after which another attempt makes sense.",
        "required": True,
        "schema": {"type": "integer", "minimum": 1},
    },
}
_RETRIED = (409, 429, 503)


def _link(operation: str, description: str, **more: Any) -> dict[str, Any]:
    return {"operationId": operation, "description": description, **more}


def _of_user(operation: str, description: str, user: str) -> dict[str, Any]:
    return _link(operation, description, parameters={"user_id": user})


_TOLD_USER = "$request.body#/events/0/user_id"
_PATH_USER = "$request.path.user_id"
_LINKS: Mapping[str, Mapping[str, Any]] = {
    "recommend": {
        "taken": _link(
            "events",
            "Tell that the user took the first item of this recommendation.",
            requestBody={
                "events": [
                    {
                        "user_id": "{$request.body#/user_id}",
                        "item_id": "{$response.body#/items/0/item_id}",
                        "recommendation_id": "{$response.body#/recommendation_id}",
                    }
                ]
            },
        ),
        "similar": _link(
            "similar",
            "Items like the first one.",
            parameters={"item_id": "$response.body#/items/0/item_id"},
        ),
    },
    "events": {
        "next": _link(
            "recommend",
            "The next recommendation reflects what was acknowledged.",
            requestBody={"user_id": "{" + _TOLD_USER + "}"},
        ),
        "history": _of_user("read_history", "What is remembered of the user now.", _TOLD_USER),
    },
    "read_history": {
        "forget": _of_user("delete_history", "Forget the user.", _PATH_USER),
    },
    "replace_history": {
        "history": _of_user("read_history", "What is remembered of the user now.", _PATH_USER),
        "next": _link(
            "recommend",
            "The next recommendation reflects it.",
            requestBody={"user_id": "{" + _PATH_USER + "}"},
        ),
    },
    "delete_history": {
        "history": _of_user("read_history", "Empty now.", _PATH_USER),
    },
}


def responses(endpoint: Endpoint) -> dict[int | str, dict[str, Any]]:
    """Return every answer of an endpoint, by status: media types, headers, links."""
    success: dict[str, Any] = {"description": "Done"}
    if endpoint.answer is not None:
        schema = {"schema": {"$ref": COMPONENTS + endpoint.answer.__name__}}
        success["content"] = {"application/json": schema}
    elif endpoint.texts:
        success["content"] = {kind: {"schema": {"type": "string"}} for kind in endpoint.texts}
    name = "recommend" if endpoint.path == "/recommend" else endpoint.operation_id
    if name in _LINKS:
        success["links"] = dict(_LINKS[name])
    found: dict[int | str, dict[str, Any]] = {endpoint.success: success}
    if endpoint.answer is out.ReadyAnswer:
        found[503] = {**success, "description": "Not ready"}
    problem = {MEDIA_TYPE: {"schema": {"$ref": COMPONENTS + "Problem"}}}
    for status in _failures(endpoint):
        titles = [kind.title for kind in KINDS.values() if kind.status == status]
        found[status] = {"description": ", or: ".join(titles), "content": problem}
    for code, answer in found.items():
        names = ["X-Request-ID", "X-Model-Version", *(["Retry-After"] * (code in _RETRIED))]
        answer["headers"] = {name: {"$ref": _HEADERS + name} for name in names}
    return found


def extra(endpoint: Endpoint) -> dict[str, Any]:
    """Return what the framework cannot know of an endpoint: key, scope and body."""
    found: dict[str, Any] = {}
    if endpoint.scope is not None:
        found["security"] = [{"apiKey": []}]
        found["x-scope"] = endpoint.scope
    if endpoint.sends is not None:
        schema = {"schema": {"$ref": COMPONENTS + endpoint.sends.__name__}}
        found["requestBody"] = {
            "required": endpoint.body_required,
            "content": {"application/json": schema},
        }
    return found


def document(app: FastAPI, endpoints: Sequence[Endpoint]) -> dict[str, Any]:
    """Return the document, made once."""
    if app.openapi_schema is None:
        made = get_openapi(
            title=app.title, version=app.version, description=app.description, routes=app.routes
        )
        used: list[type[BaseModel]] = [Event, out.Problem]
        for endpoint in endpoints:
            used += [model for model in (endpoint.sends, endpoint.answer) if model is not None]
        modes = [(model, "validation") for model in dict.fromkeys(used)]
        _, found = models_json_schema(modes, ref_template=COMPONENTS + "{model}")  # type: ignore[arg-type]
        components = made.setdefault("components", {})
        components["schemas"] = found["$defs"]
        components["headers"] = dict(_HEADER_TYPES)
        components["securitySchemes"] = {
            "apiKey": {"type": "apiKey", "in": "header", "name": KEY_HEADER}
        }
        # Templates of this framework name the converter; the document's must not.
        made["paths"] = {path.replace(":path}", "}"): item for path, item in made["paths"].items()}
        app.openapi_schema = made
    return app.openapi_schema


def _failures(endpoint: Endpoint) -> list[int]:
    found = {*endpoint.failures, *ALWAYS}
    if endpoint.scope is not None:
        found.add(429)
    if endpoint.scope == "admin":
        found.add(404)
    if endpoint.sends is not None:
        found.add(408)
    return sorted(found)
