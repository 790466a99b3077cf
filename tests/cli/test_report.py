"""`canet evaluate --html` says before any work what it lacks."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from cli.main import main


@pytest.mark.parametrize("library", ["matplotlib", "jinja2"])
def test_a_missing_library_is_named_with_its_extra(
    library: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name in [name for name in sys.modules if name.startswith("training.evaluate.html")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, library, None)  # what an import of an absent module does
    report = tmp_path / "report.html"
    code = main(["evaluate", str(tmp_path), "--data", "absent.csv", "--html", str(report)])
    assert code == 2
    error = capsys.readouterr().err
    assert f"--html needs {library}" in error
    assert "pip install 'canet-serve[report]'" in error


def test_a_report_into_no_directory_is_refused_first(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = tmp_path / "absent" / "report.html"
    code = main(["evaluate", str(tmp_path), "--data", "absent.csv", "--html", str(report)])
    assert code == 2
    assert f"{report.parent} is no directory" in capsys.readouterr().err
