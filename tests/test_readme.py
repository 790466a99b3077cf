"""What README.md tells people to type and read is true."""

from __future__ import annotations

import argparse
import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from cli.main import parser
from service.http.answers import RecommendAnswer
from service.http.schemas import RecommendRequest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def commands(text: str) -> list[list[str]]:
    lines = "".join(blocks(text, "sh")).replace("\\\n", " ").splitlines()
    return [shlex.split(line, comments=True) for line in lines if line.strip()]


CANET = [words[1:] for words in commands(README) if words and words[0] == "canet"]


def test_the_two_commands_come_first() -> None:
    first, second = commands(README)[:2]
    assert first == ["python3", "dev.py", "demo"]
    assert second == ["python3", "dev.py", "test"]


@pytest.mark.parametrize("words", CANET, ids=" ".join)
def test_every_canet_command_is_one_that_the_program_accepts(words: list[str]) -> None:
    assert callable(parser().parse_args(words).run)


@pytest.mark.parametrize("words", CANET, ids=" ".join)
def test_every_canet_command_has_help(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    actions = words[:2] if words[0] == "checkpoints" else words[:1]
    with pytest.raises(SystemExit) as stopped:
        parser().parse_args([*actions, "--help"])
    assert stopped.value.code == 0
    assert f"usage: canet {' '.join(actions)}" in capsys.readouterr().out


def test_every_command_of_the_program_is_shown() -> None:
    (choices,) = (
        action.choices
        for action in parser()._actions
        if isinstance(action, argparse._SubParsersAction)
    )
    shown = {words[0] for words in CANET}
    assert set(choices) - {"demo"} == shown


def test_the_request_shown_is_valid_and_names_the_service() -> None:
    (curl,) = (words for words in commands(README) if words[0] == "curl")
    assert "http://127.0.0.1:8000/recommend" in curl
    body = curl[curl.index("-d") + 1]
    assert RecommendRequest.model_validate_json(body).k == 3


def test_the_answer_shown_is_one_that_the_service_can_give() -> None:
    (shown,) = blocks(README, "json")
    answer: dict[str, Any] = json.loads(shown)
    RecommendAnswer.model_validate(answer)
    compute = answer["compute"]
    assert compute["saved_ratio"] == pytest.approx(
        1 - compute["flops"] / compute["flops_full"], abs=0.01
    )


def anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {
        re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings
    }


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_inside_the_project_resolve(page: Path) -> None:
    text = re.sub(r"^```.*?^```", "", page.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if link.startswith(("http://", "https://")):
            continue
        path, _, fragment = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{page.name} links {link}"
        if fragment:
            assert fragment in anchors(target), f"{page.name} links {link}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_json_example_parses(page: Path) -> None:
    for example in blocks(page.read_text("utf-8"), "json"):
        json.loads(example)
