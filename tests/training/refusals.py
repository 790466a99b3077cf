"""Commands that must be refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from cli.main import main
from models.checkpoint.store import list_versions


def check_refused(
    data: Path,
    out: Path,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    code: int,
    told: str,
) -> None:
    """Hold that `canet train` ends with the code and the words, and publishes nothing."""
    try:
        found = main(["train", "--data", str(data), "--out", str(out), *options])
    except SystemExit as end:
        found = int(end.code or 0)
    assert found == code
    assert told in capsys.readouterr().err
    assert not out.is_dir() or not list_versions(out)
