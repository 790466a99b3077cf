"""Redis Pub/Sub says that CURRENT moved; nobody depends on hearing it.

A message hastens the next look at CURRENT. What it says is not believed: CURRENT alone decides,
and the poll finds it anyway. Redis away, or a message lost, costs at most one poll.
"""

from __future__ import annotations

import asyncio
import json
import logging
import random
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from models.events import KEY_PREFIX, active_model_key

logger = logging.getLogger(__name__)

_CONNECT_SECONDS: Final = 2.0
_TELL_SECONDS: Final = 2.0
_LISTEN_SECONDS: Final = 15.0
_WAIT_SECONDS: Final = (0.5, 15.0)


class Announcements:
    """Listens at `url` until `stop`, and tells the other replicas what this one moved.

    `notice` is called on the event loop after every message, and after every connection, since
    something may have been said meanwhile.
    """

    def __init__(
        self, url: str, notice: Callable[[], None], *, key_prefix: str = KEY_PREFIX
    ) -> None:
        self._url = url
        self._notice = notice
        self._channel = active_model_key(key_prefix)
        self._listener: asyncio.Task[None] | None = None
        self._telling: set[asyncio.Task[None]] = set()

    def start(self) -> None:
        """Listen in the background; call it on the event loop, once."""
        self._listener = asyncio.create_task(self._listen(), name="model-announcements")

    async def stop(self) -> None:
        """Stop listening; what is being told gets its bounded time. Idempotent."""
        if self._listener is not None:
            self._listener.cancel()
            await asyncio.gather(self._listener, return_exceptions=True)
        if self._telling:
            await asyncio.wait(self._telling)

    def tell(self, version: str) -> None:
        """Tell everybody that CURRENT names `version` now; failing to is only logged."""
        task = asyncio.create_task(self._tell(version), name="model-announcement")
        self._telling.add(task)
        task.add_done_callback(self._telling.discard)

    async def _tell(self, version: str) -> None:
        moment = datetime.now(UTC).isoformat(timespec="seconds")
        message = json.dumps({"version": version, "published_at": moment})
        try:
            async with asyncio.timeout(_TELL_SECONDS), self._client() as client:
                await client.set(self._channel, message)
                await client.publish(self._channel, message)
        except (RedisError, OSError, TimeoutError) as error:
            logger.warning("replicas were not told of %s: %s", version, type(error).__name__)

    async def _listen(self) -> None:
        least, most = _WAIT_SECONDS
        wait = least
        while True:
            try:
                async with self._client() as client, client.pubsub() as channel:
                    # A server that accepts may still not answer.
                    async with asyncio.timeout(_CONNECT_SECONDS):
                        await channel.subscribe(self._channel)
                    wait = least
                    while True:
                        message = await channel.get_message(timeout=_LISTEN_SECONDS)
                        if message is None:
                            # Finds out about a connection that died without a word.
                            async with asyncio.timeout(_CONNECT_SECONDS):
                                await channel.ping()
                        elif message["type"] in {"subscribe", "message"}:
                            self._notice()
            # RuntimeError: what uvloop says of a connection that closed in the same moment.
            except (RedisError, OSError, TimeoutError, RuntimeError) as error:
                logger.debug("not listening for new versions: %s", type(error).__name__)
            except Exception:  # CURRENT is polled all the same; never let this end the listener
                logger.exception("listening for new versions failed")
            await asyncio.sleep(wait * random.uniform(0.5, 1.0))  # noqa: S311
            wait = min(wait * 2, most)

    def _client(self) -> Redis:
        return Redis.from_url(
            self._url,
            socket_connect_timeout=_CONNECT_SECONDS,
            retry=Retry(NoBackoff(), 0),
            client_name="canet-announcements",
        )
