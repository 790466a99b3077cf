"""A model root: version directories, `CURRENT` and the way back.

    <root>/20261121T041200Z-1a2b3c4d/   a version, immutable
    <root>/CURRENT                      the name of the version to serve
    <root>/HISTORY                      what CURRENT named before, oldest first, one per line
    <root>/.lock                        held while CURRENT and HISTORY move together

Both files are replaced whole. HISTORY is written before CURRENT moves forward and after it moves
back, and names equal to CURRENT are skipped, so a crash between the two changes nothing.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from models.checkpoint.errors import CheckpointError, Reason
from models.checkpoint.files import read_file, replace_file, sync_directory
from models.checkpoint.manifest import is_version
from models.checkpoint.verified import read_manifest

CURRENT: Final = "CURRENT"
HISTORY: Final = "HISTORY"
_LOCK: Final = ".lock"
_REMEMBERED: Final = 100
LOCK_WAIT_SECONDS: Final = 10


def list_versions(root: Path) -> list[str]:
    """Return the names of all versions, oldest first; empty when there is no root.

    A directory that only looks like a version is listed too: reading it says what is wrong.
    """
    try:
        with os.scandir(root) as entries:
            return sorted(
                entry.name
                for entry in entries
                if is_version(entry.name) and entry.is_dir(follow_symlinks=False)
            )
    except FileNotFoundError:
        return []
    except OSError as error:
        raise CheckpointError.from_os(error, "listing the model root") from None


def current(root: Path) -> str | None:
    """Return the version that CURRENT names, None when there is no CURRENT.

    Raises CheckpointError `unsafe_path` when it holds anything but the name of a version.
    """
    try:
        data = read_file(root / CURRENT, limit=256)
    except CheckpointError as error:
        if error.reason is Reason.MISSING:
            return None
        raise
    name = data.decode("ascii", errors="replace").strip()
    if not is_version(name):
        raise CheckpointError(
            Reason.UNSAFE_PATH,
            f"{CURRENT} holds {name[:80]!r}, which is no version; names look like "
            "20261121T041200Z-1a2b3c4d",
        )
    return name


def current_or_none(root: Path) -> str | None:
    """Return what CURRENT names, None also when it is damaged.

    A damaged CURRENT must not keep anyone from pointing it somewhere sound.
    """
    try:
        return current(root)
    except CheckpointError:
        return None


def set_current(root: Path, version: str) -> None:
    """Make CURRENT name `version`, an existing one, and remember what it named before.

    Raises CheckpointError `unsafe_path`, `missing`, `disk_full`, `not_writable` or `io`.
    """
    _check_exists(root, version)
    with _moving(root, "moving CURRENT"):
        before = current_or_none(root)
        if before == version:
            return
        if before is not None:
            _write_names(root, [*_history(root), before])
        replace_file(root / CURRENT, f"{version}\n".encode())


def rollback_targets(root: Path) -> list[str]:
    """Return the versions to go back to, the first choice first; none of them is looked into.

    They are the entries of HISTORY that still exist, newest first; then the parent that CURRENT's
    manifest names; then the versions older than CURRENT, newest first. Without a readable CURRENT
    only HISTORY counts: a version that never served is nobody's way back.
    """
    now = current_or_none(root)
    versions = list_versions(root)
    names = list(reversed(_history(root)))
    if now is not None:
        with suppress(CheckpointError):
            names.append(read_manifest(root / now).parent or now)
        names += [name for name in reversed(versions) if name < now]
    return [name for name in dict.fromkeys(names) if name != now and name in versions]


def rollback_target(root: Path) -> str | None:
    """Return the first of `rollback_targets`, None when there is none."""
    return next(iter(rollback_targets(root)), None)


def rollback(root: Path, to: str | None = None) -> str:
    """Move CURRENT back and return the version it names now; calling again goes further back.

    It goes to `rollback_target`, or to the existing version `to`, and forgets what was served
    since. Raises CheckpointError `no_rollback` when there is nothing to go back to, else as
    `set_current`.
    """
    if to is not None:
        _check_exists(root, to)
    with _moving(root, "rolling back"):
        target = rollback_target(root) if to is None else to
        if target is None:
            raise CheckpointError(
                Reason.NO_ROLLBACK, "no earlier version is left; publish one before rolling back"
            )
        if target != current_or_none(root):
            replace_file(root / CURRENT, f"{target}\n".encode())
        names = _history(root)
        if target in names:
            last = len(names) - 1 - names[::-1].index(target)
            _write_names(root, names[:last])
        return target


def prune(root: Path, keep: int) -> list[str]:
    """Remove all but the `keep` newest versions, CURRENT and its rollback target.

    Returns the names removed. A version disappears in one step, before its files go. Raises
    ValueError when `keep` is below 1, CheckpointError when CURRENT cannot be read or a removal
    fails.
    """
    if keep < 1:
        raise ValueError(f"keep is {keep}; at least 1 version must stay")
    with _moving(root, "removing old versions"):
        versions = list_versions(root)
        kept = {*versions[-keep:], current(root), rollback_target(root)}
        removed = [name for name in versions if name not in kept]
        graves = _bury(root, removed)
    _empty(graves)
    return removed


def discard(root: Path, version: str) -> bool:
    """Remove a version that was not published after all; False when CURRENT names it.

    Raises CheckpointError when the removal fails, or as `current`.
    """
    with _moving(root, "removing a version"):
        if current(root) == version:
            return False
        graves = _bury(root, [version] if version in list_versions(root) else [])
    _empty(graves)
    return True


def _bury(root: Path, versions: list[str]) -> list[Path]:
    graves: list[Path] = []
    for name in versions:
        graves.append(root / f".tmp-pruned-{name}-{os.urandom(4).hex()}")
        (root / name).rename(graves[-1])
    sync_directory(root)
    return graves


def _empty(graves: list[Path]) -> None:
    try:
        for grave in graves:
            shutil.rmtree(grave)
    except OSError as error:
        raise CheckpointError.from_os(error, "removing old versions") from None


def _check_exists(root: Path, version: str) -> None:
    if not is_version(version):
        raise CheckpointError(
            Reason.UNSAFE_PATH,
            f"{version[:80]!r} is no version; names look like 20261121T041200Z-1a2b3c4d",
        )
    if version not in list_versions(root):
        raise CheckpointError(Reason.MISSING, f"there is no version {version}")


def _history(root: Path) -> list[str]:
    try:
        data = read_file(root / HISTORY, limit=2**20)
    except CheckpointError:
        return []
    return [name for name in data.decode("ascii", errors="replace").split() if is_version(name)]


def _write_names(root: Path, names: list[str]) -> None:
    kept = names[-_REMEMBERED:]
    replace_file(root / HISTORY, "".join(f"{name}\n" for name in kept).encode())


@contextmanager
def _moving(root: Path, what: str) -> Iterator[None]:
    """Hold the root's lock, and turn failed system calls into CheckpointError."""
    try:
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(root / _LOCK, flags, 0o644)
        try:
            _lock(descriptor, what)
            yield
        finally:
            os.close(descriptor)
    except OSError as error:
        raise CheckpointError.from_os(error, what) from None


def _lock(descriptor: int, what: str) -> None:
    deadline = time.monotonic() + LOCK_WAIT_SECONDS
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise CheckpointError(
                    Reason.BUSY,
                    f"{what} waited {LOCK_WAIT_SECONDS} s for another process that holds the "
                    "lock of the model root; end that process and try again",
                ) from None
            time.sleep(0.02)
