"""Write down an unfinished run after every epoch, so that a killed one continues. No pickle."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor


def run_key(*parts: object) -> str:
    """Return a short digest of everything that must be alike for a run to be continued."""
    text = json.dumps(parts, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


class ResumeDirectory:
    """One run's state under `root`: tensors and JSON facts, replaced atomically."""

    def __init__(self, root: Path, key: str) -> None:
        self._directory = root / f".training-{key}"

    def save(self, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
        """Replace the saved state; a kill at any moment leaves the old or the new one whole."""
        self._directory.mkdir(parents=True, exist_ok=True)
        temporary = self._directory / f"state-{os.getpid()}.tmp"
        save_file(tensors, temporary, metadata={"facts": json.dumps(facts)})
        with temporary.open("rb") as handle:
            os.fsync(handle.fileno())
        temporary.replace(self._directory / "state.safetensors")

    def load(self) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """Return what was saved, None when nothing was or it cannot be read."""
        path = self._directory / "state.safetensors"
        try:
            tensors = load_file(path)
            with path.open("rb") as handle:
                header = json.loads(handle.read(int.from_bytes(handle.read(8), "little")))
            return tensors, json.loads(header["__metadata__"]["facts"])
        except (OSError, SafetensorError, ValueError, KeyError):
            return None

    def clear(self) -> None:
        """Forget the run: it is finished."""
        shutil.rmtree(self._directory, ignore_errors=True)
