from __future__ import annotations

import re
from pathlib import Path

from models.checkpoint.errors import Reason
from models.checkpoint.manifest import Manifest
from service.lifecycle.loader import ENGINE_REASONS

PAGE = (Path(__file__).parents[3] / "docs" / "checkpoint.md").read_text(encoding="utf-8")


def first_column(heading: str) -> list[str]:
    """The code-quoted names in the first column of the last table under `heading`."""
    section = PAGE.split(f"{heading}\n", 1)[1].split("\n#", 1)[0]
    cells = re.findall(r"^\| ((?:`\w+`(?:, )?)+) \|", section, re.MULTILINE)
    return [name for cell in cells for name in re.findall(r"`(\w+)`", cell)]


def test_the_page_lists_every_reason_in_order() -> None:
    assert first_column("## What a reader checks") == [reason.value for reason in Reason]


def test_the_page_lists_every_way_to_fail_a_trial() -> None:
    assert first_column("## Going live") == list(ENGINE_REASONS)


def test_the_page_lists_every_key_of_the_manifest() -> None:
    assert first_column("### manifest.json") == list(Manifest.model_fields)
