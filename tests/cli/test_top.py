"""`canet top` reads a real service's metrics and draws them."""

from __future__ import annotations

import io
import re

import pytest
from prometheus_client import generate_latest
from rich.console import Console

from cli.main import main
from cli.top_reading import Change, Reading
from cli.top_view import view
from models.price_curve import CurvePoint
from tests.service.fakes import running

HEAD = "canet_build_info 1.0\n"


def reading(text: str, at: float) -> Reading:
    return Reading.parse(HEAD + text, at=at)


def change(before: str, now: str, seconds: float = 2.0) -> Change:
    return Change(before=reading(before, 0.0), now=reading(now, seconds))


def test_rates_are_per_second_and_a_restart_counts_from_0() -> None:
    found = change('a_total{x="1"} 4\na_total{x="2"} 9\n', 'a_total{x="1"} 10\na_total{x="2"} 2\n')
    assert found.rate("a_total", "x") == {"1": 3.0, "2": 1.0}
    assert found.total("a_total", x="1") == 3.0
    assert found.rate("nothing") == {}


def test_a_quantile_lies_within_its_bucket_and_is_none_without_observations() -> None:
    edges = ("0.1", "0.2", "+Inf")
    before = "".join(f'h_bucket{{le="{edge}"}} 0\n' for edge in edges)
    now = "".join(
        f'h_bucket{{le="{edge}"}} {n}\n' for edge, n in zip(edges, (50, 100, 100), strict=True)
    )
    assert change(before, now).quantile(0.5, "h") == pytest.approx(0.1)
    assert change(before, now).quantile(0.75, "h") == pytest.approx(0.15)
    assert change(before, before).quantile(0.75, "h") is None


def test_shares_saved_need_a_baseline() -> None:
    found = change("s_total 0\nb_total 0\n", "s_total 1\nb_total 4\n")
    assert found.saved("s_total", "b_total") == 0.75
    assert found.saved("s_total", "none_total") is None


def test_something_else_than_the_service_is_refused() -> None:
    with pytest.raises(ValueError, match="canet_build_info"):
        Reading.parse("up 1\n", at=0.0)


async def test_a_served_answer_shows() -> None:
    async with running() as stack:
        registry = stack.app.state.services.metrics.registry
        before = Reading.parse(generate_latest(registry).decode(), at=0.0)
        for _ in range(4):
            await stack.client.post("/recommend", json={"history": ["i1", "i2"]})
        curve = (CurvePoint(0.0, 0.25), CurvePoint(1.0, 0.25))
        stack.app.state.services.metrics.curve_changed(curve)
        now = Reading.parse(generate_latest(registry).decode(), at=2.0)
    screen = Console(file=io.StringIO(), width=160, record=True)
    screen.print(view(before, now, "http://test"))
    text = screen.export_text()
    assert re.search(r"budget, spent\s+25\.0%, \d+\.\d%", text)
    for words in (r"FLOPs saved\s+\d+\.\d%", r"d1-w16-e16\s+100%", r"answers model/s\s+2\.0", "v1"):
        assert re.search(words, text), words


def test_nobody_there_is_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["top", "--url", "http://127.0.0.1:9", "--once"]) == 1
    assert "does not answer" in capsys.readouterr().err
    assert main(["top", "--url", "somewhere", "--once"]) == 2
    assert main(["top", "--interval", "0"]) == 2
