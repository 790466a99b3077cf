"""From a version's name to an engine that may serve, in the loader's thread."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final

from models.checkpoint.errors import CheckpointError, Reason
from models.checkpoint.manifest import is_version
from models.checkpoint.verified import read_golden
from service.engine.contract import Engine
from service.lifecycle.trial import TrialError, replay, warm_up

logger = logging.getLogger(__name__)

Fingerprint = tuple[tuple[str, int, int, int], ...]

# What an engine may fail at after its checkpoint was found sound.
ENGINE_REASONS: Final = ("golden_mismatch", "warm_up_failed", "engine_failed")
# Not the checkpoint's fault for certain, so worth another try without any change to it.
_TRANSIENT: Final = frozenset({Reason.IO.value, "engine_failed"})


class LoadingStoppedError(Exception):
    """The service stops; nothing was wrong with the checkpoint."""


class RefusalError(Exception):
    """Why a version may not serve. `reason` is a checkpoint's Reason or one of ENGINE_REASONS."""

    def __init__(self, *, reason: str, message: str, fingerprint: Fingerprint = ()) -> None:
        super().__init__(message)
        self.reason = str(reason)
        self.fingerprint = fingerprint

    @classmethod
    def of(cls, error: CheckpointError | TrialError, fingerprint: Fingerprint = ()) -> RefusalError:
        """Return the refusal for what a check raised."""
        return cls(reason=error.reason, message=str(error), fingerprint=fingerprint)

    @property
    def transient(self) -> bool:
        """Whether the same directory may be accepted later."""
        return self.reason in _TRANSIENT


class Loader:
    """Turns versions under `root` into engines that passed every check and are warm."""

    def __init__(
        self,
        root: Path,
        load: Callable[[Path], Engine],
        *,
        max_batch: int,
        stopping: threading.Event,
    ) -> None:
        self._root = root
        self._load = load
        self._max_batch = max_batch
        self._stopping = stopping

    def load(self, version: str) -> Engine:
        """Return the engine of `version`; RefusalError, or LoadingStoppedError when stopping."""
        # Taken first: a directory that changes while it is read counts as changed.
        fingerprint = self.fingerprint(version)
        try:
            return self._tried(version)
        except (CheckpointError, TrialError) as error:
            raise RefusalError.of(error, fingerprint) from None
        except LoadingStoppedError:
            raise
        except Exception as error:
            logger.exception("the engine of version %s failed", version)
            raise RefusalError(
                reason="engine_failed",
                message=f"the engine failed with {type(error).__name__}; the log says where",
                fingerprint=fingerprint,
            ) from None

    def fingerprint(self, version: str) -> Fingerprint:
        """Return what changes when anybody touches the version's directory; empty without one."""
        try:
            with os.scandir(self._root / version) as entries:
                status = {entry.name: entry.stat(follow_symlinks=False) for entry in entries}
        except (OSError, ValueError):
            return ()
        return tuple(
            (name, value.st_ino, value.st_size, value.st_mtime_ns)
            for name, value in sorted(status.items())
        )

    def _tried(self, version: str) -> Engine:
        if not is_version(version):
            raise CheckpointError(
                Reason.UNSAFE_PATH,
                f"{version[:80]!r} is no version; names look like 20261121T041200Z-1a2b3c4d",
            )
        path = self._root / version
        self._proceed()
        engine = self._load(path)
        if engine.info.version != version:
            raise CheckpointError(
                Reason.BAD_MANIFEST, f"the engine says it is version {engine.info.version}"
            )
        golden = read_golden(path)
        replay(engine, golden, self._proceed)
        warm_up(engine, golden, self._max_batch, self._proceed)
        return engine

    def _proceed(self) -> None:
        if self._stopping.is_set():
            raise LoadingStoppedError
