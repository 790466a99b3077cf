"""In overload requests are refused on the connection itself, and nobody can tell by the answer."""

from __future__ import annotations

import asyncio
import json

import httpx
import pytest

from service.overload.controller import State
from tests.service.fakes import running
from tests.service.http.wire import answered, listening, posted, told

ASK = {"history": ["i1", "i2"]}
FULL = State(pressure=1.0, admitted=0)


@pytest.mark.parametrize("path", ["/recommend", "/v1/recommend", "/v1/recommend/batch"])
async def test_the_answer_is_the_one_that_the_route_gives(path: str) -> None:
    async with running() as stack, listening(stack) as url, httpx.AsyncClient() as client:
        stack.app.state.services.overload._state = FULL
        # Whoever asks with a query takes the long way.
        long = await client.post(f"{url}{path}?long=way", json=ASK)
        short = await client.post(f"{url}{path}", json=ASK)
        assert told(short) == told(long)
        assert short.status_code == 429
        assert await stack.metric("canet_refused_total", reason="overload") == 2
        counted = {"method": "POST", "route": path, "status": "429"}
        assert await stack.metric("canet_http_requests_total", **counted) == 2


async def test_what_came_in_one_piece_is_answered_the_same() -> None:
    async with running() as stack, listening(stack) as url, httpx.AsyncClient() as client:
        stack.app.state.services.overload._state = FULL
        long = await client.post(f"{url}/recommend?long=way", json=ASK)
        reader, writer = await asyncio.open_connection("127.0.0.1", httpx.URL(url).port)
        for request_id in ("", "m" * 32, 'my"\\own'):
            writer.write(posted(ASK, **({"X-Request-ID": request_id} if request_id else {})))
            answer = await answered(reader)
            # Escaped, an id is longer.
            answer.headers["content-length"] = long.headers["content-length"]
            assert told(answer) == told(long)
            assert answer.headers["x-request-id"] == answer.json()["request_id"]
            assert answer.headers["x-request-id"] == (request_id or answer.headers["x-request-id"])
        writer.close()
        counted = {"method": "POST", "route": "/recommend", "status": "429"}
        assert await stack.metric("canet_http_requests_total", **counted) == 4
        # Three took no time: they would draw the quantiles down.
        place = {"method": "POST", "route": "/recommend"}
        assert await stack.metric("canet_http_request_duration_seconds_count", **place) == 1


async def test_refused_together_they_are_logged_together(caplog: pytest.LogCaptureFixture) -> None:
    async with running() as stack:
        stack.app.state.services.overload._state = FULL
        turning = stack.app.state.turning_away
        with caplog.at_level("INFO", logger="canet.access"):
            for number in range(150):
                assert turning.answer(b"/recommend", [(b"x-request-id", b"r%d" % number)], [])
            await asyncio.sleep(0)
    lines = [vars(one)["canet_fields"] for one in caplog.records if one.name == "canet.access"]
    assert [line["requests"] for line in lines] == [100, 50]
    assert [one for line in lines for one in line["request_ids"]] == [f"r{n}" for n in range(150)]
    assert all(line["status"] == 429 and line["code"] == "overloaded" for line in lines)


async def test_it_is_logged_and_keeps_ids_and_traces_of_the_caller(
    caplog: pytest.LogCaptureFixture,
) -> None:
    parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    async with running() as stack, listening(stack) as url, httpx.AsyncClient() as client:
        stack.app.state.services.overload._state = FULL
        headers = {"x-request-id": 'mine"\\', "traceparent": parent}
        with caplog.at_level("INFO", logger="canet.access"):
            answer = await client.post(f"{url}/recommend", json=ASK, headers=headers)
    assert answer.headers["x-request-id"] == answer.json()["request_id"] == 'mine"\\'
    assert answer.headers["traceresponse"].split("-")[1] == parent.split("-")[1]
    (line,) = [one for one in caplog.records if one.name == "canet.access"]
    fields = vars(line)["canet_fields"]
    assert (fields["request_id"], fields["status"], fields["code"]) == (
        'mine"\\',
        429,
        "overloaded",
    )


async def test_the_connection_lives_on_and_what_comes_next_is_answered() -> None:
    body = json.dumps(ASK).encode()
    head = b"POST /recommend HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
    request = head + b"content-length: %d\r\n\r\n" % len(body) + body
    async with running() as stack, listening(stack) as url:
        overload = stack.app.state.services.overload
        reader, writer = await asyncio.open_connection("127.0.0.1", httpx.URL(url).port)

        async def status() -> bytes:
            found = await reader.readuntil(b"\r\n\r\n")
            length = int(found.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
            await reader.readexactly(length)
            return found[9:12]

        overload._state = FULL
        # The refusal is there before the body is.
        writer.write(request[: -len(body)])
        assert await status() == b"429"
        writer.write(body + request + request)
        assert [await status(), await status()] == [b"429", b"429"]
        overload._state = State()
        # The first is answered by the application, the second waits its turn behind it.
        writer.write(request + request)
        assert [await status(), await status()] == [b"200", b"200"]
        overload._state = FULL
        writer.write(head + b"connection: close\r\ncontent-length: 0\r\n\r\n")
        assert await status() == b"429"
        assert await reader.read() == b""
        writer.close()
        assert overload._arriving == 0


async def test_of_many_that_are_read_at_once_no_more_pass_than_there_is_room_for() -> None:
    async with running() as stack:
        overload = stack.app.state.services.overload
        overload._state = State(pressure=1.0, admitted=2)
        assert [overload.turns_away() for _ in range(4)] == [False, False, True, True]
        overload.arrived()
        with overload.admit():
            assert overload.turns_away()
        assert not overload.turns_away()


async def test_browsers_get_the_headers_that_they_need() -> None:
    origin = "https://shop.example"
    async with (
        running(cors_origins=origin) as stack,
        listening(stack) as url,
        httpx.AsyncClient() as client,
    ):
        stack.app.state.services.overload._state = FULL
        answer = await client.post(f"{url}/recommend", json=ASK, headers={"origin": origin})
        assert answer.status_code == 429
        assert answer.headers["access-control-allow-origin"] == origin
        assert stack.app.state.services.overload._arriving == 0
