"""Commands over a bounded pool: bounded waits, one retry for reads, a circuit breaker.

Built on redis-py's connections rather than its client, for two properties. Waiting for
a connection and waiting for an answer have limits of their own. And a connection goes back to
the pool either with every reply read or disconnected, so no caller can be handed the reply of
another; a caller who leaves early does not interrupt the exchange at all.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, cast

import hiredis
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import (
    AuthenticationError,
    BusyLoadingError,
    NoScriptError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
)

from service.store.breaker import CircuitBreaker
from service.store.connections import Connections
from service.store.contract import StoreUnavailableError
from service.store.redis_config import RedisConfig

Observer = Callable[[str, float, str | None], None]
Command = tuple[str | bytes | int, ...]

# Bounds one exchange: its replies are a few KB each, and all of them fail with it.
MOST_TOGETHER = 64

# Servers look for overdue waits ten times a second.
_WAIT_OVERDUE_SECONDS = 0.2


class Script:
    """A Lua script, called by digest and sent in full only when the server lacks it."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.digest = hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest()

    def call(self, keys: Sequence[str], arguments: Sequence[str | bytes | int]) -> Command:
        """Return the command that runs the script."""
        return ("EVALSHA", self.digest, len(keys), *keys, *arguments)


class RedisClient:
    """Runs batches of commands, each batch one round trip. For one event loop.

    Reads of one operation that are asked for in the same turn of the event loop share a round
    trip: under load most of a read's price is the exchange around it.

    `observe(op, seconds, kind)` is told of every exchange; kind is None or one of breaker_open,
    pool, connection, timeout, loading, auth, response.
    """

    def __init__(self, config: RedisConfig, observe: Observer) -> None:
        self._config = config
        self._observe = observe
        self._breaker = CircuitBreaker(
            threshold=config.breaker_failures,
            probe_seconds=config.probe_seconds,
            probe=self.ping,
        )
        self._connections = Connections(config)
        self._exchanges: set[asyncio.Task[list[Any]]] = set()
        self._asked: dict[str, list[tuple[Command, asyncio.Future[Any]]]] = {}
        self._closed = False

    @property
    def is_open(self) -> bool:
        """Whether the circuit breaker refuses calls."""
        return self._breaker.is_open

    @property
    def in_flight(self) -> int:
        """Exchanges under way, those that wait for a connection included."""
        return len(self._exchanges)

    async def read(self, op: str, command: Command) -> Any:
        """Return the command's reply; a ResponseError is returned, not raised.

        Raises:
            StoreUnavailableError: No answer, after one retry or within `read_wait_seconds`.
        """
        loop = asyncio.get_running_loop()
        until = loop.time() + self._config.read_wait_seconds
        try:
            return await self._together(loop, op, command)
        except StoreUnavailableError:
            if self._breaker.is_open or self._closed or loop.time() >= until:
                raise
        try:
            async with asyncio.timeout_at(until):
                await asyncio.sleep(random.uniform(0, self._config.retry_wait_seconds))  # noqa: S311
                return await self._together(loop, op, command)
        except TimeoutError as error:
            raise _late(op) from error

    async def read_all(self, op: str, commands: Sequence[Command]) -> list[Any]:
        """Return the replies to the commands, one round trip and no retry, as `read` does.

        Raises:
            StoreUnavailableError: No answer.
        """
        return await self._guarded(op, list(commands), self._config.write_timeout_seconds)

    async def write(
        self,
        op: str,
        script: Script,
        calls: Sequence[tuple[Sequence[str], Sequence[Any]]],
        *,
        replicated: bool = True,
    ) -> list[Any]:
        """Run the script once per (keys, arguments), in one round trip; return the replies.

        What may be lost with the server need not be `replicated`.

        Raises:
            StoreUnavailableError: Some call was not acknowledged, or fewer than `wait_replicas`
                replicas have it; any may have been applied.
        """
        commands = [script.call(keys, arguments) for keys, arguments in calls]
        wanted = self._config.wait_replicas if replicated else 0
        replies = await self._replicated(op, commands, wanted)
        missing = [n for n, reply in enumerate(replies) if isinstance(reply, NoScriptError)]
        if missing:
            # A server fresh from a restart. What it lacks it has not run, so this is no retry.
            full: list[Command] = [("EVAL", script.source, *commands[n][2:]) for n in missing]
            for n, reply in zip(missing, await self._replicated(op, full, wanted), strict=True):
                replies[n] = reply
        for reply in replies:
            if isinstance(reply, ResponseError):
                raise StoreUnavailableError(f"Redis refused to {op}: {_reason(reply)}") from reply
        return replies

    async def _replicated(self, op: str, commands: list[Command], wanted: int) -> list[Any]:
        """Return the replies once so many replicas have what the commands wrote."""
        seconds = self._config.write_timeout_seconds
        if not wanted:
            return await self._guarded(op, commands, seconds)
        wait: Command = ("WAIT", wanted, max(1, int(seconds * 1000)))
        *replies, reached = await self._guarded(
            op, [*commands, wait], seconds + _WAIT_OVERDUE_SECONDS
        )
        if any(isinstance(reply, ResponseError) for reply in replies):
            return replies
        if not isinstance(reached, int):
            raise StoreUnavailableError(f"Redis refused to wait for replicas: {_reason(reached)}")
        if reached < wanted:
            raise StoreUnavailableError(
                f"Redis did not {op}: {reached} of {wanted} replicas have it"
            )
        return replies

    async def ping(self) -> bool:
        """Return whether the server answers now, whatever the breaker thinks; never raises."""
        try:
            replies = await self._exchange("ping", [("PING",)], self._config.op_timeout_seconds)
        except StoreUnavailableError:
            return False
        return bool(replies[0] == b"PONG")

    async def close(self) -> None:
        """Wait for exchanges under way (their waits are bounded), then close connections."""
        self._closed = True
        await self._breaker.stop()
        if self._exchanges:
            await asyncio.wait(self._exchanges)
        await self._connections.retire()

    def _together(
        self, loop: asyncio.AbstractEventLoop, op: str, command: Command
    ) -> asyncio.Future[Any]:
        """Return the future of the command's reply; it goes out at the end of this turn.

        It fails when `read_wait_seconds` are over: one timer for all that go out together.
        """
        asked = self._asked.get(op)
        if asked is None:
            asked = self._asked[op] = []
            loop.call_soon(self._send, loop, op)
        future: asyncio.Future[Any] = loop.create_future()
        asked.append((command, future))
        return future

    def _send(self, loop: asyncio.AbstractEventLoop, op: str) -> None:
        waiting = [pair for pair in self._asked.pop(op) if not pair[1].cancelled()]
        for start in range(0, len(waiting), MOST_TOGETHER):
            commands, futures = zip(*waiting[start : start + MOST_TOGETHER], strict=True)
            try:
                task = self._begin(op, list(commands), self._config.op_timeout_seconds)
            except StoreUnavailableError as error:
                _fail(futures, error)
            else:
                late = loop.call_later(self._config.read_wait_seconds, _fail, futures, _late(op))
                task.add_done_callback(partial(_deliver, futures, late))

    async def _guarded(self, op: str, commands: list[Command], seconds: float) -> list[Any]:
        return await asyncio.shield(self._begin(op, commands, seconds))

    def _begin(self, op: str, commands: list[Command], seconds: float) -> asyncio.Task[list[Any]]:
        if self._closed:
            raise StoreUnavailableError("the history store is closed")
        if self._breaker.is_open:
            self._observe(op, 0.0, "breaker_open")
            raise StoreUnavailableError("Redis was away a moment ago; not trying again yet")
        # The caller may be cancelled at any point; the exchange runs on to its own bounded end.
        task = asyncio.ensure_future(self._exchange(op, commands, seconds))
        self._exchanges.add(task)
        task.add_done_callback(self._finished)
        return task

    def _finished(self, task: asyncio.Task[list[Any]]) -> None:
        self._exchanges.discard(task)
        if not task.cancelled():
            task.exception()  # seen, in case nobody waits any more

    async def _exchange(self, op: str, commands: list[Command], seconds: float) -> list[Any]:
        started = time.perf_counter()
        kind: str | None = "connection"
        connections = self._connections
        try:
            kind = "pool" if connections.full else "connection"
            connection = await connections.take_idle() or await self._open(connections)
            kind = "connection"
            replies = await self._converse(connections, connection, commands, seconds)
            self._breaker.succeeded()
            kind = _kind_of_reply(replies)
        # RuntimeError: what uvloop says of a connection that closed in the same moment.
        except (RedisError, OSError, TimeoutError, EOFError, RuntimeError) as error:
            if kind != "pool":
                kind = _kind_of_failure(error)
                self._breaker.failed()
            raise StoreUnavailableError(f"Redis did not {op} in time ({kind})") from error
        finally:
            self._observe(op, time.perf_counter() - started, kind)
        return replies

    async def _open(self, connections: Connections) -> AbstractConnection:
        waits = self._config.pool_wait_seconds + self._config.connect_timeout_seconds
        async with asyncio.timeout(waits):
            return await connections.take()

    async def _converse(
        self,
        connections: Connections,
        connection: AbstractConnection,
        commands: list[Command],
        seconds: float,
    ) -> list[Any]:
        clean = False
        try:
            async with asyncio.timeout(seconds):
                # The library's connections pack in Python, at ten times the price.
                packed = b"".join([hiredis.pack_command(cast(Any, one)) for one in commands])
                await connection.send_packed_command(packed)
                replies: list[Any] = []
                for _ in commands:
                    try:
                        replies.append(await connection.read_response(disable_decoding=True))
                    except ResponseError as error:
                        replies.append(error)
            if any(isinstance(reply, ReadOnlyError) for reply in replies):
                await self._leave(connections)
            clean = True
            return replies
        finally:
            await connections.give(connection, keep=clean)

    async def _leave(self, connections: Connections) -> None:
        """Use none of these connections again: they lead to what is a replica now.

        The address may lead elsewhere since a failover; only a new connection finds out.
        """
        if connections is self._connections:
            self._connections = Connections(self._config)
            await connections.retire()


def _late(op: str) -> StoreUnavailableError:
    return StoreUnavailableError(f"Redis did not {op} in time")


def _deliver(
    futures: Sequence[asyncio.Future[Any]],
    late: asyncio.TimerHandle,
    task: asyncio.Task[list[Any]],
) -> None:
    late.cancel()
    if task.cancelled():
        _fail(futures, StoreUnavailableError("the event loop is ending"))
    elif (error := task.exception()) is not None:
        _fail(futures, error)
    else:
        for future, reply in zip(futures, task.result(), strict=True):
            if not future.done():  # its caller left
                future.set_result(reply)


def _fail(futures: Sequence[asyncio.Future[Any]], cause: BaseException) -> None:
    for future in futures:
        if not future.done():
            if isinstance(cause, StoreUnavailableError):
                # One each: a traceback grows with everybody who raises it.
                error = StoreUnavailableError(str(cause))
                error.__cause__ = cause
                future.set_exception(error)
            else:
                future.set_exception(cause)


def _kind_of_reply(replies: list[Any]) -> str | None:
    wrong = (isinstance(r, ResponseError) and not isinstance(r, NoScriptError) for r in replies)
    return "response" if any(wrong) else None


def _kind_of_failure(error: Exception) -> str:
    if isinstance(error, TimeoutError) or "imeout" in type(error).__name__:
        return "timeout"
    if isinstance(error, AuthenticationError):
        return "auth"
    return "loading" if isinstance(error, BusyLoadingError) else "connection"


def _reason(error: ResponseError) -> str:
    """The kind of a Redis error (OOM, WRONGTYPE, READONLY): no values, no keys."""
    if isinstance(error, OutOfMemoryError):
        return "OOM, its memory is full"
    if isinstance(error, ReadOnlyError):
        return "READONLY, it is a replica"
    code = str(error).split(" ", 1)[0]
    return code[:32] if code.isalpha() and code.isupper() else type(error).__name__
