"""Ways to spoil a checkpoint. Each returns whether the forger then makes the digests fit again."""

from __future__ import annotations

import json
import os
import pickle
import random
import shutil
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load, save

FILES = (
    "manifest.json",
    "model.safetensors",
    "items.jsonl",
    "popular.json",
    "golden.jsonl",
    "eval.json",
)
LISTED = FILES[1:]


@dataclass(frozen=True, slots=True, kw_only=True)
class Forger:
    """A copy of a sound version to spoil, another sound version, and a place outside the root."""

    path: Path
    other: Path
    generator: random.Random
    outside: Path

    def file(self, names: tuple[str, ...] = FILES) -> Path:
        """Return one of the version's files."""
        return self.path / self.generator.choice(names)

    def tensors(self, change: Callable[[dict[str, torch.Tensor], str], None]) -> None:
        """Change one weight tensor, drawn by name."""
        path = self.path / "model.safetensors"
        tensors = load(path.read_bytes())
        weights = sorted(name for name in tensors if name.startswith("supernet."))
        change(tensors, self.generator.choice(weights))
        path.write_bytes(save(tensors))

    def rows(self, name: str, change: Callable[[list[Any]], None]) -> None:
        """Change the rows of a JSON Lines file."""
        path = self.path / name
        rows = [json.loads(line) for line in path.read_bytes().splitlines()]
        change(rows)
        path.write_bytes(b"".join(json.dumps(row).encode() + b"\n" for row in rows))

    def manifest(self, change: Callable[[dict[str, Any]], None]) -> None:
        """Change the manifest's values."""
        path = self.path / "manifest.json"
        values = json.loads(path.read_bytes())
        change(values)
        path.write_bytes(json.dumps(values).encode())


def _flip(forger: Forger) -> bool:
    path = forger.file()
    data = bytearray(path.read_bytes())
    for _ in range(forger.generator.randint(1, 4)):
        data[forger.generator.randrange(len(data))] ^= 1 << forger.generator.randrange(8)
    if bytes(data) == path.read_bytes():  # two flips of one bit
        data[0] ^= 1
    path.write_bytes(data)
    return False


def _truncate(forger: Forger) -> bool:
    path = forger.file()
    data = path.read_bytes()
    path.write_bytes(data[: forger.generator.randrange(len(data))])
    return False


def _truncate_signed(forger: Forger) -> bool:
    path = forger.path / "model.safetensors"
    data = path.read_bytes()
    path.write_bytes(data[: forger.generator.randrange(len(data))])
    return True


def _grow(forger: Forger) -> bool:
    path = forger.file()
    path.write_bytes(path.read_bytes() + forger.generator.randbytes(64))
    return False


def _lose(forger: Forger) -> bool:
    forger.file().unlink()
    return False


def _swap_two(forger: Forger) -> bool:
    one, two = forger.generator.sample(LISTED, 2)
    first, second = (forger.path / one).read_bytes(), (forger.path / two).read_bytes()
    (forger.path / one).write_bytes(second)
    (forger.path / two).write_bytes(first)
    return forger.generator.random() < 0.5


def _take_from_other(forger: Forger) -> bool:
    name = forger.generator.choice(("manifest.json", "model.safetensors", "golden.jsonl"))
    shutil.copyfile(forger.other / name, forger.path / name)
    return False


def _take_weights_signed(forger: Forger) -> bool:
    shutil.copyfile(forger.other / "model.safetensors", forger.path / "model.safetensors")
    return True


def _shape(forger: Forger) -> bool:
    def change(tensors: dict[str, torch.Tensor], name: str) -> None:
        tensors[name] = torch.stack([tensors[name], tensors[name]])

    forger.tensors(change)
    return True


def _dtype(forger: Forger) -> bool:
    def change(tensors: dict[str, torch.Tensor], name: str) -> None:
        tensors[name] = tensors[name].to(torch.float16)

    forger.tensors(change)
    return True


def _no_number(forger: Forger) -> bool:
    def change(tensors: dict[str, torch.Tensor], name: str) -> None:
        values = tensors[name].flatten()
        bad = forger.generator.choice((float("nan"), float("inf"), -float("inf")))
        values[forger.generator.randrange(len(values))] = bad

    forger.tensors(change)
    return True


def _rename_tensor(forger: Forger) -> bool:
    def change(tensors: dict[str, torch.Tensor], name: str) -> None:
        tensors[name + ".x"] = tensors.pop(name)

    forger.tensors(change)
    return True


def _huge_header(forger: Forger) -> bool:
    path = forger.path / "model.safetensors"
    size = forger.generator.choice((2**63 - 1, 2**40, 2**32, 2**21))
    path.write_bytes(struct.pack("<Q", size) + path.read_bytes()[8:])
    return True


def _header_of_noise(forger: Forger) -> bool:
    path = forger.path / "model.safetensors"
    data = bytearray(path.read_bytes())
    (length,) = struct.unpack("<Q", data[:8])
    start = 8 + forger.generator.randrange(length // 2)
    data[start : start + 16] = forger.generator.randbytes(16)
    path.write_bytes(data)
    return True


def _traverse(forger: Forger) -> bool:
    secret = forger.outside / "secret.json"
    secret.write_text("{}")

    def change(values: dict[str, Any]) -> None:
        names = ("../../secret.json", str(secret), "..", "/etc/passwd", "a/../../secret.json")
        values["files"][forger.generator.choice(names)] = values["files"].pop("eval.json")

    forger.manifest(change)
    return True


def _link(forger: Forger) -> bool:
    path = forger.file()
    target = forger.outside / f"linked-{path.name}"
    shutil.move(path, target)
    path.symlink_to(target)
    return False


def _link_directory(forger: Forger) -> bool:
    target = forger.outside / "linked-version"
    shutil.rmtree(target, ignore_errors=True)
    shutil.move(forger.path, target)
    forger.path.symlink_to(target, target_is_directory=True)
    return False


def _pipe(forger: Forger) -> bool:
    path = forger.file()
    path.unlink()
    os.mkfifo(path)
    return False


def _directory(forger: Forger) -> bool:
    path = forger.file()
    path.unlink()
    path.mkdir()
    return False


class _Bomb:
    """Leaves a trace when it is unpickled."""

    def __init__(self, trace: Path) -> None:
        self._trace = trace

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self._trace),)


def _pickle_beside(forger: Forger) -> bool:
    suffix = forger.generator.choice((".pt", ".pkl", ".bin", ".pth", ".ckpt"))
    bomb = pickle.dumps(_Bomb(forger.outside / "pickle-ran"))
    (forger.path / f"model{suffix}").write_bytes(bomb)
    return False


def _pickle_inside(forger: Forger) -> bool:
    forger.file(LISTED).write_bytes(pickle.dumps(_Bomb(forger.outside / "pickle-ran")))
    return True


def _json_bomb(forger: Forger) -> bool:
    name = forger.generator.choice(("eval.json", "popular.json"))
    (forger.path / name).write_bytes(b"[" * 100_000 + b"]" * 100_000)
    return True


def _not_json(forger: Forger) -> bool:
    path = forger.file(("items.jsonl", "popular.json", "golden.jsonl", "eval.json"))
    path.write_bytes(forger.generator.randbytes(200) + b"\n")
    return True


def _items_reversed(forger: Forger) -> bool:
    forger.rows("items.jsonl", lambda rows: rows.reverse())
    return True


def _items_short(forger: Forger) -> bool:
    forger.rows("items.jsonl", lambda rows: rows.pop(forger.generator.randrange(len(rows))))
    return True


def _items_twice(forger: Forger) -> bool:
    forger.rows("items.jsonl", lambda rows: rows.__setitem__(0, rows[-1]))
    return True


def _golden_scores(forger: Forger) -> bool:
    def change(rows: list[Any]) -> None:
        row = forger.generator.choice(rows)
        row["scores"] = [score + 1.0 for score in row["scores"]]

    forger.rows("golden.jsonl", change)
    return True


def _golden_gone(forger: Forger) -> bool:
    (forger.path / "golden.jsonl").write_bytes(b"")
    return True


def _popular_unknown(forger: Forger) -> bool:
    (forger.path / "popular.json").write_bytes(b'[["no such item", 1.0]]')
    return True


def _architecture(forger: Forger) -> bool:
    def change(values: dict[str, Any]) -> None:
        key, value = forger.generator.choice(
            (("num_items", 10**15), ("depths", [10**9]), ("widths", [2**60]), ("depths", "x"))
        )
        values["architecture"][key] = value

    forger.manifest(change)
    return True


def _format(forger: Forger) -> bool:
    version = forger.generator.choice((0, 2, 99, "1", True, None))
    forger.manifest(lambda values: values.update(format_version=version))
    return True


MUTATIONS: dict[str, Callable[[Forger], bool]] = {
    mutation.__name__.removeprefix("_"): mutation
    for mutation in (
        _flip,
        _truncate,
        _truncate_signed,
        _grow,
        _lose,
        _swap_two,
        _take_from_other,
        _take_weights_signed,
        _shape,
        _dtype,
        _no_number,
        _rename_tensor,
        _huge_header,
        _header_of_noise,
        _traverse,
        _link,
        _link_directory,
        _pipe,
        _directory,
        _pickle_beside,
        _pickle_inside,
        _json_bomb,
        _not_json,
        _items_reversed,
        _items_short,
        _items_twice,
        _golden_scores,
        _golden_gone,
        _popular_unknown,
        _architecture,
        _format,
    )
}
