"""One exception for everything that can be wrong with a checkpoint, with a closed set of reasons.

CheckpointError
    .reason    a Reason, stable, fit for a metric label
    .args[0]   one sentence for the operator; names versions and files, never host paths
"""

from __future__ import annotations

import errno
from enum import StrEnum


class Reason(StrEnum):
    """Why a checkpoint was refused or could not be written; docs/checkpoint.md explains each."""

    MISSING = "missing"
    UNSAFE_PATH = "unsafe_path"
    UNEXPECTED_FILE = "unexpected_file"
    PICKLE = "pickle"
    TOO_LARGE = "too_large"
    SIZE_MISMATCH = "size_mismatch"
    DIGEST_MISMATCH = "digest_mismatch"
    BAD_JSON = "bad_json"
    UNKNOWN_FORMAT = "unknown_format"
    BAD_MANIFEST = "bad_manifest"
    BAD_HEADER = "bad_header"
    TENSOR_NAMES = "tensor_names"
    TENSOR_DTYPE = "tensor_dtype"
    TENSOR_SHAPE = "tensor_shape"
    NOT_FINITE = "not_finite"
    BAD_MEMORY = "bad_memory"
    BAD_ITEMS = "bad_items"
    BAD_POPULAR = "bad_popular"
    BAD_GOLDEN = "bad_golden"
    BAD_EVALUATION = "bad_evaluation"
    NO_ROLLBACK = "no_rollback"
    BUSY = "busy"
    DISK_FULL = "disk_full"
    NOT_WRITABLE = "not_writable"
    IO = "io"


class CheckpointError(Exception):
    """A checkpoint was refused, or could not be written; `reason` says why in one word."""

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason = reason

    @classmethod
    def from_os(cls, error: OSError, what: str) -> CheckpointError:
        """Return the error for a failed system call while doing `what`; paths are left out."""
        reason, remedy = _OS_REASONS.get(error.errno or 0, (Reason.IO, ""))
        cause = error.strerror or type(error).__name__
        return cls(reason, f"{what} failed: {cause}{remedy}")


_FULL = (Reason.DISK_FULL, "; free space on the volume of the model root, nothing was published")
_DENIED = (Reason.NOT_WRITABLE, "; give this process write access to the model root")
_ABSENT = (Reason.MISSING, "")
_UNSAFE = (Reason.UNSAFE_PATH, "; symbolic links and special files are refused")

_OS_REASONS: dict[int, tuple[Reason, str]] = {
    errno.ENOSPC: _FULL,
    errno.EDQUOT: _FULL,
    errno.EFBIG: _FULL,
    errno.EROFS: _DENIED,
    errno.EACCES: _DENIED,
    errno.EPERM: _DENIED,
    errno.ENOENT: _ABSENT,
    errno.ENOTDIR: _UNSAFE,
    errno.ELOOP: _UNSAFE,
    errno.ENXIO: _UNSAFE,
}
