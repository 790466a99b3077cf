"""What the service asks of the model manager: which engine serves, and how it is replaced."""

from __future__ import annotations

from typing import Literal, Protocol

from service.engine.contract import Engine, ModelInfo

ReloadResult = Literal["loaded", "unchanged", "refused", "busy", "rolled_back"]
RELOAD_RESULTS: tuple[ReloadResult, ...] = (
    "loaded",
    "unchanged",
    "refused",
    "busy",
    "rolled_back",
)


class ReloadRefusedError(Exception):
    """The checkpoint was not accepted; the engine that served before still serves.

    `reason` is one sentence for an operator: what was wrong and with which version. It names
    no absolute paths, because the admin route shows it.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class ReloadBusyError(Exception):
    """Another reload or rollback is running; try again when it is done."""


class ModelObserver(Protocol):
    """Told by the manager what happened, on the event loop. `Metrics` is one."""

    def model_loaded(self, info: ModelInfo, *, loaded_at_unix: float) -> None:
        """Note that `info` is what serves from now on; called once after every swap."""
        ...

    def reload_finished(self, result: ReloadResult) -> None:
        """Count one finished attempt, the first load included."""
        ...


class ModelManager(Protocol):
    """Owner of the one swappable engine reference. Async methods run on the event loop."""

    def current(self) -> Engine | None:
        """Return the engine that serves now, verified and warm; None before the first load.

        Cheap, never blocks, callable from any thread. A batch calls it once and keeps what it got.
        """
        ...

    async def start(self) -> None:
        """Load the configured or CURRENT checkpoint, then watch for a new one until `stop`.

        Returns also when there is no checkpoint yet or it was refused: `current` stays None and
        the watcher goes on looking.
        """
        ...

    async def stop(self) -> None:
        """Stop watching and loading; the current engine stays usable. Idempotent."""
        ...

    async def reload(self, version: str | None) -> ModelInfo:
        """Verify, warm and swap to `version`, or to what CURRENT names when None.

        Returns what serves afterwards. Raises ReloadRefusedError or ReloadBusyError; then
        nothing has changed.
        """
        ...

    async def rollback(self) -> ModelInfo:
        """Swap back to the version that served before, and stay there until told otherwise.

        Raises ReloadRefusedError when there is none or it no longer verifies, ReloadBusyError.
        """
        ...
