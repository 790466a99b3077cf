"""The commands of docs/operations.md for backup and restore, run on directories and real servers.

`docker run ... alpine COMMAND` is run as COMMAND with the volumes' directories in place of /from
and /to, `valkey-cli ...` over a connection; what only Docker can do is left out.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import shlex
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import redis

from models.checkpoint.read import read_checkpoint
from models.checkpoint.store import current, list_versions, rollback
from models.events import EVENT_STREAMS, KEY_PREFIX, stream_key
from service.store.contract import Interaction
from service.store.embedded import EmbeddedServer
from tests.models.published import publish_random
from tests.servers.processes import required
from tests.training.refresh.world import store_at

DOCS = Path(__file__).parents[2] / "docs" / "operations.md"
RUN = re.compile(r"docker run --rm((?: -v \S+)+) alpine (.*)")
CLI = re.compile(r"docker (?:compose exec redis|exec canet-restore) valkey-cli ([^#]*)")


def block(title: str) -> list[str]:
    """The commands of the documented block that begins with this comment."""
    text = DOCS.read_text(encoding="utf-8")
    found = re.search(rf"```sh\n# {re.escape(title)}\n(.*?)```", text, re.DOTALL)
    assert found is not None, title
    return found[1].splitlines()


@dataclass
class Machine:
    """Volumes and a working directory, as the commands see them."""

    volumes: Path
    here: Path
    url: str = ""

    def run(self, line: str) -> None:
        """Run one documented line as far as it concerns data."""
        if (cli := CLI.search(line)) is not None:
            with redis.Redis.from_url(self.url) as client:
                answer = client.execute_command(*shlex.split(cli[1]))
                assert answer
                if "persistence" in cli[1]:
                    self._settled(client)
        elif (run := RUN.search(line)) is not None:
            command = run[2]
            for volume, place in re.findall(r"-v (\S+?):(/\w+)", run[1]):
                if volume.startswith('"$PWD'):
                    directory = self.here / volume.strip('"').removeprefix("$PWD").strip("/")
                else:
                    directory = self.volumes / volume
                directory.mkdir(parents=True, exist_ok=True)
                command = re.sub(rf"(?<![\w.]){place}\b", str(directory), command)
            # Owners are Docker's matter: here everything belongs to whoever runs the test.
            command = re.sub(r" && chown -R \S+ \S+(?=')", "", command)
            subprocess.run(["sh", "-c", command], check=True, cwd=self.here)
        elif line.startswith("docker volume rm"):
            for volume in line.split()[3:]:
                subprocess.run(["rm", "-rf", str(self.volumes / volume)], check=True)
        elif line.startswith("mkdir"):
            subprocess.run(shlex.split(line), check=True, cwd=self.here)
        else:
            assert line.startswith(("docker compose", "docker stop")), line

    @staticmethod
    def _settled(client: redis.Redis) -> None:
        until = time.monotonic() + 60
        while client.info("persistence")["aof_rewrite_in_progress"]:
            assert time.monotonic() < until
            time.sleep(0.02)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    here = tmp_path / "here"
    here.mkdir()
    return Machine(volumes=tmp_path / "volumes", here=here)


Serving = Callable[..., contextlib.AbstractContextManager[str]]


@pytest.fixture(params=["valkey", pytest.param("redis", marks=pytest.mark.servers)])
def serving(request: pytest.FixtureRequest) -> Serving:
    """Starts a server on a directory, with an append-only file unless told otherwise."""
    binary = None
    if request.param == "redis":
        binary = Path(required("redis-server", "redis-server"))

    @contextlib.contextmanager
    def start(directory: Path, *arguments: str) -> Iterator[str]:
        with EmbeddedServer(directory, binary=binary, extra_arguments=arguments) as server:
            yield server.url

    return start


async def write(url: str, first: int, count: int) -> None:
    store = store_at(url)
    for number in range(first, first + count):
        event = Interaction(
            user_id=f"u{number % 50}",
            external_id=f"i{number}",
            timestamp_ms=1_790_000_000_000 + number,
            event_id=f"e{number}",
        )
        assert await store.append([event]) == [True]
    await store.close()


async def known(url: str) -> set[str]:
    store = store_at(url)
    found = {item for user in range(50) for item in await store.recent(f"u{user}", 1000)}
    await store.close()
    return found


def streamed(url: str) -> int:
    with redis.Redis.from_url(url) as client:
        return sum(client.xlen(stream_key(KEY_PREFIX, shard)) for shard in range(EVENT_STREAMS))


def test_histories_events_models_and_data_come_back(machine: Machine, serving: Serving) -> None:
    data = machine.volumes / "canet_redis-data"
    models, dataset = machine.volumes / "canet_models", machine.volumes / "canet_dataset"
    models.mkdir(parents=True)
    older = publish_random(models, seed=0)
    version = publish_random(models, seed=1)
    (dataset / "events").mkdir(parents=True)
    (dataset / "suppression.key").write_text("the key")
    with serving(data) as url:
        machine.url = url
        with redis.Redis.from_url(url) as client:
            asyncio.run(write(url, 0, 400))
            client.bgrewriteaof()  # one is under way, as it may be at any time
            asyncio.run(write(url, 400, 200))
            client.hset("canet:1:blocklist", "i9", "1790000000000")
        for line in block("back up, with everything running but the trainer"):
            machine.run(line)
        asyncio.run(write(url, 600, 50))  # after the backup: in no copy
        later = publish_random(models, seed=2)
        assert streamed(url) == 650
    for line in block("restore, into empty volumes"):
        machine.run(line)
    with serving(data) as url:
        assert asyncio.run(known(url)) >= {f"i{number}" for number in range(600)}
        assert streamed(url) == 600
        asyncio.run(write(url, 1000, 5))  # numbered after those that are there
        with redis.Redis.from_url(url) as client:
            assert client.hgetall("canet:1:blocklist") == {b"i9": b"1790000000000"}
    assert current(models) == version
    assert list_versions(models) == sorted([older, version])
    assert later not in list_versions(models)
    read_checkpoint(models / version)
    assert rollback(models) == older, "the way back came along"
    assert (dataset / "suppression.key").read_text() == "the key"


def test_a_snapshot_is_taken_over_by_a_server_with_an_append_only_file(
    machine: Machine, serving: Serving
) -> None:
    data, backup = machine.volumes / "canet_redis-data", machine.here / "backup"
    backup.mkdir()
    with serving(machine.here / "elsewhere", "--appendonly", "no") as url:
        asyncio.run(write(url, 0, 100))
        with redis.Redis.from_url(url) as client:
            client.save()
    (machine.here / "elsewhere" / "dump.rdb").rename(backup / "dump.rdb")
    first, *then = block("restore a snapshot")
    machine.run(first)
    with serving(data, "--appendonly", "no") as url:
        machine.url = url
        for line in then:
            machine.run(line)
    with serving(data) as url:
        assert asyncio.run(known(url)) == {f"i{number}" for number in range(100)}
        assert streamed(url) == 100


def test_a_snapshot_put_beside_a_server_with_such_a_file_is_not_read(
    machine: Machine, serving: Serving
) -> None:
    """Why the documented way is a longer one."""
    data = machine.volumes / "canet_redis-data"
    with serving(machine.here / "elsewhere", "--appendonly", "no") as url:
        asyncio.run(write(url, 0, 10))
        with redis.Redis.from_url(url) as client:
            client.save()
    data.mkdir(parents=True)
    (machine.here / "elsewhere" / "dump.rdb").rename(data / "dump.rdb")
    with serving(data) as url:
        assert asyncio.run(known(url)) == set()
