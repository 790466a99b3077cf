"""Going back to a version that is known to be sound, whatever happened to the ones between."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from models.checkpoint.errors import CheckpointError, Reason
from models.checkpoint.read import read_checkpoint
from models.checkpoint.store import rollback, rollback_targets


@dataclass(frozen=True, slots=True, kw_only=True)
class Recovery:
    """Where a rollback went, and the versions it passed over with what was wrong with each."""

    version: str
    skipped: tuple[tuple[str, CheckpointError], ...]


def rollback_to_sound(root: Path, to: str | None = None) -> Recovery:
    """Move CURRENT to the first of `rollback_targets` that passes every check, or to `to`.

    Raises CheckpointError: of the version `to` when it is not sound, `no_rollback` when no target
    is, naming each; then CURRENT is as it was.
    """
    if to is not None:
        read_checkpoint(root / to)
        return Recovery(version=rollback(root, to), skipped=())
    skipped: list[tuple[str, CheckpointError]] = []
    for version in rollback_targets(root):
        try:
            read_checkpoint(root / version)
        except CheckpointError as error:
            skipped.append((version, error))
            continue
        return Recovery(version=rollback(root, version), skipped=tuple(skipped))
    raise CheckpointError(Reason.NO_ROLLBACK, no_target(skipped))


def no_target(skipped: list[tuple[str, CheckpointError]]) -> str:
    """Return the sentence that says why there is nothing to go back to."""
    if not skipped:
        return "no earlier version is left; publish one before rolling back"
    return "no earlier version is sound: " + described(skipped)


def described(skipped: list[tuple[str, CheckpointError]]) -> str:
    """Return each passed-over version with its reason."""
    return "; ".join(f"{version} ({error.reason}: {error})" for version, error in skipped)
