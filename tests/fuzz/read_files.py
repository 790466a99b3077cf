"""Fuzz the readers of interactions and attributes, as one command.

    python -m tests.fuzz.read_files --minutes 30

Guided by coverage (Atheris) where it is installed, else by Hypothesis. The process may take no
more than 2 GiB, and every file has to be read or refused within a minute; a process that hangs is
ended, and where each of its threads stands is printed. Exit code 1 where a file was found that a
reader fails on; it is kept, and its path printed.
"""

from __future__ import annotations

import argparse
import faulthandler
import importlib.util
import os
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

_MOST_BYTES = 2 * 1024**3
# What a process may take beyond its time, for its start and its last file; then it hangs.
_GRACE_SECONDS = 120.0
_COUNTED = re.compile(r"^(\d+) files$", re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """How many files were read, by what, and what a reader failed on."""

    engine: str
    files: int
    seconds: float
    finding: str | None

    def __str__(self) -> str:
        told = f"{self.files:,} files in {self.seconds:.0f} s by {self.engine}; "
        return told + (self.finding or "nothing found")


def has_atheris() -> bool:
    """Whether Atheris is installed; there are wheels for Linux on x86-64 alone."""
    return importlib.util.find_spec("atheris") is not None


def fuzz(seconds: float, *, seed: int, engine: str | None = None) -> Report:
    """Read files for so long, in a process of its own, and return what came of it."""
    engine = engine or ("atheris" if has_atheris() else "hypothesis")
    kept = Path(tempfile.mkdtemp(prefix="canet-readers-"))
    command = [sys.executable, "-m", "tests.fuzz.read_files", "--inside", engine]
    command += ["--minutes", str(seconds / 60), "--seed", str(seed), "--directory", str(kept)]
    started = time.monotonic()
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, cwd=Path(__file__).parents[2]
    )
    said = done.stdout + done.stderr
    counted = _COUNTED.search(said)
    finding = None
    if done.returncode != 0:
        finding = f"exit code {done.returncode}, kept in {kept}:\n{said[-4000:]}"
    else:
        shutil.rmtree(kept)
    return Report(
        engine=engine,
        files=int(counted[1]) if counted else 0,
        seconds=time.monotonic() - started,
        finding=finding,
    )


def _by_atheris(seconds: float, seed: int, directory: Path) -> None:
    import atheris

    with atheris.instrument_imports(include=["training.data"]):
        from tests.fuzz.readers import one_input, seeds
    corpus, place = directory / "corpus", directory / "files"
    corpus.mkdir()
    place.mkdir()
    for number, one in enumerate(seeds()):
        (corpus / f"{number}-{one.name}").write_bytes(one.encoded())
    _limit_memory()
    arguments = [f"-seed={seed}", "-timeout=60", f"-artifact_prefix={directory}/", "-verbosity=0"]
    arguments += ["-max_len=8192", f"-rss_limit_mb={_MOST_BYTES // 2**20}", str(corpus)]
    count = 0
    end = time.monotonic() + seconds

    def read(data: bytes) -> None:
        nonlocal count
        if count and time.monotonic() > end:
            _leave(count)
        count += 1
        one_input(data, place)

    atheris.Setup([sys.argv[0], *arguments], read)
    atheris.Fuzz()


def _by_hypothesis(seconds: float, seed: int, directory: Path) -> None:
    from hypothesis import HealthCheck, Phase, given, settings
    from hypothesis import seed as seeded

    from tests.fuzz.readers import inputs, one_input

    _limit_memory()
    count = 0
    end = time.monotonic() + seconds
    while time.monotonic() < end:

        @seeded(seed + count)
        @settings(
            max_examples=200,
            deadline=None,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(data=inputs())
        def read(data: bytes) -> None:
            nonlocal count
            count += 1
            try:
                one_input(data, directory)
            except Exception:
                (directory / "found").write_bytes(data)
                raise

        read()
    _leave(count)


def _leave(count: int) -> NoReturn:
    """End the process after so many files, at once.

    Atheris would end it by C's `exit`, holding the interpreter: a thread of a library that needs it
    to come back is then waited for without end.
    """
    sys.stdout.write(f"{count} files\n")
    sys.stdout.flush()
    os._exit(0)


def _limit_memory() -> None:
    """Let the process take so much more address space than it holds now; memory is less."""
    held = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (held + _MOST_BYTES, resource.RLIM_INFINITY))


def main(argv: list[str] | None = None) -> int:
    """Run the command; 0 where nothing was found."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--engine", choices=("atheris", "hypothesis"))
    parser.add_argument("--inside", help=argparse.SUPPRESS)
    parser.add_argument("--directory", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args(argv)
    if asked.inside is not None:
        faulthandler.dump_traceback_later(60 * asked.minutes + _GRACE_SECONDS, exit=True)
        inside = _by_atheris if asked.inside == "atheris" else _by_hypothesis
        inside(asked.minutes * 60, asked.seed, asked.directory)
    report = fuzz(asked.minutes * 60, seed=asked.seed, engine=asked.engine)
    sys.stdout.write(f"{report}\n")
    return 1 if report.finding else 0


if __name__ == "__main__":
    sys.exit(main())
