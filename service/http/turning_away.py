"""In overload, requests for recommendations are answered where they arrive.

Through the whole application a refusal costs about a quarter of an answer, on the thread that
answers: at three times the capacity most of its time went into saying no. Here the headers alone
decide, before there is a task, a body or a key to look at, and what all refusals share is made
once.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable
from functools import cache

from service.engine.batcher import QueueFullError
from service.http.context import Exchange
from service.http.problems import problem_of
from service.http.record import Headers, Recorder, header_lines, problem_headers, status_line
from service.logs import log_request
from service.overload.overload import Overload

RECOMMEND_PATHS = ("/recommend", "/v1/recommend", "/v1/recommend/batch")
_PATHS = {path.encode(): path for path in RECOMMEND_PATHS}
_PROBLEM = problem_of(QueueFullError())
_STATUS = _PROBLEM.kind.status
# What differs between two refusals.
_OWN = frozenset({b"content-length", b"x-request-id"})
# Docker's log drivers cut lines of more than 16 KiB in two.
_MOST_IDS = 100


class TurningAway:
    """Says which requests go no further, and with which answer.

    With `cors` those of browsers go the long way, where the headers that they need are added.
    Belongs to the event loop.
    """

    def __init__(self, overload: Overload, recorder: Recorder, *, cors: bool) -> None:
        self._overload = overload
        self._recorder = recorder
        self._cors = cors
        self._refused: dict[str, list[str]] = {}
        self._shared: tuple[object, bytes] = (None, b"")

    def concerns(self, method: bytes, url: bytes, headers: Iterable[tuple[bytes, bytes]]) -> bool:
        """Whether this is a request for recommendations that may be answered here."""
        if method != b"POST" or url not in _PATHS:
            return False
        return not (self._cors and any(name == b"origin" for name, _ in headers))

    def answer(
        self,
        url: bytes,
        headers: Iterable[tuple[bytes, bytes]],
        server_headers: Headers,
    ) -> bytes | None:
        """Return the whole refusal as it goes out, noted as such, or None to let it pass.

        What passes counts as inside until `passed` is called. `server_headers` are those of every
        answer. The refused are counted at once, and logged together at the end of the event
        loop's turn, but those that are traced.
        """
        if not self._overload.turns_away():
            return None
        path = _PATHS[url]
        exchange = self._recorder.begin(headers, path)
        own: Headers = [(b"x-request-id", exchange.request_id.encode("ascii"))]
        if exchange.trace is None:
            self._recorder.metrics.http_answered("POST", path, _STATUS, None)
            self._log_soon(path, exchange.request_id)
        else:
            own.append((b"traceresponse", str(exchange.trace).encode("ascii")))
            exchange.fields["code"] = _PROBLEM.code
            self._recorder.note(
                exchange, method="POST", template=path, status=_STATUS, seconds=None
            )
        before, after = _body(path)
        body = b"".join((before, json.dumps(exchange.request_id).encode(), after))
        own.append((b"content-length", b"%d" % len(body)))
        return b"".join((self._head(server_headers), *header_lines(own), b"\r\n", body))

    def passed(self) -> None:
        """Note that a request that was let pass has reached its route."""
        self._overload.arrived()

    def _head(self, server_headers: Headers) -> bytes:
        """Return how all refusals begin, while the date and the model are the same."""
        key = (self._recorder.model_version(), *server_headers)
        if self._shared[0] != key:
            of_all = [*server_headers, *problem_headers(_PROBLEM, b"")]
            of_all += self._recorder.headers(Exchange(request_id=""))
            shared = [one for one in of_all if one[0] not in _OWN]
            self._shared = key, status_line(_STATUS) + b"".join(header_lines(shared))
        return self._shared[1]

    def _log_soon(self, path: str, request_id: str) -> None:
        if not self._refused:
            asyncio.get_running_loop().call_soon(self._log)
        self._refused.setdefault(path, []).append(request_id)

    def _log(self) -> None:
        refused, self._refused = self._refused, {}
        for path, request_ids in refused.items():
            for start in range(0, len(request_ids), _MOST_IDS):
                some = request_ids[start : start + _MOST_IDS]
                line = {"request_ids": some, "requests": len(some), "method": "POST"}
                log_request(line | {"route": path, "status": _STATUS, "code": _PROBLEM.code})


@cache
def _body(path: str) -> tuple[bytes, bytes]:
    """Return what of the refusal's body stands before and after the request's id."""
    whole = _PROBLEM.render(request_id=(mark := "the id"), instance=path)
    before, after = whole.split(json.dumps(mark).encode())
    return before, after
