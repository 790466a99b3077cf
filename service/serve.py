"""Runs the service in this process: embedded store, server, graceful end."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import uvicorn
from fastapi import FastAPI

from service.app import create_app
from service.http.connections import guarded
from service.http.context import Lifetime
from service.logs import configure
from service.settings import Settings, SettingsError
from service.store.embedded import EmbeddedServer, EmbeddedServerError

log = logging.getLogger("canet.serve")

# Longer than proxies keep idle connections (usually 60 s): the side that sends the next request
# has to be the one that closes, or requests are lost on a connection that is just going away.
_KEEP_ALIVE_SECONDS = 75
_CANNOT_LISTEN = 3  # as the server itself exits when it cannot


class DrainingServer(uvicorn.Server):
    """On the first SIGTERM, says 503 on /readyz, serves `drain_seconds` more, then stops.

    With an `admin_port` it listens there too, and tells the lifetime where (0 picks one). Running
    requests then have the config's graceful time. A second signal stops at once, and so does
    SIGINT: a person at the keyboard does not wait for load balancers.
    """

    def __init__(
        self,
        config: uvicorn.Config,
        *,
        lifetime: Lifetime,
        drain_seconds: float,
        admin_port: int | None = None,
    ) -> None:
        super().__init__(config)
        self._admin_port = admin_port
        self._lifetime = lifetime
        self._drain_seconds = drain_seconds
        self._loop: asyncio.AbstractEventLoop | None = None

    async def serve(self, sockets: list[Any] | None = None) -> None:
        """Serve until told to stop."""
        self._loop = asyncio.get_running_loop()
        await super().serve(sockets)

    async def startup(self, sockets: list[Any] | None = None) -> None:
        """Listen; both ports or neither."""
        admin = None if self._admin_port is None else await self._bind_admin(self._admin_port)
        await super().startup(sockets)
        if admin is not None:
            await admin.start_serving()
            self.servers.append(admin)
            self._lifetime.admin_port = admin.sockets[0].getsockname()[1]
            log.info(
                "admin routes and metrics on http://%s:%d",
                self.config.host,
                self._lifetime.admin_port,
            )

    async def _bind_admin(self, port: int) -> asyncio.Server:
        def connection() -> asyncio.Protocol:
            kind: Any = self.config.http_protocol_class
            made: asyncio.Protocol = kind(
                config=self.config,
                server_state=self.server_state,
                app_state=self.lifespan.state,
            )
            return made

        loop = asyncio.get_running_loop()
        try:
            return await loop.create_server(
                connection,
                host=self.config.host,
                port=port,
                backlog=self.config.backlog,
                start_serving=False,
            )
        except OSError as error:
            log.error("cannot listen on CANET_ADMIN_PORT %d: %s", port, error)
            sys.exit(_CANNOT_LISTEN)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to drain, or stop."""
        if self._loop is None or self._lifetime.draining or sig == signal.SIGINT:
            self._lifetime.draining = True
            self.force_exit = self.should_exit and sig == signal.SIGINT
            self.should_exit = True
            return
        self._lifetime.draining = True
        self._loop.call_soon_threadsafe(self._drain)

    def _drain(self) -> None:
        log.info("draining for %g s", self._drain_seconds)
        assert self._loop is not None
        self._loop.call_later(self._drain_seconds, self._stop)

    def _stop(self) -> None:
        self.should_exit = True


def run(settings: Settings) -> int:
    """Serve until SIGTERM or SIGINT; return the process's exit code.

    Starts the embedded store when no Redis is configured. Call it on the main thread, once. Raises
    SettingsError where a setting needs what is not installed.
    """
    configure(settings.log_level, settings.log_format)
    # Read by torch when it is first imported, which is not before the first checkpoint.
    for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[variable] = str(settings.torch_threads)
    with _with_store(settings) as complete:
        app = create_app(complete)
        app.state.services.lifetime.when_loaded = _collect_garbage
        server = _server(app, complete)
        gc.disable()
        try:
            server.run()
        finally:
            gc.enable()
    return 0 if server.started else 1


def _collect_garbage() -> None:
    """Leave what the start made alone, and begin to collect.

    A hundred thousand objects that last as long as the process: looked through again and again
    while they are made they are a tenth of the start, and later a tenth of a second each time.
    """
    gc.freeze()
    gc.enable()


def main() -> int:
    """Serve by the environment; 2 when a setting is wrong."""
    try:
        return run(Settings.from_env(os.environ))
    except SettingsError as error:
        sys.stderr.write(f"{error}\n")
        return 2


@contextmanager
def _with_store(settings: Settings) -> Iterator[Settings]:
    if settings.redis_url is not None:
        yield settings
        return
    directory = settings.embedded_dir or _cache_dir() / "redis"
    try:
        server = EmbeddedServer(directory).start()
    except EmbeddedServerError as error:
        log.warning("no embedded store: %s", error)
        yield settings
        return
    try:
        log.info("embedded store in %s", directory)
        yield settings.with_redis(server.url)
    finally:
        server.stop()


def _server(app: FastAPI, settings: Settings) -> DrainingServer:
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=_KEEP_ALIVE_SECONDS,
        http=guarded(settings.client_timeout_seconds, app.state.turning_away),
        timeout_graceful_shutdown=max(1, round(settings.grace_seconds)),
    )
    return DrainingServer(
        config,
        lifetime=app.state.services.lifetime,
        drain_seconds=settings.drain_seconds,
        admin_port=settings.admin_port,
    )


def _cache_dir() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "canet"


if __name__ == "__main__":
    sys.exit(main())
