"""Versions beside the stable one: a candidate that answers a share of the users, and a shadow.

Nothing here can hurt the stable version: a side that is refused stays empty, its users get the
stable version, and the problem is told.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from models.checkpoint.manifest import is_version
from service.engine.contract import Engine, ModelInfo
from service.lifecycle.contract import SIDES, ModelObserver, ReloadRefusedError, Side
from service.lifecycle.exclusive import Exclusive
from service.lifecycle.loader import LoadingStoppedError, RefusalError
from service.lifecycle.share import in_share
from service.lifecycle.watcher import Watcher
from service.lifecycle.workshop import Workshop

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class SideConfig:
    """Which version a side starts with, and how many percent of the users it gets."""

    version: str | None = None
    percent: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class SideStatus:
    """What an operator sees of a side; `info` is None while nothing is loaded."""

    wanted: str | None
    info: ModelInfo | None
    percent: float
    problem: str | None


@dataclass(slots=True)
class _Slot:
    wanted: str | None
    percent: float
    engine: Engine | None = None
    problem: str | None = None


class SideModels:
    """The candidate and the shadow of one model root. Methods run on the event loop."""

    def __init__(
        self,
        root: Path,
        load: Callable[[Path], Engine],
        *,
        observer: ModelObserver,
        config: Mapping[Side, SideConfig],
        salt: str,
        max_batch: int = 16,
        poll_seconds: float = 2.0,
        retry_seconds: float = 30.0,
    ) -> None:
        self._observer = observer
        self._salt = salt
        self._slots = {
            side: _Slot(wanted=config[side].version, percent=config[side].percent) for side in SIDES
        }
        self._workshop = Workshop(root, load, max_batch=max_batch, retry_seconds=retry_seconds)
        self._attempts: Exclusive[ModelInfo] = Exclusive()
        self._watcher = Watcher(self._look, poll_seconds=poll_seconds, what="candidate or shadow")

    def engine(self, side: Side) -> Engine | None:
        """Return what this side serves now; callable from any thread."""
        return self._slots[side].engine

    def takes(self, side: Side, user_id: str | None) -> Engine | None:
        """Return the side's engine when it is loaded and this user belongs to its share."""
        slot = self._slots[side]
        if slot.engine is None:
            return None
        salt = f"{side}\0{self._salt}"
        return slot.engine if in_share(user_id, percent=slot.percent, salt=salt) else None

    def status(self, side: Side) -> SideStatus:
        """Return what an operator sees of this side."""
        slot = self._slots[side]
        return SideStatus(
            wanted=slot.wanted,
            info=None if slot.engine is None else slot.engine.info,
            percent=slot.percent,
            problem=slot.problem,
        )

    def set_percent(self, side: Side, percent: float) -> None:
        """Give this side `percent` (0 to 100) of the users, from the next request on."""
        self._slots[side].percent = percent

    async def start(self) -> None:
        """Load the configured versions, then watch over refused ones until `stop`."""
        await self._watcher.start()

    async def stop(self) -> None:
        """Stop watching and loading. Idempotent."""
        self._workshop.stop()
        await self._watcher.stop()
        await self._attempts.stop()
        self._workshop.close()

    async def load(self, side: Side, version: str) -> ModelInfo:
        """Verify and warm `version` and serve it on this side.

        Raises ReloadRefusedError or ReloadBusyError; then the side is as it was.
        """
        return await self._attempts.run(lambda: self._load(side, version))

    def unload(self, side: Side) -> None:
        """Serve nothing on this side any more; batches under way are finished."""
        slot = self._slots[side]
        slot.wanted = slot.problem = None
        if slot.engine is not None:
            slot.engine = None
            self._observer.model_unloaded(side)

    async def _load(self, side: Side, version: str) -> ModelInfo:
        slot = self._slots[side]
        try:
            engine = await self._workshop.load(version)
        except RefusalError as refusal:
            named = f"version {version}: {refusal}" if is_version(version) else str(refusal)
            slot.problem = named
            self._observer.reload_finished("refused")
            logger.error("the %s was refused (%s): %s", side, refusal.reason, named)
            raise ReloadRefusedError(named, code=refusal.reason) from None
        except LoadingStoppedError:
            raise ReloadRefusedError("the service is stopping") from None
        slot.engine, slot.wanted, slot.problem = engine, version, None
        self._observer.model_loaded(engine.info, loaded_at_unix=time.time(), variant=side)
        self._observer.reload_finished("loaded")
        logger.info("version %s serves as %s", version, side)
        return engine.info

    async def _look(self) -> None:
        for side, slot in self._slots.items():
            wanted = slot.wanted
            if wanted is None or slot.engine is not None or self._attempts.busy:
                continue
            if not await self._workshop.in_vain(wanted):
                with suppress(ReloadRefusedError):
                    await self.load(side, wanted)
