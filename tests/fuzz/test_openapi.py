"""The OpenAPI document says what the service does, however it is asked."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from tests.fuzz.openapi import fuzz
from tests.fuzz.target import target

pytestmark = pytest.mark.long

CASES = int(os.environ.get("CANET_FUZZ_CASES", "500"))


def test_every_answer_is_a_documented_one(tmp_path: Path) -> None:
    with target(tmp_path) as service:
        report = fuzz(service, cases=CASES, seed=1)
    sys.stdout.write(f"{report}\n")
    assert report.findings == ()
    assert report.cases >= CASES
    # Every phase got through to the service, not only to its door.
    assert {200, 204, 400, 401, 404, 405, 415, 422} <= set(report.statuses)
