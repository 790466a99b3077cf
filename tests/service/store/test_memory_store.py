"""The in-process store's own promises: snapshots and forgetting."""

from __future__ import annotations

from pathlib import Path

import pytest

from service.store.contract import Interaction
from service.store.memory_store import MemoryHistoryStore


def seen(item: str, ms: int, user: str = "ada", event_id: str | None = None) -> Interaction:
    return Interaction(user_id=user, external_id=item, timestamp_ms=ms, event_id=event_id)


async def test_a_snapshot_brings_everything_back(tmp_path: Path) -> None:
    path = tmp_path / "histories.json"
    store = MemoryHistoryStore(snapshot=path)
    await store.append([seen("b", 1, event_id="e"), seen("a", 1), seen("🦊", 0, user="bob")])
    await store.close()
    again = MemoryHistoryStore(snapshot=path)
    assert await again.recent("ada", 5) == ["b", "a"]
    assert await again.recent("bob", 5) == ["🦊"]
    assert await again.append([seen("b", 1, event_id="e"), seen("c", 1)]) == [False, True]
    assert await again.recent("ada", 5) == ["b", "a", "c"]


@pytest.mark.parametrize(
    "content",
    ["", "[]", "{", '{"format": 2, "users": {}}', '{"format": 1, "users": {"a": 1}}'],
)
def test_a_broken_snapshot_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "histories.json"
    path.write_text(content)
    with pytest.raises(ValueError, match="restore it or move it away"):
        MemoryHistoryStore(snapshot=path)


async def test_untouched_histories_are_forgotten() -> None:
    now = 0.0
    store = MemoryHistoryStore(history_ttl_seconds=10, clock=lambda: now)
    await store.append([seen("a", 1), seen("b", 1, user="bob")])
    now = 9.0
    await store.append([seen("c", 2)])
    now = 12.0
    assert await store.recent("ada", 5) == ["a", "c"]
    assert await store.recent("bob", 5) == []
    now = 19.0
    assert await store.recent("ada", 5) == []


def test_a_snapshot_leaves_no_other_file(tmp_path: Path) -> None:
    MemoryHistoryStore(snapshot=tmp_path / "histories.json").save()
    assert [file.name for file in tmp_path.iterdir()] == ["histories.json"]
