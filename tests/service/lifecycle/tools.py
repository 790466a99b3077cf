"""What the tests of this room share."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

from service.lifecycle.contract import ModelManager
from service.lifecycle.manager import CheckpointManager


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 - another thread or task brings it about
            await asyncio.sleep(0.005)


def serving(manager: ModelManager) -> str | None:
    engine = manager.current()
    return None if engine is None else engine.info.version


def spoil(root: Path, version: str, name: str = "model.safetensors") -> None:
    data = bytearray((root / version / name).read_bytes())
    data[-1] ^= 1
    (root / version / name).write_bytes(data)


def trouble(manager: CheckpointManager) -> str | None:
    """What the manager tells an operator now; a call, so that no earlier answer is presumed."""
    return manager.problem
