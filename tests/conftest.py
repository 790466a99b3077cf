"""Servers shared by every room's tests.

- `redis_url`: URL of a Redis-compatible server (the embedded one, always there), emptied
  before each test that asks for it.
- `redis_server_url`: the same server for fixtures of wider scope; not emptied.
- `real_redis_url`: a real Redis, from TEST_REDIS_URL or `redis-server` on PATH; skips visibly
  where there is none and fails instead under CANET_REQUIRE_SERVERS=1. Never emptied, since it
  may be somebody's: use keys of your own.
"""

from __future__ import annotations

import os

# Before anything imports torch: its threads spin, and on a busy machine two of them on tiny
# tensors are many times slower than one.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# The limit of pyproject.toml is for the short forms; what an operator asks for may take hours.
if any(name.startswith(("CANET_CHAOS_", "CANET_FUZZ_", "CANET_LONG_")) for name in os.environ):
    os.environ.setdefault("PYTEST_TIMEOUT", "0")

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from service.store.embedded import EmbeddedServer
from tests.servers.processes import required

# Tests ask for a state, not for durability: no AOF, hence no disk waits.
TEST_ARGUMENTS = ("--appendonly", "no")


@pytest.fixture(scope="session")
def redis_server_url() -> Iterator[str]:
    directory = Path(tempfile.mkdtemp(prefix="canet-test-"))
    try:
        with EmbeddedServer(directory, extra_arguments=TEST_ARGUMENTS) as server:
            yield server.url
    finally:
        shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture
def redis_url(redis_server_url: str) -> str:
    with redis.Redis.from_url(redis_server_url) as client:
        client.flushall()
    return redis_server_url


@pytest.fixture(scope="session")
def real_redis_url() -> Iterator[str]:
    if url := os.environ.get("TEST_REDIS_URL"):
        yield url
        return
    binary = required("redis-server", "redis-server")
    directory = Path(tempfile.mkdtemp(prefix="canet-test-"))
    try:
        with EmbeddedServer(
            directory, binary=Path(binary), extra_arguments=TEST_ARGUMENTS
        ) as server:
            yield server.url
    finally:
        shutil.rmtree(directory, ignore_errors=True)
