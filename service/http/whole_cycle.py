"""One request whose body is there already, and its answer, which goes out in one piece."""

from __future__ import annotations

from typing import Any, Final, cast

from uvicorn._types import ASGIReceiveEvent, ASGISendEvent, HTTPScope
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from service.http.record import header_lines, status_line
from service.http.whole_request import WholeRequest

WHOLE_KEY: Final = "canet_whole"
"""In the scope of such a request, the bytes of its body: nobody has to wait for it or count it."""
_WITHOUT_BODY: Final = frozenset({204, 304})


class WholeCycle(RequestResponseCycle):
    """The server's own cycle without what only bodies in parts need.

    Behaves as the server's does; an answer in parts is left to it.
    """

    def __init__(self, protocol: HttpToolsProtocol, request: WholeRequest, *, event: Any) -> None:
        super().__init__(
            scope=_scope(protocol, request),
            transport=protocol.transport,
            flow=protocol.flow,
            logger=protocol.logger,
            access_logger=protocol.access_logger,
            access_log=False,  # the canonical line says all of it
            default_headers=protocol.server_state.default_headers,
            message_event=event,
            expect_100_continue=False,
            keep_alive=True,
            on_response=protocol.on_response_complete,
        )
        self._unread: bytes | None = request.body
        self._held: Any = None

    async def receive(self) -> ASGIReceiveEvent:
        """Return the body; after that, wait for the end of the connection or of the answer."""
        if self._unread is None or self.disconnected:
            return await super().receive()
        body, self._unread = self._unread, None
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(self, message: ASGISendEvent) -> None:
        """Take the head, then write it with the body; RuntimeError for what is no answer."""
        if message["type"] == "http.response.start" and not self.response_started:
            self._held, self.response_started = message, True
            return
        held, self._held = self._held, None
        if held is None:
            await super().send(message)
            return
        if message["type"] != "http.response.body" or message.get("more_body", False):
            self.response_started = False
            await super().send(held)
            await super().send(message)
            return
        if self.flow.write_paused and not self.disconnected:
            await self.flow.drain()
        if self.disconnected:
            return
        answer = self._rendered(held["status"], held.get("headers", ()), message.get("body", b""))
        self.transport.write(answer)
        self.response_complete = True
        self.message_event.set()
        if not self.keep_alive:
            self.transport.close()
        self.on_response()

    def _rendered(self, status: int, of_answer: Any, body: bytes) -> bytes:
        headers, length, told = [*self.default_headers, *of_answer], None, False
        for name, value in headers:
            if name == b"content-length":
                length = int(value)
            elif name == b"connection" and b"close" in value.lower():
                self.keep_alive, told = False, True
        if not (self.keep_alive or told):  # since the server stops
            headers.append((b"connection", b"close"))
        if length is None and status not in _WITHOUT_BODY:
            headers.append((b"content-length", b"%d" % len(body)))
        elif len(body) != (length or 0):
            raise RuntimeError(f"the body has {len(body)} bytes, its header says {length}")
        lines = header_lines(headers)
        head = b"".join(lines)
        ends = len(lines)
        if not (head.count(b"\r") == head.count(b"\n") == ends) or b"\0" in head:
            raise RuntimeError("a header has a line end within")
        return b"".join((status_line(status), head, b"\r\n", body))


def _scope(protocol: HttpToolsProtocol, request: WholeRequest) -> HTTPScope:
    path = request.url.decode("ascii")
    scope = {
        "type": "http",
        "asgi": {"version": protocol.asgi_version, "spec_version": "2.3"},
        "http_version": "1.1",
        "server": protocol.server,
        "client": protocol.client,
        "scheme": protocol.scheme,
        "root_path": "",
        "headers": request.headers,
        "state": protocol.app_state.copy(),
        "method": "POST",
        "path": path,
        "raw_path": request.url,
        "query_string": b"",
        WHOLE_KEY: len(request.body),
    }
    return cast(HTTPScope, scope)
