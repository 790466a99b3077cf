"""Whatever bytes arrive, the answer is a documented one or none, and the service serves on."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Iterator

import httpx
import pytest
from hypothesis import HealthCheck, given, seed, settings

from tests.fuzz.target import Target, target
from tests.fuzz.wire import complaint, requests, send

pytestmark = pytest.mark.long

CASES = int(os.environ.get("CANET_FUZZ_CASES", "300"))
SEED = int(os.environ.get("CANET_FUZZ_SEED", "1"))


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    # A cut body is waited for; nobody else is slow here.
    with target(tmp_path_factory.mktemp("wire"), client_timeout_seconds="0.2") as found:
        yield found


def test_whatever_arrives_gets_a_documented_answer_or_none(service: Target) -> None:
    counted: Counter[int | None] = Counter()

    @seed(SEED)
    @settings(
        max_examples=CASES,
        deadline=None,
        database=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )
    @given(sent=requests())
    def throw(sent: bytes) -> None:
        answer = send(service, sent)
        counted[answer.status] += 1
        wrong = complaint(sent, answer)
        assert wrong is None, f"{wrong}: {sent[:2000]!r} -> {answer.body[:500]!r}"

    throw()
    told = {str(status): count for status, count in sorted(counted.items(), key=str)}
    sys.stdout.write(f"{counted.total():,} raw requests; answers by status {told}\n")
    assert {200, 400, 401, 405, 415} <= set(counted), "not everything got to its place"
    assert service.process.poll() is None
    assert httpx.get(f"{service.url}/readyz").status_code == 200
    assert [line for line in service.errors() if "exception" in line] == []
