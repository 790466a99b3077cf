"""Damage: what disks, copies and accidents do. Every change of any byte is noticed."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from models.checkpoint.errors import CheckpointError, Reason
from models.checkpoint.read import read_checkpoint

if TYPE_CHECKING:
    from tests.models.checkpoint.conftest import Tiny

FILES = (
    "manifest.json",
    "model.safetensors",
    "items.jsonl",
    "popular.json",
    "golden.jsonl",
    "eval.json",
)


def reason_of(path: Path) -> Reason:
    with pytest.raises(CheckpointError) as caught:
        read_checkpoint(path)
    assert str(path.parent) not in str(caught.value), "a message shows a path of this host"
    assert len(str(caught.value)) < 1000
    return caught.value.reason


@pytest.mark.parametrize("name", FILES)
def test_a_flipped_bit_anywhere_is_refused(path: Path, name: str) -> None:
    rng = random.Random(name)
    file = path / name
    sound = file.read_bytes()
    for _ in range(60):
        place, bit = rng.randrange(len(sound)), rng.randrange(8)
        damaged = bytearray(sound)
        damaged[place] ^= 1 << bit
        file.write_bytes(damaged)
        assert reason_of(path) is Reason.DIGEST_MISMATCH, (place, bit)
    file.write_bytes(sound)
    read_checkpoint(path)


@pytest.mark.parametrize("name", FILES)
def test_a_truncated_or_grown_file_is_refused(path: Path, name: str) -> None:
    rng = random.Random(name)
    file = path / name
    sound = file.read_bytes()
    expected = Reason.DIGEST_MISMATCH if name == "manifest.json" else Reason.SIZE_MISMATCH
    for length in (0, 1, len(sound) - 1, *(rng.randrange(len(sound)) for _ in range(10))):
        file.write_bytes(sound[:length])
        assert reason_of(path) is expected, length
    file.write_bytes(sound + b"\n")
    assert reason_of(path) is expected


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_refused(path: Path, name: str) -> None:
    (path / name).unlink()
    assert reason_of(path) is Reason.MISSING


@pytest.mark.parametrize("name", ["manifest.json", "model.safetensors"])
def test_a_file_of_another_version_is_refused(path: Path, tiny: Tiny, name: str) -> None:
    other = path.parent / tiny.publish(path.parent, seed=1)
    shutil.copy(other / name, path / name)
    assert reason_of(path) is Reason.DIGEST_MISMATCH


def test_two_files_swapped_are_refused(path: Path) -> None:
    (path / "popular.json").rename(path / "keep")
    (path / "eval.json").rename(path / "popular.json")
    (path / "keep").rename(path / "eval.json")
    assert reason_of(path) is Reason.SIZE_MISMATCH


def test_a_renamed_version_is_refused(path: Path) -> None:
    renamed = path.rename(path.with_name(f"20301121T041200Z{path.name[-9:]}"))
    assert reason_of(renamed) is Reason.DIGEST_MISMATCH


def _symlink_file(path: Path) -> None:
    (path / "items.jsonl").rename(path.parent / "items.jsonl")
    (path / "items.jsonl").symlink_to(path.parent / "items.jsonl")


def _symlink_manifest(path: Path) -> None:
    (path / "manifest.json").rename(path.parent / "manifest.json")
    (path / "manifest.json").symlink_to("../manifest.json")


def _symlink_directory(path: Path) -> None:
    path.rename(path.parent / "elsewhere")
    path.symlink_to(path.parent / "elsewhere", target_is_directory=True)


def _pipe(path: Path) -> None:
    (path / "model.safetensors").unlink()
    os.mkfifo(path / "model.safetensors")


def _directory_for_file(path: Path) -> None:
    (path / "eval.json").unlink()
    (path / "eval.json").mkdir()


def _file_for_directory(path: Path) -> None:
    shutil.rmtree(path)
    path.write_text("not a directory")


def _subdirectory(path: Path) -> None:
    (path / "more").mkdir()


@pytest.mark.parametrize(
    "change",
    [
        _symlink_file,
        _symlink_manifest,
        _symlink_directory,
        _pipe,
        _directory_for_file,
        _file_for_directory,
        _subdirectory,
    ],
)
def test_anything_but_plain_files_in_a_plain_directory_is_refused(
    path: Path, change: Callable[[Path], None]
) -> None:
    change(path)
    assert reason_of(path) is Reason.UNSAFE_PATH


@pytest.mark.parametrize("name", ["model.pt", "weights.pkl", "x.PTH", "pytorch_model.bin"])
def test_pickle_beside_the_tensors_is_refused(path: Path, name: str) -> None:
    (path / name).write_bytes(b"\x80\x04.")
    assert reason_of(path) is Reason.PICKLE


def test_a_file_nobody_asked_for_is_refused(path: Path) -> None:
    (path / "notes.txt").write_text("hello")
    assert reason_of(path) is Reason.UNEXPECTED_FILE


@pytest.mark.parametrize(
    "name", ["..", "../x", "latest", "20261121T041200Z-1A2B3C4D", "20261121T041200Z-1a2b3c4d\n"]
)
def test_names_that_are_no_versions_are_refused(tmp_path: Path, name: str) -> None:
    assert reason_of(tmp_path / name) is Reason.UNSAFE_PATH


def test_a_version_that_is_not_there_is_missing(tmp_path: Path) -> None:
    assert reason_of(tmp_path / "20261121T041200Z-1a2b3c4d") is Reason.MISSING
