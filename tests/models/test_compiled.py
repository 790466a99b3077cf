"""Compiling works with a cache on disk, without one, and with a damaged one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ANSWER = """
import numba
from models.kernels.compiled import compiled

@compiled(numba.int64(numba.int64))
def twice(number):
    return 2 * number

assert twice(21) == 42
print(sum(twice.stats.cache_hits.values()))
"""


def hits(folder: Path, cache: Path) -> int:
    """Compile in a process of its own; return how many functions came from the disk."""
    source = folder / "answer.py"
    if not source.exists():
        source.write_text(ANSWER)
    done = subprocess.run(
        [sys.executable, str(source)],
        env={**os.environ, "NUMBA_CACHE_DIR": str(cache), "PYTHONPATH": str(Path.cwd())},
        capture_output=True,
        text=True,
        check=True,
    )
    return int(done.stdout)


def test_the_second_process_reads_what_the_first_compiled(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    assert [hits(tmp_path, cache), hits(tmp_path, cache)] == [0, 1]


def test_a_damaged_cache_is_passed_over(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    hits(tmp_path, cache)
    kept = [path for path in cache.rglob("*") if path.is_file()]
    assert kept
    for path in kept:
        path.write_bytes(b"not what was written")
    assert hits(tmp_path, cache) == 0


def test_a_cache_that_cannot_be_written_is_done_without(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("no directory can be made here")
    assert hits(tmp_path, blocked) == 0
