"""A file system of its own that can be filled and made read-only; made by mounting, so by root."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

_BALLAST = ".ballast"


@dataclass(frozen=True, slots=True)
class Volume:
    """A mounted file system."""

    path: Path

    def fill(self) -> None:
        """Take every byte that is left."""
        with (self.path / _BALLAST).open("ab", buffering=0) as file, suppress(OSError):
            while True:
                file.write(b"\0" * 4096)

    def free(self) -> None:
        """Give them back."""
        (self.path / _BALLAST).unlink()

    def read_only(self, on: bool) -> None:
        """Refuse every write, root's too, or take writes again."""
        mode = "ro" if on else "rw"
        subprocess.run(["mount", "-o", f"remount,{mode}", self.path], check=True)


@contextmanager
def volume(directory: Path, *, mib: int) -> Iterator[Volume]:
    """Yield a volume of so many MiB at `directory`; skip the test where mounting is not allowed."""
    directory.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={mib}m", "canet-test", str(directory)]
    allowed = os.geteuid() == 0
    if not allowed or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("a disk of its own takes root and the right to mount")
    try:
        yield Volume(directory)
    finally:
        subprocess.run(["umount", "--lazy", directory], check=True)
