"""Bytes in and out of a model root: no symbolic links, nothing half-written."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Collection
from pathlib import Path

from models.checkpoint.errors import CheckpointError, Reason

PICKLE_SUFFIXES = frozenset(
    {".pt", ".pth", ".pkl", ".pickle", ".bin", ".ckpt", ".joblib", ".dill", ".npy", ".npz"}
)

# O_NONBLOCK so that a pipe in place of a file is refused instead of waited for.
_READ_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_CHUNK = 8 * 2**20


def check_directory(path: Path, expected: Collection[str]) -> None:
    """Return when `path` is a real directory that holds exactly the `expected` regular files.

    Raises CheckpointError `missing`, `unsafe_path`, `pickle` or `unexpected_file`.
    """
    try:
        if not stat.S_ISDIR(path.lstat().st_mode):
            raise CheckpointError(Reason.UNSAFE_PATH, f"{path.name} is not a plain directory")
        with os.scandir(path) as entries:
            modes = {entry.name: entry.stat(follow_symlinks=False).st_mode for entry in entries}
    except OSError as error:
        raise CheckpointError.from_os(error, f"opening version {path.name}") from None
    for name, mode in sorted(modes.items()):
        if not stat.S_ISREG(mode):
            raise CheckpointError(
                Reason.UNSAFE_PATH,
                f"{name!r} is no regular file; links and special files are refused",
            )
        if Path(name).suffix.lower() in PICKLE_SUFFIXES:
            raise CheckpointError(
                Reason.PICKLE, f"{name!r} can carry code; only safetensors and JSON are read"
            )
        if name not in expected:
            raise CheckpointError(
                Reason.UNEXPECTED_FILE, f"{name!r} does not belong to a checkpoint; remove it"
            )
    absent = sorted(set(expected) - set(modes))
    if absent:
        raise CheckpointError(Reason.MISSING, f"{path.name} lacks {', '.join(absent)}")


def read_file(path: Path, *, limit: int, size: int | None = None) -> bytes:
    """Return the bytes of the regular file `path`, never more than `limit` or other than `size`.

    Raises CheckpointError `missing`, `unsafe_path`, `too_large`, `size_mismatch` or `io`.
    """
    try:
        descriptor = os.open(path, _READ_FLAGS)
        with os.fdopen(descriptor, "rb") as file:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise CheckpointError(Reason.UNSAFE_PATH, f"{path.name} is not a regular file")
            if status.st_size > limit:
                raise CheckpointError(
                    Reason.TOO_LARGE,
                    f"{path.name} has {status.st_size} bytes; at most {limit} are read",
                )
            expected = status.st_size if size is None else size
            if status.st_size != expected:
                raise _wrong_size(path, status.st_size, expected)
            data = file.read(expected)
            if len(data) != expected:
                raise _wrong_size(path, len(data), expected)
            return data
    except OSError as error:
        raise CheckpointError.from_os(error, f"reading {path.name}") from None


def sha256_hex(data: bytes) -> str:
    """Return the SHA-256 of `data` in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def write_file(path: Path, data: bytes) -> None:
    """Create `path` with `data`, on disk when this returns; OSError when it exists already."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
    with os.fdopen(descriptor, "wb", buffering=0) as file:
        view = memoryview(data)
        done = 0
        while done < len(view):
            done += file.write(view[done : done + _CHUNK])
        os.fsync(descriptor)


def replace_file(path: Path, data: bytes) -> None:
    """Make `path` hold `data`: readers see the old or the new bytes, also after a crash."""
    temporary = path.with_name(f".tmp-{path.name}-{os.getpid()}-{os.urandom(4).hex()}")
    try:
        write_file(temporary, data)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_directory(path.parent)


def sync_directory(path: Path) -> None:
    """Force the directory's entries to disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _wrong_size(path: Path, found: int, expected: int) -> CheckpointError:
    return CheckpointError(
        Reason.SIZE_MISMATCH, f"{path.name} has {found} bytes, its manifest says {expected}"
    )
