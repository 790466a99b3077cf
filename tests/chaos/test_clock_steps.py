"""The wall clock is set back and forward under a running service: nobody notices."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from bench.processes import free_port, python, running
from models.checkpoint.store import set_current
from tests.e2e.live import KEY
from tests.models.published import publish_random
from tests.servers.processes import required, wait_until

pytestmark = pytest.mark.servers

HISTORY_MAX = 5
LIBRARIES = ("/usr/lib/*/faketime/libfaketime.so.1", "/usr/local/lib/faketime/libfaketime.so.1")


class Stepped:
    """A service whose wall clock can be set; its monotonic clock runs on."""

    def __init__(self, client: httpx.Client, offset: Path) -> None:
        self._client = client
        self._offset = offset

    def set_clock(self, seconds: int) -> None:
        """Set the clock so many seconds before or after the true time, and wait until it is."""
        self._offset.write_text(f"{seconds:+d}\n")

        def is_set() -> bool:
            told = parsedate_to_datetime(self._client.get("/healthz").headers["date"])
            return abs(told.timestamp() - time.time() - seconds) < 600

        wait_until(is_set, 60, "the clock is not set")

    def post(self, path: str, **body: Any) -> dict[str, Any]:
        response = self._client.post(path, json=body)
        assert response.status_code == 200, response.text
        answer: dict[str, Any] = response.json()
        return answer

    def tell(self, *items: str) -> None:
        """One event after the other, without a time."""
        for item in items:
            told = self.post("/v1/events", events=[{"user_id": "u", "item_id": item}])
            assert told["accepted"] == 1

    def history(self) -> list[dict[str, str]]:
        rows: list[dict[str, str]] = self._client.get("/v1/users/u/history").json()["items"]
        return rows

    def items(self) -> list[str]:
        return [row["item_id"] for row in self.history()]

    def version(self) -> str:
        found: str = self._client.get("/v1/model").json()["version"]
        return found


@contextmanager
def stepped(directory: Path, root: Path, redis_url: str) -> Iterator[Stepped]:
    required("faketime", "faketime")
    library = next(path for name in LIBRARIES for path in Path("/").glob(name[1:]))
    offset, port = directory / "clock", free_port()
    offset.write_text("+0\n")
    environ = {
        "LD_PRELOAD": str(library),
        "FAKETIME_TIMESTAMP_FILE": str(offset),
        "FAKETIME_CACHE_DURATION": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "CANET_PORT": str(port),
        "CANET_MODEL_ROOT": str(root),
        "CANET_REDIS_URL": redis_url,
        "CANET_API_KEYS": f"read+write+admin:{KEY}",
        "CANET_HISTORY_MAX": str(HISTORY_MAX),
        "CANET_DEADLINE_MS": "60000",
        "CANET_REDIS_OP_TIMEOUT_MS": "10000",
        "CANET_OVERLOAD_POLICY": "off",
        "CANET_RATE_LIMIT": "1000/s",
        "CANET_RATE_LIMIT_SHARED": "true",
        "CANET_DRAIN_SECONDS": "0",
    }
    command = python("-m", "cli.main", "serve")
    log = directory / "service.log"
    with (
        running(
            "canet serve", command, port=port, log=log, environ=environ, cores=frozenset()
        ) as server,
        httpx.Client(base_url=server.url, headers={"X-API-Key": KEY}, timeout=60) as client,
    ):
        yield Stepped(client, offset)
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert not [line for line in lines if line["level"] == "error"]


def test_a_clock_that_jumps_loses_no_event_and_stops_nothing(
    tmp_path: Path, redis_url: str
) -> None:
    root = tmp_path / "models"
    first = publish_random(root, seed=0)
    second = publish_random(root, seed=1)
    set_current(root, first)
    with stepped(tmp_path, root, redis_url) as service:
        service.tell(*(f"item-{n}" for n in range(1, 7)))
        assert service.items() == [f"item-{n}" for n in range(2, 7)]
        before = service.history()[-1]["timestamp"]

        service.set_clock(-3600)
        service.tell("item-7", "item-8")
        # The history was full: the newest are kept all the same, and are the newest.
        assert service.items() == [f"item-{n}" for n in range(4, 9)]
        assert before < service.history()[-1]["timestamp"]
        question = {"user_id": "u", "k": 3}
        answers = [service.post("/recommend", **question) for _ in range(2)]
        assert [answer["source"] for answer in answers] == ["model", "cache"]
        assert answers[0]["history_length"] == HISTORY_MAX
        # A caller whose clock is right is not told that its event lies in the future.
        told = service.post(
            "/v1/events", events=[{"user_id": "v", "item_id": "item-1", "timestamp": before}]
        )
        assert told["rejected"] == 0

        service.set_clock(+86_400)
        service.tell("item-9")
        assert service.items()[-2:] == ["item-8", "item-9"]
        assert service.post("/recommend", **question)["source"] == "model"
        set_current(root, second)
        wait_until(lambda: service.version() == second, 60, "the new version does not serve")

        service.set_clock(0)
        service.tell("item-10", "item-11")
        assert service.items()[-3:] == ["item-9", "item-10", "item-11"]
        assert service.post("/recommend", **question)["degraded"] == []
