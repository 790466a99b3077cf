"""Publish a checkpoint: all of it, durably, or nothing."""

from __future__ import annotations

import errno
import json
import os
import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from models.checkpoint.contents import CheckpointContents
from models.checkpoint.errors import CheckpointError, Reason
from models.checkpoint.files import sha256_hex, sync_directory, write_file
from models.checkpoint.manifest import (
    EVALUATION_FILE,
    FORMAT_VERSION,
    GOLDEN_FILE,
    ITEMS_FILE,
    MANIFEST_FILE,
    POPULAR_FILE,
    TENSORS_FILE,
    FileEntry,
    Manifest,
    name_digest,
    refused_manifest,
    render_manifest,
)
from models.checkpoint.read import read_directory
from models.checkpoint.rows import render_evaluation, render_golden, render_items, render_popular
from models.checkpoint.store import current, list_versions, set_current
from models.checkpoint.tensors import render_tensors

STALE_SECONDS: Final = 6 * 3600
_TEMPORARY: Final = ".tmp-"
_STAMP: Final = "%Y%m%dT%H%M%SZ"
_NO_DIGEST: Final = "0" * 8


def write_checkpoint(
    root: Path,
    contents: CheckpointContents,
    *,
    make_current: bool = True,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> str:
    """Publish `contents` under `root`, made if need be, and return the new version's name.

    When this returns, the version is on disk, passes every check of `read_checkpoint` and, if
    `make_current`, is what CURRENT names. Its name sorts after all others. Raises
    CheckpointError; then nothing was published and CURRENT is as it was (only when the very last
    flush of the disk fails may it have moved already, to a version that is whole).
    """
    try:
        root.mkdir(parents=True, exist_ok=True)
        _sweep(root)
        temporary = root / f"{_TEMPORARY}{os.getpid()}-{os.urandom(6).hex()}"
        try:
            version = _publish(root, temporary, contents, now)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    except OSError as error:
        raise CheckpointError.from_os(error, "publishing the checkpoint") from None
    if make_current:
        try:
            set_current(root, version)
        except CheckpointError:
            _withdraw(root, version)
            raise
    return version


def _publish(
    root: Path,
    temporary: Path,
    contents: CheckpointContents,
    now: Callable[[], datetime],
) -> str:
    temporary.mkdir()
    entries: dict[str, FileEntry] = {}
    for name, render in _RENDERERS.items():
        try:
            data = render(contents)
        except (TypeError, ValueError) as error:
            raise CheckpointError(
                Reason.BAD_MANIFEST, f"{name} cannot be written: {error}"
            ) from error
        write_file(temporary / name, data)
        entries[name] = FileEntry(sha256=sha256_hex(data), size=len(data))
        del data
    created = now().astimezone(UTC)
    while True:
        stamp = _stamp(root, created)
        draft = f"{stamp}-{_NO_DIGEST}"
        data = render_manifest(_manifest(contents, draft, created, entries))
        version = f"{stamp}-{name_digest(data, draft)}"
        write_file(temporary / MANIFEST_FILE, data.replace(draft.encode(), version.encode(), 1))
        sync_directory(temporary)
        # Nothing is published that the service would refuse.
        read_directory(temporary, version=version)
        try:
            temporary.rename(root / version)
        except OSError as error:
            if error.errno not in {errno.EEXIST, errno.ENOTEMPTY}:
                raise
            # Another writer took the name meanwhile; the next one is later.
            (temporary / MANIFEST_FILE).unlink()
            continue
        try:
            sync_directory(root)
        except OSError:
            _withdraw(root, version)
            raise
        return version


def _withdraw(root: Path, version: str) -> None:
    # CURRENT may have moved before its last flush failed: what it names must stay.
    with suppress(CheckpointError):
        if current(root) == version:
            return
    shutil.rmtree(root / version, ignore_errors=True)


_RENDERERS: Final[dict[str, Callable[[CheckpointContents], bytes]]] = {
    TENSORS_FILE: lambda contents: render_tensors(contents.tensors),
    ITEMS_FILE: lambda contents: render_items(contents.catalog),
    POPULAR_FILE: lambda contents: render_popular(contents.popular),
    GOLDEN_FILE: lambda contents: render_golden(contents.golden),
    EVALUATION_FILE: lambda contents: render_evaluation(contents.evaluation),
}


def _stamp(root: Path, created: datetime) -> str:
    # After the newest version even when the clock was set back, so that order never lies.
    stamp = created.replace(microsecond=0)
    versions = list_versions(root)
    if versions:
        newest = datetime.strptime(versions[-1].split("-")[0], _STAMP).replace(tzinfo=UTC)
        stamp = max(stamp, newest + timedelta(seconds=1))
    return stamp.strftime(_STAMP)


def _manifest(
    contents: CheckpointContents,
    version: str,
    created: datetime,
    entries: dict[str, FileEntry],
) -> Manifest:
    try:
        return Manifest(
            format_version=FORMAT_VERSION,
            version=version,
            created_at=created.isoformat(timespec="seconds"),
            data_until=contents.data_until,
            code_revision=contents.code_revision,
            parent=contents.parent,
            files=entries,
            architecture=_plain(contents.config.to_json()),
            submodels=tuple(contents.submodels),
            router=contents.router,
            metrics=dict(contents.metrics),
            training=_plain(contents.training),
            repeats=contents.repeats,
            elastic=contents.elastic,
            specialized=contents.specialized,
        )
    except ValidationError as error:
        raise refused_manifest(error) from None


def _plain(values: Any) -> Any:
    try:
        return json.loads(json.dumps(dict(values), allow_nan=False))
    except (TypeError, ValueError) as error:
        raise CheckpointError(
            Reason.BAD_MANIFEST, f"{MANIFEST_FILE} cannot hold these values: {error}"
        ) from None


def _sweep(root: Path) -> None:
    """Remove what killed writers left behind; a running writer's directory is young."""
    for path in root.glob(f"{_TEMPORARY}*"):
        try:
            if time.time() - path.lstat().st_mtime < STALE_SECONDS:
                continue
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()
        except FileNotFoundError:
            continue  # another writer sweeps too
