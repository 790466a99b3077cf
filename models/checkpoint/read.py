"""Read a checkpoint directory, trusting nothing in it.

The order of the checks: path and file names; for each file size, digest and content; tensor
names, dtypes and shapes before any tensor exists; finiteness. A digest guards against damage,
not against forgery: whoever may write the model root may write a consistent manifest, so every
later check assumes a forger.
"""

from __future__ import annotations

from pathlib import Path

from models.checkpoint.contents import Checkpoint
from models.checkpoint.errors import CheckpointError, Reason
from models.checkpoint.files import check_directory, read_file, sha256_hex
from models.checkpoint.manifest import (
    EVALUATION_FILE,
    FILE_LIMITS,
    GOLDEN_FILE,
    ITEMS_FILE,
    MANIFEST_FILE,
    MANIFEST_LIMIT,
    POPULAR_FILE,
    TENSORS_FILE,
    is_version,
    parse_manifest,
)
from models.checkpoint.rows import parse_evaluation, parse_golden, parse_items, parse_popular
from models.checkpoint.shapes import expected_shapes
from models.checkpoint.tensors import parse_tensors
from models.checkpoint.verified import read_verified


def read_checkpoint(path: Path) -> Checkpoint:
    """Return the verified checkpoint in the directory `path`, named after its version.

    Raises CheckpointError, whose `reason` is one of `Reason`, for anything that is wrong with it,
    and no other exception.
    """
    if not is_version(path.name):
        raise CheckpointError(
            Reason.UNSAFE_PATH,
            f"{path.name[:80]!r} is no version; names look like 20261121T041200Z-1a2b3c4d",
        )
    return read_directory(path, version=path.name)


def read_directory(path: Path, *, version: str) -> Checkpoint:
    """Return the verified checkpoint in `path`, whatever its name, that says it is `version`."""
    check_directory(path, {MANIFEST_FILE, *FILE_LIMITS})
    manifest_bytes = read_file(path / MANIFEST_FILE, limit=MANIFEST_LIMIT)
    manifest = parse_manifest(manifest_bytes, version)
    catalog = parse_items(
        read_verified(path, manifest, ITEMS_FILE), num_items=manifest.config.num_items
    )
    popular = parse_popular(read_verified(path, manifest, POPULAR_FILE), catalog)
    served = [entry.name for entry in manifest.submodels]
    golden = parse_golden(read_verified(path, manifest, GOLDEN_FILE), catalog, served)
    evaluation = parse_evaluation(read_verified(path, manifest, EVALUATION_FILE))
    tensors = parse_tensors(
        read_verified(path, manifest, TENSORS_FILE), expected_shapes(manifest), manifest.config
    )
    return Checkpoint(
        path=path,
        manifest=manifest,
        digest=sha256_hex(manifest_bytes),
        tensors=tensors,
        catalog=catalog,
        popular=popular,
        golden=golden,
        evaluation=evaluation,
    )
