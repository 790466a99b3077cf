"""docs/api.md names every route and every problem."""

from __future__ import annotations

from pathlib import Path

from service.http.problems import KINDS
from service.http.routing import ENDPOINTS

API = Path(__file__).parent.parent.parent.parent / "docs" / "api.md"


def test_every_route_and_every_problem_is_documented() -> None:
    text = API.read_text(encoding="utf-8")
    for endpoint in ENDPOINTS:
        path = endpoint.path.replace("user_id:path", "id").replace("item_id:path", "id")
        assert path in text, path
    for code, kind in KINDS.items():
        rows = [line for line in text.splitlines() if line.startswith("|") and f"`{code}`" in line]
        assert len(rows) == 1, code
        assert f"| {kind.status} |" in rows[0]
