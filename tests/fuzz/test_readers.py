"""Readers of interactions and attributes read any file, or refuse it in words."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from tests.fuzz import readers
from tests.fuzz.read_files import fuzz, has_atheris
from tests.fuzz.readers import one_input, seeds

MINUTES = float(os.environ.get("CANET_FUZZ_MINUTES", "0.05"))


@pytest.mark.parametrize("seed", seeds(), ids=lambda seed: seed.name)
def test_the_seeds_are_read(seed: readers.Seed, tmp_path: Path) -> None:
    assert one_input(seed.encoded(), tmp_path)


def test_a_reader_that_lets_something_else_through_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise KeyError("user_id")

    monkeypatch.setattr(readers, "read_interactions", broken)
    with pytest.raises(KeyError):
        one_input(seeds()[0].encoded(), tmp_path)


@pytest.mark.long
@pytest.mark.parametrize(
    "engine",
    [
        "hypothesis",
        pytest.param(
            "atheris", marks=pytest.mark.skipif(not has_atheris(), reason="no wheel here")
        ),
    ],
)
def test_any_file_is_read_or_refused_in_words(engine: str) -> None:
    report = fuzz(MINUTES * 60, seed=1, engine=engine)
    sys.stdout.write(f"{report}\n")
    assert report.finding is None
    assert report.files > 0
