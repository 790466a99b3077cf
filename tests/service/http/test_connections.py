"""Slow and greedy clients on real sockets: each loses its connection, nobody else notices."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack

import httpx
import pytest

from tests.service.process import ADMIN, WAIT_SECONDS, Served, serving

BODY = json.dumps({"history": ["i1"]}).encode()
HEAD = (
    b"POST /recommend HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
    + f"content-length: {len(BODY)}\r\n\r\n".encode()
)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serving(
        tmp_path_factory.mktemp("served"),
        client_timeout_seconds="1",
        admin_port="0",
        api_keys=f"read+write+admin:{ADMIN}",
    ) as found:
        yield found


# As long as the server keeps an idle connection: what is to be dropped earlier has to be.
KEEP_ALIVE_SECONDS = 75


def connect(served: Served) -> socket.socket:
    return socket.create_connection(("127.0.0.1", served.port), timeout=WAIT_SECONDS)


def whole(connection: socket.socket) -> bytes:
    """Return all that comes until the other side closes; a reset is an end too."""
    found = b""
    try:
        while chunk := connection.recv(65536):
            found += chunk
    except ConnectionResetError:
        pass
    return found


def alive(served: Served) -> bool:
    return httpx.get(f"{served.url}/healthz").status_code == 200


def test_a_client_that_sends_nothing_is_dropped(served: Served) -> None:
    with connect(served) as silent:
        assert whole(silent) == b""
    assert alive(served)


def test_headers_that_drip_are_dropped_however_lively(served: Served) -> None:
    with connect(served) as slow:
        slow.sendall(b"POST /recommend HTTP/1.1\r\n")
        try:
            for number in range(round(WAIT_SECONDS / 0.1)):
                slow.sendall(f"x-{number}: y\r\n".encode())
                time.sleep(0.1)
            pytest.fail("it took headers for a minute")
        except (BrokenPipeError, ConnectionResetError):
            pass
    assert alive(served)


def test_hundreds_that_drip_keep_nobody_out(served: Served) -> None:
    with ExitStack() as held:
        slow = [held.enter_context(connect(served)) for _ in range(300)]
        for number, one in enumerate(slow):
            one.sendall((b"", b"GET /", HEAD[:-2], HEAD + BODY[:3])[number % 4])
            if number % 50 == 0:
                assert alive(served)
        assert alive(served)
        for one in slow:
            assert b" 200 " not in whole(one)
    assert alive(served)


def test_the_second_request_of_a_connection_has_no_more_time(served: Served) -> None:
    with connect(served) as slow:
        slow.sendall(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\nGET /healthz HTTP/1.1\r\nhost")
        found = whole(slow)
    assert found.count(b"HTTP/1.1 200") == 1
    assert alive(served)


def test_a_body_that_drips_is_answered_with_408(served: Served) -> None:
    with connect(served) as slow:
        slow.sendall(HEAD.replace(b"host: x", f"host: x\r\nx-api-key: {ADMIN}".encode()))
        slow.sendall(BODY[:5])
        found = whole(slow)
    head, _, body = found.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 408")
    assert b"connection: close" in head.lower()
    assert json.loads(body)["code"] == "request_timeout"


def test_nobody_without_a_key_gets_to_send_a_body(served: Served) -> None:
    with connect(served) as stranger:
        stranger.sendall(HEAD.replace(str(len(BODY)).encode(), b"1000000"))
        assert stranger.recv(12) == b"HTTP/1.1 401"


@pytest.mark.parametrize("rest", [b"", b"x"], ids=["silent", "dripping"])
def test_nobody_without_a_key_holds_a_connection_by_a_body(served: Served, rest: bytes) -> None:
    """The answer is there long before the body: what is left of it is not waited for."""
    with connect(served) as stranger:
        stranger.sendall(HEAD.replace(str(len(BODY)).encode(), b"1000000"))
        assert stranger.recv(12) == b"HTTP/1.1 401"
        began = time.monotonic()
        stranger.settimeout(0.1)
        while time.monotonic() < began + KEEP_ALIVE_SECONDS / 2:
            try:
                stranger.sendall(rest)
                if stranger.recv(65536) == b"":
                    break
            except TimeoutError:
                continue
            except (BrokenPipeError, ConnectionResetError):
                break
        else:
            pytest.fail("it held the connection")
    assert alive(served)


def test_a_body_that_comes_after_its_answer_leaves_the_connection_in_use(served: Served) -> None:
    with connect(served) as late:
        late.sendall(HEAD)
        assert late.recv(12) == b"HTTP/1.1 401"
        late.sendall(BODY)
        time.sleep(1.5)  # longer than an unread body is waited for
        late.sendall(b"GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        assert b"HTTP/1.1 200 OK" in whole(late)


def test_bytes_between_requests_do_not_keep_a_connection(served: Served) -> None:
    with connect(served) as idle:
        idle.sendall(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n")
        assert idle.recv(12) == b"HTTP/1.1 200"
        began = time.monotonic()
        try:
            while time.monotonic() < began + KEEP_ALIVE_SECONDS / 2:
                idle.sendall(b"\r\n")
                time.sleep(0.1)
            pytest.fail("it held the connection")
        except (BrokenPipeError, ConnectionResetError):
            pass
    assert alive(served)


def test_headers_without_end_are_dropped(served: Served) -> None:
    with connect(served) as greedy:
        greedy.sendall(b"GET /healthz HTTP/1.1\r\n")
        sent = 0
        try:
            while sent < 64 * 1024 * 1024:
                sent += greedy.send(b"x: " + b"y" * 8000 + b"\r\n")
        except (BrokenPipeError, ConnectionResetError):
            pass
    assert sent < 64 * 1024 * 1024
    assert alive(served)


def test_a_client_that_never_reads_is_dropped(served: Served) -> None:
    with socket.socket() as deaf:
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        deaf.settimeout(WAIT_SECONDS)
        deaf.connect(("127.0.0.1", served.port))
        one = b"GET /openapi.json HTTP/1.1\r\nhost: x\r\n\r\n"
        end = time.monotonic() + WAIT_SECONDS
        try:
            while time.monotonic() < end:
                deaf.sendall(one * 50)
                time.sleep(0.05)
            pytest.fail("it buffered answers for a minute")
        except (BrokenPipeError, ConnectionResetError, TimeoutError):
            pass
    assert alive(served)


def test_what_is_not_http_gets_a_problem(served: Served) -> None:
    for sent in (
        b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nhost: \x00\r\n\r\n",
    ):
        with connect(served) as stranger:
            stranger.sendall(sent)
            head, _, body = whole(stranger).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 400")
        assert b"content-type: application/problem+json" in head
        assert b"x-content-type-options: nosniff" in head
        assert json.loads(body)["code"] == "bad_request"
    assert alive(served)


def test_a_body_as_large_as_allowed_in_many_pieces_is_read(served: Served) -> None:
    def pieces() -> Iterator[bytes]:
        yield BODY[:-1]
        for _ in range(100):
            yield b" " * 4096
        yield BODY[-1:]

    headers = {"content-type": "application/json", "x-api-key": ADMIN}
    answer = httpx.post(f"{served.url}/recommend", content=pieces(), headers=headers, timeout=60)
    assert answer.status_code == 200


def test_each_door_leads_to_its_own_routes(served: Served) -> None:
    assert served.admin_url is not None
    headers = {"x-api-key": ADMIN}

    def status(url: str, path: str) -> int:
        return httpx.get(url + path, headers=headers).status_code

    for path in ("/metrics", "/v1/admin/price"):
        assert status(served.url, path) == 404
        assert status(served.admin_url, path) == 200
    for path in ("/v1/model", "/openapi.json", "/v1/users/u/history"):
        assert status(served.url, path) == 200
        assert status(served.admin_url, path) == 404
    for path in ("/healthz", "/readyz"):
        assert status(served.url, path) == status(served.admin_url, path) == 200
    # No header opens the other door.
    port = served.admin_url.rsplit(":", 1)[1]
    lying = {**headers, "host": f"127.0.0.1:{port}", "x-forwarded-port": port}
    assert httpx.get(f"{served.url}/metrics", headers=lying).status_code == 404
    without = httpx.get(f"{served.admin_url}/v1/admin/price")
    assert (without.status_code, without.json()["code"]) == (401, "unauthorized")
