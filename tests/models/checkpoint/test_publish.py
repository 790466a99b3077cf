"""Publishing under faults: whole or not at all, and CURRENT always names a sound version."""

from __future__ import annotations

import errno
import os
import random
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from models.checkpoint.errors import CheckpointError, Reason
from models.checkpoint.read import read_checkpoint
from models.checkpoint.store import current, list_versions

if TYPE_CHECKING:
    from tests.models.checkpoint.conftest import Tiny

ROOT = Path(__file__).parents[3]

# Imports once, then forks a publisher for each line "<root> <how many>" and says its pid.
NURSERY = """
import os, runpy, sys
from pathlib import Path
tiny = runpy.run_path(sys.argv[1])["Tiny"]()
for line in sys.stdin:
    if line.startswith("wait"):
        print(os.waitstatus_to_exitcode(os.waitpid(int(line.split()[1]), 0)[1]), flush=True)
        continue
    root, count = line.split()
    pid = os.fork()
    if pid:
        print(pid, flush=True)
        continue
    for seed in range(int(count)):
        tiny.publish(Path(root), seed=seed)
    os._exit(0)
"""


class Nursery:
    """A process that starts publishers at once, since importing torch takes a second."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", NURSERY, str(Path(__file__).with_name("conftest.py"))],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def publisher(self, root: Path, count: int) -> int:
        return int(self._ask(f"{root} {count}"))

    def wait(self, pid: int) -> int:
        return int(self._ask(f"wait {pid}"))

    def close(self) -> None:
        self._process.communicate(timeout=60)

    def _ask(self, line: str) -> str:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()
        return self._process.stdout.readline()


@pytest.fixture(scope="module")
def nursery() -> Iterator[Nursery]:
    nursery = Nursery()
    yield nursery
    nursery.close()


def test_killed_at_random_moments_everything_published_is_whole(
    tmp_path: Path, nursery: Nursery
) -> None:
    rng = random.Random(7)
    seen = 0
    named = ""
    for kill in range(30):
        pid = nursery.publisher(tmp_path, 10_000)
        # Every third publisher gets through at least once, however slow the machine is.
        while kill % 3 == 0 and len(list_versions(tmp_path)) == seen:
            time.sleep(0.002)
        time.sleep(rng.random() * 0.05)
        os.kill(pid, signal.SIGKILL)
        assert nursery.wait(pid) == -signal.SIGKILL
        versions = list_versions(tmp_path)
        for version in versions[seen:]:
            read_checkpoint(tmp_path / version)
        # A kill between a rename and CURRENT leaves it behind, at a version that is whole.
        named_before, named = named, current(tmp_path) or ""
        assert named in {*versions, ""}
        assert named >= named_before
        # At most one version of each publisher can be in between.
        assert not versions[seen:] or named >= max(["", *versions[seen:-1]])
        seen = len(versions)
    assert seen, "no publisher got through before its kill"
    assert list(tmp_path.glob(".tmp-*")), "no kill struck inside a publication"


def test_concurrent_writers_never_share_a_version(tmp_path: Path, nursery: Nursery) -> None:
    writers = [nursery.publisher(tmp_path, 5) for _ in range(2)]
    assert [nursery.wait(pid) for pid in writers] == [0, 0]
    versions = list_versions(tmp_path)
    assert len(versions) == 10
    for version in versions:
        read_checkpoint(tmp_path / version)
    assert current(tmp_path) in versions
    assert not list(tmp_path.glob(".tmp-*"))


def test_a_full_disk_publishes_nothing(tmp_path: Path, tiny: Tiny) -> None:
    """A limit on file sizes: the kernel refuses bytes much as it does on a full disk."""
    before = tiny.publish(tmp_path)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(CheckpointError, match="publishing the checkpoint failed") as caught:
            tiny.publish(tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert caught.value.reason is Reason.DISK_FULL
    assert str(tmp_path) not in str(caught.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".lock", before, "CURRENT"]
    read_checkpoint(tmp_path / before)


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (errno.ENOSPC, Reason.DISK_FULL),
        (errno.EROFS, Reason.NOT_WRITABLE),
        (errno.EIO, Reason.IO),
    ],
)
def test_a_fault_at_any_write_leaves_the_root_as_it_was(
    tmp_path: Path, tiny: Tiny, monkeypatch: pytest.MonkeyPatch, code: int, reason: Reason
) -> None:
    tiny.publish(tmp_path)
    sync = os.fsync
    moved = []
    reasons = set()
    for failing in range(100):
        named, versions = current(tmp_path), list_versions(tmp_path)
        calls = count()
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", partial(_failing_at, failing, calls, sync, code))
            try:
                tiny.publish(tmp_path)
            except CheckpointError as error:
                reasons.add(error.reason)
            else:
                break
        assert not list(tmp_path.glob(".tmp-*"))
        if current(tmp_path) == named:
            assert list_versions(tmp_path) == versions
        else:
            moved.append(failing)
        read_checkpoint(tmp_path / str(current(tmp_path)))
    assert failing > 8, "the faults never struck"
    assert moved == [failing - 1], "only the flush after CURRENT moved comes too late"
    assert reasons == {reason}


def _failing_at(
    place: int, calls: Iterator[int], sync: Callable[[int], None], code: int, descriptor: int
) -> None:
    if next(calls) == place:
        raise OSError(code, os.strerror(code))
    sync(descriptor)


def test_a_root_that_cannot_be_made_is_refused(tmp_path: Path, tiny: Tiny) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError) as caught:
        tiny.publish(tmp_path / "file" / "models")
    assert caught.value.reason is Reason.UNSAFE_PATH
    with pytest.raises(CheckpointError) as caught:
        tiny.publish(tmp_path / "file")
    assert caught.value.reason in {Reason.UNSAFE_PATH, Reason.IO}
