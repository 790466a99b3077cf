"""Path and query parameters that several routes share."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import unquote_to_bytes

from fastapi import Path, Query
from starlette.convertors import Convertor
from starlette.requests import Request

from service.http.problems import FieldError, ProblemError
from service.http.schemas import TEXT

UserId = Annotated[str, Path(min_length=1, max_length=256, pattern=TEXT)]
ItemId = Annotated[str, Path(min_length=1, max_length=256, pattern=TEXT)]
Limit = Annotated[int, Query(ge=1, le=1000, description="Most items returned.")]
SimilarK = Annotated[int, Query(ge=1, le=500, description="How many neighbours.")]


class AnyText(Convertor[str]):
    """What `{name:path}` matches: line ends too, so that such an id is refused by its name."""

    regex = "(?s:.*)"

    def convert(self, value: str) -> str:
        """Return the text as it is."""
        return value

    def to_string(self, value: str) -> str:
        """Return the text as it is."""
        return value


async def check_path_encoding(request: Request) -> None:
    """Return when the path is UTF-8.

    Servers replace broken bytes by U+FFFD, which would let different ids share one name.
    """
    raw: bytes = request.scope.get("raw_path") or b""
    if "\ufffd" not in request.scope["path"]:
        return
    try:
        unquote_to_bytes(raw).decode("utf-8")
    except UnicodeDecodeError:
        detail = "The path is not percent-encoded UTF-8."
        raise ProblemError(
            "invalid_utf8", detail, [FieldError("/path", "invalid_utf8", detail)]
        ) from None
