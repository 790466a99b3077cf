from __future__ import annotations

import fcntl
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from models.checkpoint import store
from models.checkpoint.errors import CheckpointError, Reason
from models.checkpoint.store import (
    current,
    list_versions,
    prune,
    rollback,
    rollback_target,
    set_current,
)
from models.checkpoint.write import write_checkpoint

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.models.checkpoint.conftest import Tiny


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Five empty versions: this module never looks inside them, except for a parent."""
    for hour in range(5):
        (tmp_path / f"20261121T0{hour}0000Z-{hour:08x}").mkdir()
    (tmp_path / "notes").mkdir()
    (tmp_path / "20261121T090000Z-00000009").write_text("a file, not a version")
    return tmp_path


def test_versions_are_listed_oldest_first(root: Path) -> None:
    assert list_versions(root) == [f"20261121T0{hour}0000Z-{hour:08x}" for hour in range(5)]
    assert list_versions(root / "absent") == []


def test_current_names_what_was_set(root: Path) -> None:
    assert current(root) is None
    versions = list_versions(root)
    set_current(root, versions[1])
    assert current(root) == versions[1]
    assert (root / "CURRENT").read_bytes() == versions[1].encode() + b"\n"


@pytest.mark.parametrize(
    "content", [b"", b"../../etc", b"\xff" * 20, b"20261121T041200Z-1a2b3c4d extra"]
)
def test_a_damaged_current_is_refused_and_can_be_set_anew(root: Path, content: bytes) -> None:
    (root / "CURRENT").write_bytes(content)
    with pytest.raises(CheckpointError) as caught:
        current(root)
    assert caught.value.reason is Reason.UNSAFE_PATH
    set_current(root, list_versions(root)[0])
    assert current(root) == list_versions(root)[0]


def test_a_linked_or_huge_current_is_refused(root: Path) -> None:
    (root / "elsewhere").write_text(list_versions(root)[0])
    (root / "CURRENT").symlink_to(root / "elsewhere")
    with pytest.raises(CheckpointError) as caught:
        current(root)
    assert caught.value.reason is Reason.UNSAFE_PATH
    (root / "CURRENT").unlink()
    (root / "CURRENT").write_bytes(b"a" * 1000)
    with pytest.raises(CheckpointError) as caught:
        current(root)
    assert caught.value.reason is Reason.TOO_LARGE


@pytest.mark.parametrize(
    ("version", "reason"),
    [
        ("20261121T090000Z-00000009", Reason.MISSING),
        ("20261121T080000Z-00000000", Reason.MISSING),
        ("notes", Reason.UNSAFE_PATH),
        ("../x", Reason.UNSAFE_PATH),
    ],
)
def test_current_never_names_what_is_not_a_version(
    root: Path, version: str, reason: Reason
) -> None:
    with pytest.raises(CheckpointError) as caught:
        set_current(root, version)
    assert caught.value.reason is reason
    assert current(root) is None


def test_rollback_walks_back_what_was_served_and_forward_again(root: Path) -> None:
    v = list_versions(root)
    for version in (v[0], v[3], v[2], v[2], v[4]):
        set_current(root, version)
    assert rollback_target(root) == v[2]
    assert [rollback(root), rollback(root), rollback(root)] == [v[2], v[3], v[0]]
    assert current(root) == v[0]
    with pytest.raises(CheckpointError) as caught:
        rollback(root)
    assert caught.value.reason is Reason.NO_ROLLBACK
    set_current(root, v[4])
    assert rollback(root) == v[0]


def test_rollback_skips_versions_that_are_gone(root: Path) -> None:
    v = list_versions(root)
    for version in (v[0], v[1], v[2]):
        set_current(root, version)
    shutil.rmtree(root / v[1])
    assert rollback(root) == v[0]


def test_a_crash_between_history_and_current_does_not_confuse_rollback(root: Path) -> None:
    v = list_versions(root)
    set_current(root, v[0])
    set_current(root, v[1])
    (root / "HISTORY").write_text(f"{v[0]}\n{v[1]}\n")  # as before a third move that never came
    assert rollback(root) == v[0]
    (root / "HISTORY").write_text(f"{v[0]}\n")  # as after a rollback that did not finish
    with pytest.raises(CheckpointError):
        rollback(root)


def test_without_history_rollback_goes_to_the_parent_else_the_next_older(
    tmp_path: Path, tiny: Tiny
) -> None:
    first = tiny.publish(tmp_path)
    second = tiny.publish(tmp_path)
    third = write_checkpoint(tmp_path, tiny.contents(parent=first))
    (tmp_path / "HISTORY").unlink()
    assert rollback_target(tmp_path) == first
    shutil.rmtree(tmp_path / first)
    assert rollback_target(tmp_path) == second
    assert current(tmp_path) == third


def test_pruning_keeps_the_newest_current_and_the_way_back(root: Path) -> None:
    v = list_versions(root)
    set_current(root, v[0])
    set_current(root, v[1])
    assert prune(root, 1) == [v[2], v[3]]
    assert list_versions(root) == [v[0], v[1], v[4]]
    assert not list(root.glob(".tmp-*"))
    assert prune(root, 1) == []


def test_pruning_with_a_damaged_current_removes_nothing(root: Path) -> None:
    (root / "CURRENT").write_text("?")
    with pytest.raises(CheckpointError):
        prune(root, 1)
    assert len(list_versions(root)) == 5
    with pytest.raises(ValueError, match="keep is 0"):
        prune(root, 0)


def test_a_held_lock_is_reported_not_waited_for_for_ever(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "LOCK_WAIT_SECONDS", 0)
    descriptor = os.open(root / ".lock", os.O_RDWR | os.O_CREAT)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        with pytest.raises(CheckpointError) as caught:
            set_current(root, list_versions(root)[0])
        assert caught.value.reason is Reason.BUSY
    finally:
        os.close(descriptor)


def _set(root: Path) -> None:
    set_current(root, list_versions(root)[0])


def _prune(root: Path) -> None:
    prune(root, 1)


@pytest.mark.parametrize("move", [_set, rollback, _prune])
def test_a_lock_that_cannot_be_opened_is_refused(
    root: Path, move: Callable[[Path], object]
) -> None:
    (root / ".lock").symlink_to(root / "notes")
    with pytest.raises(CheckpointError) as caught:
        move(root)
    assert caught.value.reason is Reason.UNSAFE_PATH
