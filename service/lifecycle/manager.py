"""Which engine serves: verified in a second thread, swapped as one reference, rolled back.

Everything but the work of the `Workshop` runs on the event loop, one attempt at a time.
Checkpoints stay where they are; only a rollback and a promotion move CURRENT.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from models.checkpoint.errors import CheckpointError
from models.checkpoint.manifest import is_version
from models.checkpoint.verified import verify_files
from service.engine.contract import Engine, ModelInfo
from service.lifecycle.contract import (
    ModelObserver,
    ReloadBusyError,
    ReloadRefusedError,
    ReloadResult,
)
from service.lifecycle.exclusive import Exclusive
from service.lifecycle.loader import LoadingStoppedError, RefusalError
from service.lifecycle.pointer import Pointer
from service.lifecycle.problems import About, Problems
from service.lifecycle.watcher import Watcher
from service.lifecycle.workshop import Workshop

logger = logging.getLogger(__name__)

_REFUSED_BEFORE: Final = (
    "version {} was refused before and has not changed since; the log, or a reload of it, says why"
)
_NO_CURRENT: Final = (
    "the model root has no CURRENT; publish a checkpoint, or name one with canet checkpoints pin"
)


class CheckpointManager:
    """The ModelManager over a model root.

    `load` verifies the checkpoint in a directory and builds its engine; it runs in a thread of
    its own. With `pinned` that version is served and CURRENT is not followed. A version that was
    asked for by name is served until CURRENT changes. At most two engines are in memory: the one
    that serves and either the one before it or the one being tried. `moved` is told of every
    version that this manager made CURRENT name.
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
        moved: Callable[[str], None] = lambda version: None,
    ) -> None:
        self._root = root
        self._observer = observer
        self._workshop = Workshop(
            root,
            load,
            max_batch=max_batch,
            retry_seconds=retry_seconds,
            serving=lambda: self._engine is not None,
        )
        self._pointer = Pointer(self._workshop, pinned=pinned, moved=moved)
        self._engine: Engine | None = None
        self._previous: Engine | None = None
        self._previous_version: str | None = None
        # What CURRENT named when it was dealt with; the watcher acts when it names something else.
        self._settled: str | None = None
        self._problems = Problems(
            lambda: observer.fallback(self.fallback), current="no checkpoint was looked for yet"
        )
        self._attempts: Exclusive[ModelInfo] = Exclusive()
        self._watcher = Watcher(self._look, poll_seconds=poll_seconds, what="checkpoint")

    @property
    def problem(self) -> str | None:
        """What is not as it should be, for an operator; None when all is well. No host paths."""
        return self._problems.text

    @property
    def fallback(self) -> bool:
        """Whether another version than the wanted one serves because that one cannot."""
        return self._engine is not None and "current" in self._problems

    def current(self) -> Engine | None:
        """Return the engine that serves now, None before the first load."""
        return self._engine

    def notice(self) -> None:
        """Look at CURRENT now instead of at the next poll; call it on the event loop."""
        self._watcher.notice()

    async def start(self) -> None:
        """Load the pinned or CURRENT checkpoint, or an older sound one; then watch until `stop`."""
        await self._watcher.start()

    async def stop(self) -> None:
        """Stop watching and loading; the current engine stays usable. Idempotent."""
        self._workshop.stop()
        await self._watcher.stop()
        await self._attempts.stop()
        self._workshop.close()

    async def reload(self, version: str | None) -> ModelInfo:
        """Verify, warm and swap to `version`, or to the pinned or CURRENT one when None.

        A version refused before is tried again. Raises ReloadRefusedError or ReloadBusyError.
        """
        return await self._exclusively(lambda: self._reload(version))

    async def promote(self, version: str) -> ModelInfo:
        """Verify, warm and swap to `version`, and make CURRENT name it.

        On a root that cannot be written it serves from memory, and `problem` says so. Raises
        ReloadRefusedError or ReloadBusyError; then nothing has changed.
        """
        return await self._exclusively(lambda: self._promote(version))

    async def rollback(self) -> ModelInfo:
        """Swap back to the newest sound version that served before and make CURRENT name it.

        Versions that are no longer sound are passed over, and `problem` names them. On a root
        that cannot be written the older version serves from memory, and `problem` says so.
        Raises ReloadRefusedError or ReloadBusyError; then neither engine nor CURRENT changed.
        """
        return await self._exclusively(self._roll_back)

    async def _look(self) -> None:
        """Load what is wanted unless it serves, was refused as it stands, or a reload runs."""
        if self._attempts.busy:
            return
        try:
            wanted = await self._pointer.wanted()
        except CheckpointError as error:
            self._problems.complain("current", f"CURRENT was refused: {error}")
        else:
            if wanted is None:
                self._problems.complain("current", _NO_CURRENT)
            elif wanted == self._settled:
                self._problems.settle("current")
                return
            elif await self._workshop.in_vain(wanted):
                if "current" not in self._problems:
                    self._problems.complain("current", _REFUSED_BEFORE.format(wanted))
            elif not self._attempts.busy:
                with suppress(ReloadRefusedError):
                    await self._exclusively(lambda: self._reload(None))
        if self._engine is None and self._pointer.pinned is None and not self._attempts.busy:
            await self._look_for_older()

    async def _look_for_older(self) -> None:
        """Have something serve rather than nothing; the watcher goes on looking at CURRENT."""
        try:
            targets = await self._pointer.ways_back()
        except CheckpointError:
            return
        untried = await self._workshop.worthwhile(targets)
        if untried and not self._attempts.busy:
            with suppress(ReloadRefusedError):
                await self._exclusively(lambda: self._fall_back(untried))

    async def _exclusively(self, work: Callable[[], Awaitable[ModelInfo]]) -> ModelInfo:
        try:
            return await self._attempts.run(work)
        except ReloadBusyError:
            self._observer.reload_finished("busy")
            raise

    async def _reload(self, version: str | None) -> ModelInfo:
        about: About = "current" if version is None else "attempt"
        try:
            # Read before the load: whatever CURRENT names later is new to the watcher.
            named = await self._pointer.wanted()
        except CheckpointError as error:
            if version is None:
                raise self._refuse(None, RefusalError.of(error), about) from None
            named = None
        wanted = named if version is None else version
        if wanted is None:
            refusal = RefusalError(reason="missing", message=_NO_CURRENT)
            raise self._refuse(None, refusal, about)
        engine = self._engine
        if engine is not None and engine.info.version == wanted:
            self._problems.settle()
            self._observer.reload_finished("unchanged")
        else:
            engine = await self._try(wanted, about)
            self._swap(engine, "loaded")
        self._settled = named
        return engine.info

    async def _fall_back(self, targets: Sequence[str]) -> ModelInfo:
        engine, passed_over = await self._first_sound(targets)
        if engine is None:
            raise ReloadRefusedError(f"no older version is sound: {passed_over}")
        cause = self._problems.of("current")
        self._swap(engine, "fallback")
        self._problems.complain("current", cause)
        self._problems.complain(
            "serving",
            f"version {engine.info.version} serves instead, until CURRENT names a sound version"
            + _passing(passed_over),
        )
        return engine.info

    async def _promote(self, version: str) -> ModelInfo:
        engine = self._engine
        if engine is None or engine.info.version != version:
            engine = await self._try(version, "attempt")
        note = await self._moved(self._pointer.move_to(version))
        if engine is self._engine:
            self._observer.reload_finished("unchanged")
        else:
            self._swap(engine, "loaded")
        await self._stay(version, note)
        return engine.info

    async def _roll_back(self) -> ModelInfo:
        serving = self._engine.info.version if self._engine is not None else None
        try:
            targets = await self._pointer.ways_back()
        except CheckpointError as error:
            raise self._refuse(None, RefusalError.of(error), "attempt") from None
        if {"current", "serving"} <= set(self._problems) and serving in targets:
            # CURRENT alone is left to go back: to what serves already.
            engine, passed_over = self._engine, ""
        else:
            names = [*([self._previous_version] if self._previous_version else []), *targets]
            choices = [name for name in dict.fromkeys(names) if name != serving]
            engine, passed_over = await self._first_sound(choices)
        if engine is None:
            message = "there is no earlier version to go back to" + _passing(passed_over)
            refusal = RefusalError(reason="no_rollback", message=message)
            raise self._refuse(None, refusal, "attempt")
        target = engine.info.version
        note = await self._moved(self._pointer.move_back_to(target))
        self._swap(engine, "rolled_back")
        # The version rolled away from is not the way back from here.
        self._previous = self._previous_version = None
        await self._stay(target, note)
        if passed_over:
            self._problems.complain(
                "attempt", f"rolled back to version {target}{_passing(passed_over)}"
            )
        return engine.info

    async def _first_sound(self, versions: Sequence[str]) -> tuple[Engine | None, str]:
        """Return the warm engine of the first sound version, and who was passed over and why."""
        passed_over: list[str] = []
        for version in versions:
            try:
                return await self._sound(version), "; ".join(passed_over)
            except ReloadRefusedError as refused:
                if self._workshop.stopping:
                    raise
                passed_over.append(refused.reason)
        return None, "; ".join(passed_over)

    async def _sound(self, version: str) -> Engine:
        previous = self._previous
        if previous is None or previous.info.version != version:
            return await self._try(version, None)
        try:
            # The engine in memory was checked, and its directory must still be the one it was:
            # a restart and the other replicas will read it.
            await self._workshop.run(lambda: verify_files(self._root / version))
        except CheckpointError as error:
            raise self._refuse(version, RefusalError.of(error), None) from None
        return previous

    async def _moved(self, move: Awaitable[str | None]) -> str | None:
        try:
            return await move
        except RefusalError as refusal:
            raise self._refuse(None, refusal, "attempt") from None

    async def _stay(self, version: str, note: str | None) -> None:
        """Keep serving `version` until CURRENT names something new."""
        if note is None:
            self._settled = self._pointer.pinned or version
            return
        self._settled = await self._pointer.named()
        self._problems.complain("serving", note)

    async def _try(self, version: str, about: About | None) -> Engine:
        """Return the warm engine of `version`; ReloadRefusedError, remembered, when it fails."""
        # Its version is kept, so that rolling back remains possible, from disk.
        self._previous = None
        try:
            return await self._workshop.load(version)
        except RefusalError as refusal:
            raise self._refuse(version, refusal, about) from None
        except LoadingStoppedError:
            raise ReloadRefusedError("the service is stopping") from None

    def _swap(self, engine: Engine, result: ReloadResult) -> None:
        if engine is not self._engine:
            self._previous = self._engine
            self._previous_version = self._engine.info.version if self._engine else None
        self._engine = engine
        self._problems.settle()
        self._observer.model_loaded(engine.info, loaded_at_unix=time.time())
        self._observer.reload_finished(result)
        logger.info("version %s serves (%s)", engine.info.version, result)

    def _refuse(
        self, version: str | None, refusal: RefusalError, about: About | None
    ) -> ReloadRefusedError:
        # Anything else came from a caller, and the refusal quotes it.
        named = version is not None and is_version(version)
        message = f"version {version}: {refusal}" if named else str(refusal)
        self._observer.reload_finished("refused")
        logger.error("checkpoint refused (%s): %s", refusal.reason, message)
        if about is not None:
            self._problems.complain(about, message)
        return ReloadRefusedError(message, code=refusal.reason)


def _passing(passed_over: str) -> str:
    return f"; passed over: {passed_over}" if passed_over else ""
