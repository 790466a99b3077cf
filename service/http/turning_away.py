"""In overload, requests for recommendations are answered where they arrive.

Through the whole application a refusal costs about a quarter of an answer, on the thread that
answers: at three times the capacity most of its time went into saying no. Here the headers alone
decide, before there is a task, a body or a key to look at.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache

from service.engine.batcher import QueueFullError
from service.http.problems import problem_of
from service.http.record import Headers, Recorder, problem_headers
from service.overload.overload import Overload

RECOMMEND_PATHS = ("/recommend", "/v1/recommend", "/v1/recommend/batch")
_PATHS = {path.encode(): path for path in RECOMMEND_PATHS}
_PROBLEM = problem_of(QueueFullError())


class TurningAway:
    """Says which requests go no further, and with which answer.

    With `cors` those of browsers go the long way, where the headers that they need are added.
    """

    def __init__(self, overload: Overload, recorder: Recorder, *, cors: bool) -> None:
        self._overload = overload
        self._recorder = recorder
        self._cors = cors

    def concerns(self, method: bytes, url: bytes, headers: Sequence[tuple[bytes, bytes]]) -> bool:
        """Whether this is a request for recommendations that may be answered here."""
        if method != b"POST" or url not in _PATHS:
            return False
        return not (self._cors and any(name == b"origin" for name, _ in headers))

    def answer(
        self, url: bytes, headers: Sequence[tuple[bytes, bytes]]
    ) -> tuple[int, Headers, bytes] | None:
        """Return status, headers and body of the refusal, noted as such, or None to let it pass.

        What passes counts as inside until `passed` is called.
        """
        if not self._overload.turns_away():
            return None
        path = _PATHS[url]
        exchange = self._recorder.begin(headers, path)
        exchange.fields["code"] = _PROBLEM.code
        before, after = _body(path)
        body = before + json.dumps(exchange.request_id).encode() + after
        status = _PROBLEM.kind.status
        self._recorder.note(exchange, method="POST", template=path, status=status, seconds=0.0)
        return status, [*problem_headers(_PROBLEM, body), *self._recorder.headers(exchange)], body

    def passed(self) -> None:
        """Note that a request that was let pass has reached its route."""
        self._overload.arrived()


@cache
def _body(path: str) -> tuple[bytes, bytes]:
    """Return what of the refusal's body stands before and after the request's id."""
    whole = _PROBLEM.render(request_id=(mark := "the id"), instance=path)
    before, after = whole.split(json.dumps(mark).encode())
    return before, after
