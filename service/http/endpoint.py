"""One row of the table of endpoints."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from starlette.responses import Response

from service.http.answers import Answer
from service.http.schemas import Body
from service.http.security import AuthScope


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """One row of the table. `scope` None means that no key is needed.

    Without an `answer` a success has a body of one of the `texts`, or none where there are none.
    """

    method: str
    path: str
    handler: Callable[..., Coroutine[Any, Any, Response]]
    scope: AuthScope | None
    answer: type[Answer] | None = None
    texts: tuple[str, ...] = ()
    sends: type[Body] | None = None
    body_required: bool = True
    success: int = 200
    failures: tuple[int, ...] = ()

    @property
    def operation_id(self) -> str:
        """The name by which the OpenAPI document and its links know this endpoint."""
        name = self.handler.__name__
        return f"{name}_alias" if self.path == "/recommend" else name
