"""Single files of a version, verified against its manifest; no torch here."""

from __future__ import annotations

from pathlib import Path

from models.checkpoint.errors import CheckpointError, Reason
from models.checkpoint.files import check_directory, read_file, sha256_hex
from models.checkpoint.golden import GoldenQuery
from models.checkpoint.manifest import (
    FILE_LIMITS,
    GOLDEN_FILE,
    MANIFEST_FILE,
    MANIFEST_LIMIT,
    Manifest,
    parse_manifest,
)
from models.checkpoint.rows import parse_golden


def read_manifest(path: Path) -> Manifest:
    """Return the manifest of the version in `path`; its other files are not looked at.

    Raises CheckpointError.
    """
    return parse_manifest(read_file(path / MANIFEST_FILE, limit=MANIFEST_LIMIT), path.name)


def read_golden(path: Path) -> list[GoldenQuery]:
    """Return the golden queries of the version in `path`; CheckpointError when they are damaged.

    Ids are not looked up in the catalog: that is `read_checkpoint`'s work.
    """
    manifest = read_manifest(path)
    served = [entry.name for entry in manifest.submodels]
    return parse_golden(read_verified(path, manifest, GOLDEN_FILE), None, served)


def verify_files(path: Path) -> None:
    """Return when the version in `path` holds exactly the files that were published, unchanged.

    What the files mean is not looked at. Raises CheckpointError.
    """
    check_directory(path, {MANIFEST_FILE, *FILE_LIMITS})
    manifest = read_manifest(path)
    for name in manifest.files:
        read_verified(path, manifest, name)


def read_verified(path: Path, manifest: Manifest, name: str) -> bytes:
    """Return the bytes of the file `name`, of the size and digest that the manifest lists.

    Raises CheckpointError `missing`, `unsafe_path`, `too_large`, `size_mismatch`,
    `digest_mismatch` or `io`.
    """
    entry = manifest.files[name]
    data = read_file(path / name, limit=FILE_LIMITS[name], size=entry.size)
    if sha256_hex(data) != entry.sha256:
        raise CheckpointError(
            Reason.DIGEST_MISMATCH, f"{name} is not the file its manifest lists: SHA-256 differs"
        )
    return data
