"""Open connections, kept and handed out, one exchange each.

The library's own pool takes locks and records telemetry whenever a connection changes hands, which
is a quarter of a lone read. Connections themselves are the library's.
"""

from __future__ import annotations

import asyncio

from redis.asyncio.connection import AbstractConnection, ConnectionPool
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError

from service.store.redis_config import RedisConfig


class Connections:
    """At most `max_connections` to one server. For one event loop.

    What is taken has to be given back, whatever happens.
    """

    def __init__(self, config: RedisConfig) -> None:
        self._wait_seconds = config.pool_wait_seconds
        # Reads the URL and makes connections of the right kind; none of them is ever in it.
        self._maker = ConnectionPool.from_url(
            config.url,
            socket_connect_timeout=config.connect_timeout_seconds,
            socket_timeout=None,  # each exchange has its own limit
            retry=Retry(NoBackoff(), 0),
            client_name=config.client_name,
            protocol=2,
        )
        self._room = asyncio.Semaphore(config.max_connections)
        self._idle: list[AbstractConnection] = []
        self._retired = False

    @property
    def full(self) -> bool:
        """Whether as many as there may be are taken."""
        return self._room.locked()

    async def take_idle(self) -> AbstractConnection | None:
        """Return an open connection at once, None where that needs waiting."""
        if not self._idle or self._room.locked():
            return None
        await self._room.acquire()  # there is room: it does not wait
        connection = self._idle.pop()
        if await _is_sound(connection):
            return connection
        await self.give(connection, keep=False)
        return None

    async def take(self) -> AbstractConnection:
        """Return an open connection, a new one if need be.

        RedisError or OSError when it cannot be opened, or none was given back for
        `pool_wait_seconds`.
        """
        try:
            async with asyncio.timeout(self._wait_seconds):
                await self._room.acquire()
        except TimeoutError as error:
            raise RedisConnectionError("every connection is in use") from error
        connection: AbstractConnection | None = None
        try:
            while self._idle:
                connection = self._idle.pop()
                if await _is_sound(connection):
                    return connection
                await connection.disconnect(nowait=True)
            connection = self._maker.make_connection()  # type: ignore[no-untyped-call]
            await connection.connect()
        except BaseException:
            self._room.release()
            if connection is not None:
                await connection.disconnect(nowait=True)
            raise
        return connection

    async def give(self, connection: AbstractConnection, *, keep: bool) -> None:
        """Take back a connection; one to `keep` has every reply read."""
        try:
            if keep and not self._retired:
                self._idle.append(connection)
            else:
                await connection.disconnect(nowait=True)
        finally:
            self._room.release()

    async def retire(self) -> None:
        """Close what is idle now, and what is taken when it is given back."""
        self._retired = True
        idle, self._idle = self._idle, []
        for connection in idle:
            await connection.disconnect()


async def _is_sound(connection: AbstractConnection) -> bool:
    """Return whether it is open and nothing unread lies in it."""
    try:
        return connection.is_connected and not await connection.can_read()
    except (RedisError, OSError):
        return False
