"""What users and events take in Redis, by length of the history.

python -m bench.redis_memory --users 2000 --events 100
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
from collections.abc import Sequence
from pathlib import Path

import redis

from models.events import KEY_PREFIX
from service.store.contract import Interaction
from service.store.embedded import EmbeddedServer
from service.store.keys import Keys
from service.store.redis_config import RedisConfig
from service.store.redis_history import RedisHistoryStore

_TOGETHER = 500
_WAIT_SECONDS = 60.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Print bytes a user beside the streams, and bytes an event in the streams."""
    parser = argparse.ArgumentParser(prog="python -m bench.redis_memory", description=__doc__)
    parser.add_argument("--users", type=int, default=2000)
    parser.add_argument("--events", type=int, default=100, help="of each user")
    chosen = parser.parse_args(arguments)
    with (
        tempfile.TemporaryDirectory() as directory,
        EmbeddedServer(Path(directory), extra_arguments=("--appendonly", "no")) as server,
        redis.Redis.from_url(server.url) as client,
    ):
        before = client.info("memory")["used_memory"]
        asyncio.run(_write(server.url, chosen.users, chosen.events))
        grown = client.info("memory")["used_memory"] - before
        streams = [name for name in Keys(prefix=KEY_PREFIX).streams() if client.exists(name)]
        streamed = sum(client.memory_usage(name, samples=0) or 0 for name in streams)
        entries = sum(client.xlen(name) for name in streams)
    each = (grown - streamed) / chosen.users
    print(
        f"{chosen.users:,} users of {chosen.events} events: {each:.0f} bytes a user, "
        f"{streamed / entries:.0f} bytes an event in the streams"
    )
    return 0


async def _write(url: str, users: int, events: int) -> None:
    config = RedisConfig(
        url=url, op_timeout_seconds=_WAIT_SECONDS, write_timeout_seconds=_WAIT_SECONDS
    )
    store = RedisHistoryStore(config)
    rows = [
        Interaction(
            user_id=f"user-{user:010d}",
            external_id=f"item-{(7 * user + 13 * place) % 100_000:05d}",
            timestamp_ms=1_790_000_000_000 + 1000 * place,
        )
        for user in range(users)
        for place in range(events)
    ]
    for start in range(0, len(rows), _TOGETHER):
        await store.append(rows[start : start + _TOGETHER])
    await store.close()


if __name__ == "__main__":
    raise SystemExit(main())
