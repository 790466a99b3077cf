from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from training.datasets.fetch import FetchError, cache_root, candidate_urls, fetch, is_offline

CONTENT = bytes(range(256)) * 4096  # 1 MiB
DIGEST = hashlib.sha256(CONTENT).hexdigest()


class FileServer(ThreadingHTTPServer):
    """Serves CONTENT at /file; /cut breaks off half-way, /whole ignores ranges."""

    asked: list[tuple[str, str | None]]


class Handler(BaseHTTPRequestHandler):
    server: FileServer

    def do_GET(self) -> None:
        wanted = self.headers.get("Range")
        self.server.asked.append((self.path, wanted))
        if not self.path.endswith(("/file", "/cut", "/whole")):
            self.send_error(404)
            return
        start = 0
        if wanted and not self.path.endswith("/whole"):
            start = int(wanted.removeprefix("bytes=").removesuffix("-"))
            if start >= len(CONTENT):
                self.send_error(416)
                return
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{len(CONTENT) - 1}/{len(CONTENT)}")
        else:
            self.send_response(200)
        body = CONTENT[start:]
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.path.endswith("/cut") and not wanted:
            body = body[: len(body) // 2]
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[FileServer]:
    with FileServer(("127.0.0.1", 0), Handler) as server:
        server.asked = []
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def url(server: FileServer, path: str) -> str:
    return f"http://127.0.0.1:{server.server_port}{path}"


def test_a_file_is_fetched_once_and_whole(server: FileServer, tmp_path: Path) -> None:
    target = tmp_path / "deep" / "file"
    calls: list[tuple[int, int]] = []
    for _ in range(2):
        fetch(
            url(server, "/file"),
            target,
            sha256=DIGEST,
            max_bytes=len(CONTENT),
            on_progress=lambda done, total: calls.append((done, total)),
            environ={},
        )
    assert target.read_bytes() == CONTENT
    assert len(server.asked) == 1
    assert calls[-1] == (len(CONTENT), len(CONTENT))
    assert [path.name for path in target.parent.iterdir()] == ["file"]


def test_an_interrupted_download_is_resumed(server: FileServer, tmp_path: Path) -> None:
    target = tmp_path / "file"
    with pytest.raises(FetchError, match="cannot fetch file"):
        fetch(url(server, "/cut"), target, max_bytes=1 << 21, environ={})
    assert not target.exists()
    fetch(url(server, "/cut"), target, sha256=DIGEST, max_bytes=1 << 21, environ={})
    start = server.asked[1][1]
    assert start is not None
    assert 0 < int(start.removeprefix("bytes=").removesuffix("-")) < len(CONTENT)
    assert target.read_bytes() == CONTENT


@pytest.mark.parametrize("path", ["/file", "/whole"])
def test_a_partial_file_that_cannot_be_continued_starts_over(
    server: FileServer, tmp_path: Path, path: str
) -> None:
    address = url(server, path)
    tag = hashlib.sha256(address.encode()).hexdigest()[:8]
    (tmp_path / f".file.{tag}.part").write_bytes(CONTENT)
    fetch(address, tmp_path / "file", sha256=DIGEST, max_bytes=1 << 21, environ={})
    assert (tmp_path / "file").read_bytes() == CONTENT


def test_another_digest_is_refused_and_not_kept(server: FileServer, tmp_path: Path) -> None:
    with pytest.raises(FetchError, match="its sha256 is"):
        fetch(
            url(server, "/file"),
            tmp_path / "file",
            sha256="0" * 64,
            max_bytes=1 << 21,
            environ={},
        )
    assert list(tmp_path.iterdir()) == []


def test_a_file_too_large_is_refused(server: FileServer, tmp_path: Path) -> None:
    with pytest.raises(FetchError, match="at most 1,000 are taken"):
        fetch(url(server, "/file"), tmp_path / "file", max_bytes=1000, environ={})
    assert list(tmp_path.iterdir()) == []


def test_mirrors_come_before_the_home(server: FileServer, tmp_path: Path) -> None:
    mirrors = {"CANET_MIRRORS": url(server, "/mirror/")}
    fetch("http://home.invalid/file", tmp_path / "file", max_bytes=1 << 21, environ=mirrors)
    assert [path for path, _ in server.asked] == ["/mirror/file"]
    assert candidate_urls("https://home.example/a/b.zip", {"CANET_MIRRORS": "http://m/x/"}) == [
        "http://m/x/a/b.zip",
        "https://home.example/a/b.zip",
    ]


def test_a_missing_file_falls_through_to_the_next_address(
    server: FileServer, tmp_path: Path
) -> None:
    mirrors = {"CANET_MIRRORS": url(server, "/file/none")}
    fetch(url(server, "/file"), tmp_path / "x", max_bytes=1 << 21, environ={})
    with pytest.raises(FetchError, match="404"):
        fetch(url(server, "/gone"), tmp_path / "y", max_bytes=1 << 21, environ=mirrors)
    assert [path for path, _ in server.asked[1:]] == ["/file/none/gone", "/gone"]


def test_offline_takes_the_cache_only(server: FileServer, tmp_path: Path) -> None:
    offline = {"CANET_OFFLINE": "1"}
    with pytest.raises(FetchError, match="CANET_OFFLINE"):
        fetch(url(server, "/file"), tmp_path / "file", max_bytes=1 << 21, environ=offline)
    (tmp_path / "file").write_bytes(b"kept")
    fetch(url(server, "/file"), tmp_path / "file", max_bytes=1 << 21, environ=offline)
    assert server.asked == []


def test_only_web_addresses_are_fetched(tmp_path: Path) -> None:
    with pytest.raises(FetchError, match="only http and https"):
        fetch("file:///etc/hostname", tmp_path / "file", max_bytes=1000, environ={})


def test_the_cache_lies_where_the_environment_says(tmp_path: Path) -> None:
    assert cache_root({"CANET_CACHE": str(tmp_path), "XDG_CACHE_HOME": "/x"}) == tmp_path
    assert cache_root({"XDG_CACHE_HOME": str(tmp_path)}) == tmp_path / "canet"
    assert cache_root({}) == Path.home() / ".cache" / "canet"
    assert [is_offline({"CANET_OFFLINE": value}) for value in ("1", "true", "0", "")] == [
        True,
        True,
        False,
        False,
    ]
