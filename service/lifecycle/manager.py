"""Which engine serves: verified in a second thread, swapped as one reference, rolled back.

Everything but the work of `_Loader` runs on the event loop, so no lock is needed: `_busy` is
the one flag. Checkpoints stay where they are; only a rollback moves CURRENT.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from models.checkpoint import store
from models.checkpoint.errors import CheckpointError
from models.checkpoint.manifest import is_version
from service.engine.contract import Engine, ModelInfo
from service.lifecycle.contract import (
    ModelObserver,
    ReloadBusyError,
    ReloadRefusedError,
    ReloadResult,
)
from service.lifecycle.loader import Fingerprint, Loader, LoadingStoppedError, RefusalError

logger = logging.getLogger(__name__)

T = TypeVar("T")

_REMEMBERED = 100
_NO_CURRENT = "the model root has no CURRENT; publish a checkpoint"


class CheckpointManager:
    """The ModelManager over a model root.

    `load` verifies the checkpoint in a directory and builds its engine; it runs in a thread of
    its own. With `pinned` that version is served and CURRENT is not followed. A version that was
    asked for by name is served until CURRENT changes. At most two engines are in memory: the one
    that serves and either the one before it or the one being tried.
    """

    def __init__(
        self,
        root: Path,
        load: Callable[[Path], Engine],
        *,
        observer: ModelObserver,
        poll_seconds: float = 2.0,
        max_batch: int = 16,
        pinned: str | None = None,
        retry_seconds: float = 30.0,
    ) -> None:
        self._root = root
        self._observer = observer
        self._poll_seconds = poll_seconds
        self._pinned = pinned
        self._retry_seconds = retry_seconds
        self._stopping = threading.Event()
        self._loader = Loader(root, load, max_batch=max_batch, stopping=self._stopping)
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="model-loader")
        self._engine: Engine | None = None
        self._previous: Engine | None = None
        self._previous_version: str | None = None
        # What CURRENT named when it was dealt with; the watcher acts when it names something else.
        self._settled: str | None = None
        self._refused: dict[str, tuple[Fingerprint, float]] = {}
        self._problem: str | None = "no checkpoint was looked for yet"
        self._busy = False
        self._watcher: asyncio.Task[None] | None = None
        self._attempt: asyncio.Task[ModelInfo] | None = None

    @property
    def problem(self) -> str | None:
        """What kept the last attempt from serving, one sentence; None after a success."""
        return self._problem

    def current(self) -> Engine | None:
        """Return the engine that serves now, None before the first load."""
        return self._engine

    async def start(self) -> None:
        """Load the pinned or CURRENT checkpoint, then watch until `stop`."""
        assert self._watcher is None, "start is called once"
        await self._look()
        self._watcher = asyncio.create_task(self._watch(), name="model-watcher")

    async def stop(self) -> None:
        """Stop watching and loading; the current engine stays usable. Idempotent."""
        self._stopping.set()
        tasks = [task for task in (self._watcher, self._attempt) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._executor.shutdown(wait=False, cancel_futures=True)

    async def reload(self, version: str | None) -> ModelInfo:
        """Verify, warm and swap to `version`, or to the pinned or CURRENT one when None.

        A version refused before is tried again. Raises ReloadRefusedError or ReloadBusyError.
        """
        return await self._exclusively(lambda: self._reload(version))

    async def rollback(self) -> ModelInfo:
        """Swap back to the version that served before and make CURRENT name it.

        After a restart, and when called again, it goes where `store.rollback` goes. Raises
        ReloadRefusedError or ReloadBusyError; then neither the engine nor CURRENT has changed.
        """
        return await self._exclusively(self._roll_back)

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(self._poll_seconds)
            try:
                await self._look()
            except Exception:  # the watcher outlives whatever a poll runs into
                logger.exception("looking for a new checkpoint failed")

    async def _look(self) -> None:
        """Load what is wanted unless it serves, was refused as it stands, or a reload runs."""
        try:
            wanted = await self._wanted()
            if wanted is None:
                self._problem = _NO_CURRENT
                return
            if wanted == self._settled:
                return
            if wanted in self._refused:
                fingerprint, retry_at = self._refused[wanted]
                now = await self._in_thread(lambda: self._loader.fingerprint(wanted))
                if now == fingerprint and time.monotonic() < retry_at:
                    return
        except CheckpointError as error:
            if self._problem != str(error):
                logger.error("CURRENT was refused: %s", error)
            self._problem = str(error)
            return
        if self._busy:
            return
        with suppress(ReloadRefusedError):
            await self._exclusively(lambda: self._reload(None))

    async def _exclusively(self, work: Callable[[], Awaitable[ModelInfo]]) -> ModelInfo:
        if self._busy or self._stopping.is_set():
            self._observer.reload_finished("busy")
            raise ReloadBusyError

        async def run() -> ModelInfo:
            try:
                return await work()
            finally:
                self._busy = False

        self._busy = True
        self._attempt = asyncio.create_task(run(), name="model-reload")
        # A caller that hangs up must not leave a swap half done, nor an error that nobody read.
        self._attempt.add_done_callback(lambda task: task.cancelled() or task.exception())
        try:
            return await asyncio.shield(self._attempt)
        except asyncio.CancelledError:
            if self._stopping.is_set() and self._attempt.cancelled():
                raise ReloadRefusedError("the service is stopping") from None
            raise

    async def _reload(self, version: str | None) -> ModelInfo:
        try:
            # Read before the load: whatever CURRENT names later is new to the watcher.
            named = await self._wanted()
        except CheckpointError as error:
            if version is None:
                raise self._refuse(None, RefusalError.of(error)) from None
            named = None
        wanted = named if version is None else version
        if wanted is None:
            raise self._refuse(None, RefusalError(reason="missing", message=_NO_CURRENT))
        engine = self._engine
        if engine is not None and engine.info.version == wanted:
            self._observer.reload_finished("unchanged")
        else:
            engine = await self._try(wanted)
            self._swap(engine, "loaded")
        self._settled = named
        self._problem = None
        return engine.info

    async def _roll_back(self) -> ModelInfo:
        serving = self._engine.info.version if self._engine is not None else None
        target, engine = self._previous_version, self._previous
        try:
            if target is None:
                target = await self._in_thread(lambda: store.rollback_target(self._root))
            if target is None or target == serving:
                message = "there is no earlier version to go back to"
                raise self._refuse(None, RefusalError(reason="no_rollback", message=message))
            if engine is None:
                engine = await self._try(target)
            if self._pinned is None:
                await self._in_thread(lambda: store.rollback(self._root, to=target))
        except CheckpointError as error:
            raise self._refuse(None, RefusalError.of(error)) from None
        self._swap(engine, "rolled_back")
        # The version rolled away from is not the way back from here.
        self._previous = self._previous_version = None
        self._settled = self._pinned or target
        return engine.info

    async def _try(self, version: str) -> Engine:
        """Return the warm engine of `version`; ReloadRefusedError, remembered, when it fails."""
        # Its version is kept, so that rolling back remains possible, from disk.
        self._previous = None
        try:
            return await self._in_thread(lambda: self._loader.load(version))
        except RefusalError as refusal:
            retry_at = time.monotonic() + (
                self._retry_seconds if refusal.transient else float("inf")
            )
            self._refused[version] = (refusal.fingerprint, retry_at)
            if len(self._refused) > _REMEMBERED:
                del self._refused[next(iter(self._refused))]
            raise self._refuse(version, refusal) from None
        except LoadingStoppedError:
            raise ReloadRefusedError("the service is stopping") from None

    def _swap(self, engine: Engine, result: ReloadResult) -> None:
        self._previous = self._engine
        self._previous_version = self._engine.info.version if self._engine is not None else None
        self._engine = engine
        self._refused.pop(engine.info.version, None)
        self._problem = None
        self._observer.model_loaded(engine.info, loaded_at_unix=time.time())
        self._observer.reload_finished(result)
        logger.info("version %s serves (%s)", engine.info.version, result)

    def _refuse(self, version: str | None, refusal: RefusalError) -> ReloadRefusedError:
        # Anything else came from a caller, and the refusal quotes it.
        named = version is not None and is_version(version)
        message = f"version {version}: {refusal}" if named else str(refusal)
        self._problem = message
        self._observer.reload_finished("refused")
        logger.error("checkpoint refused (%s): %s", refusal.reason, message)
        return ReloadRefusedError(message)

    async def _wanted(self) -> str | None:
        if self._pinned is not None:
            return self._pinned
        return await self._in_thread(lambda: store.current(self._root))

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._executor, work)
