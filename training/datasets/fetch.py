"""Downloads into a cache outside the repository."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from urllib.parse import urlsplit

import httpx

from training.data.errors import DataError

Progress = Callable[[int, int], None]  # (bytes done, bytes in all; 0 when unknown)

# Short: where the home of a data set cannot be reached, its next source must not wait for it.
CONNECT_SECONDS = 3.0
READ_SECONDS = 20.0
_CHUNK_BYTES = 256 * 1024


class FetchError(DataError):
    """A file could not be had; another source may have it."""


class _CannotResumeError(Exception):
    """The server does not continue the partial file."""


def cache_root(environ: Mapping[str, str] | None = None) -> Path:
    """Return CANET_CACHE, or `canet` in XDG_CACHE_HOME, or `~/.cache/canet`; it may not exist."""
    environ = os.environ if environ is None else environ
    if own := environ.get("CANET_CACHE"):
        return Path(own).expanduser()
    if common := environ.get("XDG_CACHE_HOME"):
        return Path(common).expanduser() / "canet"
    return Path("~/.cache/canet").expanduser()


def is_offline(environ: Mapping[str, str] | None = None) -> bool:
    """Return whether CANET_OFFLINE forbids the network (1, true, yes, on)."""
    environ = os.environ if environ is None else environ
    return environ.get("CANET_OFFLINE", "").strip().lower() in {"1", "true", "yes", "on"}


def candidate_urls(url: str, environ: Mapping[str, str] | None = None) -> list[str]:
    """Return the addresses to try: the mirrors of CANET_MIRRORS in order, then `url`.

    A mirror is a base address; the file's path is appended: with `https://mirror.example/data`,
    `https://home.example/a/b.zip` is looked for at `https://mirror.example/data/a/b.zip`.
    """
    environ = os.environ if environ is None else environ
    path = urlsplit(url).path
    mirrors = environ.get("CANET_MIRRORS", "").replace(",", " ").split()
    return [*(mirror.rstrip("/") + path for mirror in mirrors), url]


def fetch(
    url: str,
    target: Path,
    *,
    sha256: str | None = None,
    max_bytes: int,
    on_progress: Progress | None = None,
    environ: Mapping[str, str] | None = None,
) -> Path:
    """Return `target`, downloaded from `url` or a mirror unless it is there already.

    The file appears whole or not at all. What an interrupted call left behind is resumed.

    Args:
        url: http or https address.
        target: where the file shall lie; its directory is made.
        sha256: the digest to insist on, in hexadecimal; None: any content.
        max_bytes: a larger file is refused.
        on_progress: called with (bytes done, bytes in all).
        environ: where CANET_OFFLINE and CANET_MIRRORS are read; None: the process's.

    Raises:
        FetchError: offline, unreachable, refused, too large, or another digest.
    """
    if target.is_file() and (sha256 is None or file_sha256(target) == sha256):
        return target
    if is_offline(environ):
        raise FetchError(f"{target.name} is not in the cache and CANET_OFFLINE forbids fetching it")
    target.parent.mkdir(parents=True, exist_ok=True)
    problems: list[str] = []
    for address in candidate_urls(url, environ):
        # One name per address, so that no download continues another server's file.
        tag = hashlib.sha256(address.encode()).hexdigest()[:8]
        part = target.with_name(f".{target.name}.{tag}.part")
        try:
            try:
                _download(address, part, max_bytes, on_progress)
            except _CannotResumeError:
                part.unlink()
                _download(address, part, max_bytes, on_progress)
            if sha256 is not None and (found := file_sha256(part)) != sha256:
                part.unlink()
                raise FetchError(f"its sha256 is {found}, expected {sha256}")
        except (httpx.HTTPError, httpx.InvalidURL, FetchError, OSError) as error:
            problems.append(f"{address}: {error or type(error).__name__}")
            continue
        part.replace(target)
        return target
    raise FetchError(f"cannot fetch {target.name}: " + "; ".join(problems))


def file_sha256(path: Path) -> str:
    """Return the digest of a file in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _download(address: str, part: Path, max_bytes: int, on_progress: Progress | None) -> None:
    if urlsplit(address).scheme not in {"http", "https"}:
        raise FetchError("only http and https addresses are fetched")
    have = part.stat().st_size if part.exists() else 0
    headers = {"Accept-Encoding": "identity"}
    if have:
        headers["Range"] = f"bytes={have}-"
    timeout = httpx.Timeout(READ_SECONDS, connect=CONNECT_SECONDS)
    with (
        httpx.Client(timeout=timeout, follow_redirects=True) as client,
        client.stream("GET", address, headers=headers) as response,
    ):
        if response.status_code == httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE and have:
            raise _CannotResumeError  # nothing is left to send, or the file changed
        response.raise_for_status()
        resumed = response.status_code == httpx.codes.PARTIAL_CONTENT
        if resumed and not response.headers.get("Content-Range", "").startswith(f"bytes {have}-"):
            raise _CannotResumeError
        done = have if resumed else 0
        length = response.headers.get("Content-Length", "")
        total = done + int(length) if length.isdigit() else 0
        with part.open("ab" if resumed else "wb") as file:
            for chunk in response.iter_raw(_CHUNK_BYTES):
                done += len(chunk)
                if max(done, total) > max_bytes:
                    break
                file.write(chunk)
                if on_progress is not None:
                    on_progress(done, total)
            file.flush()
            os.fsync(file.fileno())
    if max(done, total) > max_bytes:
        part.unlink()
        raise FetchError(f"{max(done, total):,} bytes, at most {max_bytes:,} are taken")
    if total and done < total:
        raise FetchError(f"{done:,} of {total:,} bytes came; try again to resume")
