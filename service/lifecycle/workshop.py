"""One thread that turns versions into warm engines, and remembers what it refused."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from service.engine.contract import Engine
from service.lifecycle.loader import Loader, RefusalError
from service.lifecycle.manners import give_memory_back, give_way, quietly
from service.lifecycle.refusals import Refusals

T = TypeVar("T")


class Workshop:
    """Loads one version at a time beside the event loop.

    `load` verifies the checkpoint in a directory and builds its engine; `max_batch` is the
    largest batch that is warmed. A refusal that may pass by itself is due again after
    `retry_seconds`. While somebody is `serving` a load gives way to that; before, nothing is
    more urgent.
    """

    def __init__(
        self,
        root: Path,
        load: Callable[[Path], Engine],
        *,
        max_batch: int,
        retry_seconds: float,
        serving: Callable[[], bool] = lambda: True,
    ) -> None:
        self.root = root
        self._serving = serving
        self._stopping = threading.Event()
        self._loader = Loader(root, load, max_batch=max_batch, stopping=self._stopping)
        self._refusals = Refusals(retry_seconds=retry_seconds)
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="model-loader")

    @property
    def stopping(self) -> bool:
        """Whether `stop` was called; nothing is loaded any more."""
        return self._stopping.is_set()

    async def load(self, version: str) -> Engine:
        """Return the verified, warm engine of `version`, tried also if refused before.

        Raises RefusalError, which is remembered, or LoadingStoppedError.
        """
        try:
            with quietly():
                engine = await self.run(lambda: self._load(version))
        except RefusalError as refusal:
            self._refusals.remember(version, refusal)
            raise
        self._refusals.forget(version)
        return engine

    def _load(self, version: str) -> Engine:
        if self._serving():
            give_way()
        try:
            return self._loader.load(version)
        finally:
            give_memory_back()

    async def in_vain(self, version: str) -> bool:
        """Return whether `version` was refused as it stands, and no retry is due."""
        if version not in self._refusals:
            return False
        fingerprint = await self.run(lambda: self._loader.fingerprint(version))
        return self._refusals.stands(version, fingerprint)

    async def worthwhile(self, versions: Iterable[str]) -> list[str]:
        """Return the versions that are not `in_vain`, in order."""
        return [version for version in versions if not await self.in_vain(version)]

    async def run(self, work: Callable[[], T]) -> T:
        """Return what `work` returns, done in the thread."""
        return await asyncio.get_running_loop().run_in_executor(self._executor, work)

    def stop(self) -> None:
        """End the load under way at its next step. Idempotent."""
        self._stopping.set()

    def close(self) -> None:
        """Take no more work; what runs is not waited for."""
        self._executor.shutdown(wait=False, cancel_futures=True)
