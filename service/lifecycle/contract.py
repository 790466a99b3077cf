"""What the service asks of the model manager: which engine serves, and how it is replaced."""

from __future__ import annotations

from typing import Literal, Protocol

from service.engine.contract import Engine, ModelInfo

ReloadResult = Literal["loaded", "unchanged", "refused", "busy", "rolled_back", "fallback"]
RELOAD_RESULTS: tuple[ReloadResult, ...] = (
    "loaded",
    "unchanged",
    "refused",
    "busy",
    "rolled_back",
    "fallback",
)
Side = Literal["candidate", "shadow"]
SIDES: tuple[Side, ...] = ("candidate", "shadow")
Variant = Literal["stable", "candidate", "shadow"]


class ReloadRefusedError(Exception):
    """The checkpoint was not accepted; the engine that served before still serves.

    `reason` is one sentence for an operator: what was wrong and with which version. It names
    no absolute paths, because the admin route shows it. `code` is one of the reasons of
    docs/checkpoint.md, empty when nothing was wrong with a checkpoint.
    """

    def __init__(self, reason: str, *, code: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.code = code


class ReloadBusyError(Exception):
    """Another reload or rollback is running; try again when it is done."""


class ModelObserver(Protocol):
    """Told by the manager what happened, on the event loop. `Metrics` is one."""

    def model_loaded(
        self, info: ModelInfo, *, loaded_at_unix: float, variant: Variant = "stable"
    ) -> None:
        """Note that `info` is what serves from now on; called once after every swap."""
        ...

    def model_unloaded(self, variant: Variant) -> None:
        """Note that nothing serves as `variant` any more."""
        ...

    def fallback(self, on: bool) -> None:
        """Note whether another version serves because the wanted one cannot."""
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

    @property
    def problem(self) -> str | None:
        """What is not as it should be, for an operator; None when all is well. No host paths."""
        ...

    @property
    def fallback(self) -> bool:
        """Whether another version than the wanted one serves because that one cannot."""
        ...

    async def start(self) -> None:
        """Load the configured or CURRENT checkpoint, then watch for a new one until `stop`.

        Refused: the newest sound version that served before it is loaded instead, and `fallback`
        is set. Returns also when nothing could be loaded: `current` stays None and the watcher
        goes on looking.
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

    async def promote(self, version: str) -> ModelInfo:
        """Verify, warm and swap to `version`, and serve it also after a restart.

        Raises ReloadRefusedError or ReloadBusyError; then nothing has changed.
        """
        ...

    async def rollback(self) -> ModelInfo:
        """Swap back to the newest sound version that served before, and stay there.

        Raises ReloadRefusedError when there is none, ReloadBusyError.
        """
        ...
