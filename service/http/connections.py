"""Connections that hold nothing for long: bounds on slow headers, long headers, slow readers."""

from __future__ import annotations

import asyncio
import secrets
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from service.http.problems import MEDIA_TYPE, ProblemError
from service.http.record import SAFE_HEADERS, header_lines, status_line
from service.http.turning_away import TurningAway
from service.http.whole_cycle import WholeCycle
from service.http.whole_request import whole_request

MOST_HEADER_BYTES = 64 * 1024


class _Answered:
    """Stands for a request that never became one of the application's."""

    response_complete = True
    disconnected = False

    class _Nobody:
        def set(self) -> None:
            """Wake nobody."""

    message_event = _Nobody()


class GuardedProtocol(HttpToolsProtocol):
    """Drops a connection whose request's headers take too long or are too long.

    And one whose peer does not take what is sent, or does not end a body that nobody waits for
    any more since its request is answered. `client_seconds` bounds each. The body that a route
    waits for has a bound of its own (`service.http.limits`), and an idle connection the server's
    keep-alive time, which bytes that begin no request do not prolong. With `turning_away` requests
    that are to go no further are answered here.
    """

    client_seconds = 10.0
    turning_away: TurningAway | None = None

    _awaiting: asyncio.TimerHandle | None = None
    _stalled: asyncio.TimerHandle | None = None
    _unread: asyncio.TimerHandle | None = None
    _between = True
    _in_body = False
    _header_bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for the first request."""
        super().connection_made(transport)
        self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop waiting."""
        self._cease()
        self._read_through()
        self.resume_writing()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Count what arrives before the headers are complete, then parse it."""
        if self._taken(data):
            return
        if self._awaiting is not None:
            self._header_bytes += len(data)
        super().data_received(data)
        # Bytes of a body that came along are no headers: then nothing is awaited any more.
        if self._awaiting is not None and self._header_bytes > MOST_HEADER_BYTES:
            self._drop()
        # Any byte ends the server's keep-alive time. What follows an answer has to begin a request.
        idle = self.cycle is not None and self.cycle.response_complete and not self._in_body
        if idle and self.timeout_keep_alive_task is None:
            self._wait()

    def _taken(self, data: bytes) -> bool:
        """Answer the request that `data` is, if it is a whole one and nothing goes before it.

        The parser would call back for every header of it, and the server wait for its body.
        """
        answered = self.cycle is None or self.cycle.response_complete
        if not (self._between and answered) or self.transport.is_closing() or self._odd:
            return False
        request = whole_request(data)
        if request is None:
            return False
        self._cease()
        self._unset_keepalive_if_required()
        turning = self.turning_away
        concerned = turning is not None and turning.concerns(b"POST", request.url, request.headers)
        if turning is not None and concerned:
            refusal = turning.answer(
                request.url, request.headers, self.server_state.default_headers
            )
            if refusal is not None:
                self.transport.write(refusal)
                self.on_response_complete()
                return True
        self.cycle = WholeCycle(self, request, event=asyncio.Event())
        self._start_asgi_task(self.cycle, self.app)
        if turning is not None and concerned:
            # After the first step of the request's task, which has entered the route by then.
            self.loop.call_soon(turning.passed)
        return True

    @property
    def _odd(self) -> bool:
        """Whether the server is told to do what only its own way through does."""
        return bool(self.limit_concurrency is not None or self.root_path)

    def on_message_begin(self) -> None:
        """Begin to wait for the headers of one more request on this connection."""
        self._between = False
        super().on_message_begin()
        self._wait()

    def on_headers_complete(self) -> None:
        """Stop waiting: the rest is the application's, if the request gets as far as that."""
        self._cease()
        self._in_body = True
        turning = self.turning_away
        if turning is None or not self._may_turn_away(turning):
            super().on_headers_complete()
            return
        answer = turning.answer(self.url, self.headers, self.server_state.default_headers)
        if answer is None:
            super().on_headers_complete()
            # After the first step of the request's task, which has entered the route by then.
            self.loop.call_soon(turning.passed)
            return
        cycle: Any = _Answered()
        self.cycle = cycle
        self.transport.write(answer)
        self.on_response_complete()

    def _may_turn_away(self, turning: TurningAway) -> bool:
        """Whether it could be answered here: plain HTTP/1.1, and nothing before it unanswered."""
        return (
            turning.concerns(self.parser.get_method(), self.url, self.headers)
            and (self.cycle is None or self.cycle.response_complete)
            and not self.expect_100_continue
            and self.parser.get_http_version() == "1.1"
            and bool(self.parser.should_keep_alive())
            and not self.parser.should_upgrade()
        )

    def on_message_complete(self) -> None:
        """Note that the request is there to its end, perhaps only after its answer."""
        self._between = True
        self._read_through()
        super().on_message_complete()
        if self.cycle.response_complete and self.timeout_keep_alive_task is None:
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )

    def on_response_complete(self) -> None:
        """Give the peer its time for the rest of a body that was answered before it was there."""
        super().on_response_complete()
        if self._in_body and self._unread is None:
            self._unread = self.loop.call_later(self.client_seconds, self._drop)

    def send_400_response(self, msg: str) -> None:
        """Answer what is no HTTP request in the one shape of every failure, and close."""
        request_id = secrets.token_hex(16)
        problem = ProblemError("bad_request", "This is not an HTTP/1.1 request.")
        body = problem.render(request_id=request_id, instance=None)
        headers = (
            (b"content-type", MEDIA_TYPE.encode()),
            (b"content-length", b"%d" % len(body)),
            (b"x-request-id", request_id.encode()),
            *SAFE_HEADERS,
            (b"connection", b"close"),
        )
        self.transport.write(b"".join((status_line(400), *header_lines(headers), b"\r\n", body)))
        self.transport.close()

    def pause_writing(self) -> None:
        """Give the peer its time to take what is buffered."""
        super().pause_writing()
        if self._stalled is None:
            self._stalled = self.loop.call_later(self.client_seconds, self._drop)

    def resume_writing(self) -> None:
        """Note that the peer took what was buffered."""
        super().resume_writing()
        if self._stalled is not None:
            self._stalled.cancel()
            self._stalled = None

    def _wait(self) -> None:
        if self._awaiting is None:
            self._header_bytes = 0
            self._awaiting = self.loop.call_later(self.client_seconds, self._drop)

    def _cease(self) -> None:
        if self._awaiting is not None:
            self._awaiting.cancel()
            self._awaiting = None

    def _read_through(self) -> None:
        self._in_body = False
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None

    def _drop(self) -> None:
        self._cease()
        self._read_through()
        self.transport.abort()


def guarded(client_seconds: float, turning_away: TurningAway | None) -> type[GuardedProtocol]:
    """Return the protocol with its bound, and with who says what goes no further."""
    fields = {"client_seconds": client_seconds, "turning_away": turning_away}
    return type("GuardedProtocol", (GuardedProtocol,), fields)
