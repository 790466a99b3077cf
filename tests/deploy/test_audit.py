"""The audit of dependencies fails for a known vulnerability and claims nothing it did not see."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from service.settings import PREFIX, Settings
from tests.deploy.files import ROOT

_TOOL = """#!{python}
import pathlib, sys
at = sys.argv.index("{option}") + 1
text = {text!r}
if text is not None:
    pathlib.Path(sys.argv[at]).write_text(text)
sys.exit({code})
"""


def tool(directory: Path, name: str, option: str, told: Any, *, code: int = 0) -> None:
    text = None if told is None else json.dumps(told)
    path = directory / name
    path.write_text(_TOOL.format(python=sys.executable, option=option, text=text, code=code))
    path.chmod(0o755)


def audit(directory: Path, found: Any, *, code: int = 0) -> subprocess.CompletedProcess[str]:
    """Run the audit over two components and what pip-audit is to have said of them."""
    tool(directory, "cyclonedx-py", "-o", {"components": [{"name": "a"}, {"name": "b"}]})
    tool(directory, "pip-audit", "-o", found, code=code)
    return subprocess.run(
        [sys.executable, ROOT / ".ci/audit", directory, sys.executable, directory],
        capture_output=True,
        text=True,
        check=False,
    )


def package(name: str, *vulnerabilities: str) -> dict[str, Any]:
    return {"name": name, "version": "1", "vulns": [{"id": one} for one in vulnerabilities]}


def test_a_known_vulnerability_fails_and_is_named(tmp_path: Path) -> None:
    found = {"dependencies": [package("a"), package("b", "CVE-2026-1")]}
    done = audit(tmp_path, found, code=1)
    assert done.returncode == 1
    assert "VULNERABLE: b 1: CVE-2026-1" in done.stdout
    assert json.loads((tmp_path / "sbom.json").read_text())["components"]


def test_nothing_known_against_all_is_said_so(tmp_path: Path) -> None:
    done = audit(tmp_path, {"dependencies": [package("a"), package("b")]})
    assert (done.returncode, "audited: 2 of 2 packages, 0 vulnerable" in done.stdout) == (0, True)


@pytest.mark.parametrize(
    "found",
    [None, {}, {"dependencies": [{"name": "a", "skip_reason": "not found on the registry"}]}],
)
def test_what_was_not_asked_is_not_called_sound(tmp_path: Path, found: Any) -> None:
    done = audit(tmp_path, found)
    assert done.returncode == 0
    assert "NOT AUDITED" in done.stdout
    assert "audited:" not in done.stdout


def test_ci_audits_the_environment_that_the_tests_run_in() -> None:
    text = (ROOT / ".ci/run").read_text()
    assert ".ci/audit" in text
    assert re.search(r"^stage \S.* audit$", text, flags=re.MULTILINE)


def test_the_threat_model_names_what_exists() -> None:
    text = (ROOT / "SECURITY.md").read_text()
    known = {PREFIX + name.upper() for name in Settings.model_fields}
    found = re.findall(r"`(CANET_(?!FUZZ_)[A-Z_]+)", text)  # those are of the tests
    named = {name.removesuffix("_FILE") for name in found}
    assert len(named) >= 7
    assert named <= known
    for path in re.findall(r"\]\(([^)#]+)", text):
        assert (ROOT / path).exists(), path
