"""Why a refresh ended without a new model. `result` is a label of the trainer's metrics."""

from __future__ import annotations


class RefreshError(Exception):
    """A refresh did not publish; the message is one sentence for the operator."""

    result = "failed"


class BusyError(RefreshError):
    """Another run holds the lock; `wait_seconds` is when it can be free at the latest."""

    result = "busy"

    def __init__(self, message: str, wait_seconds: float) -> None:
        super().__init__(message)
        self.wait_seconds = wait_seconds


class LeaseLostError(RefreshError):
    """The lock's lease ran out or was taken over: what this run made must not be published."""

    result = "lost_lease"


class StoppedError(RefreshError):
    """The run was asked to stop; what was drained is safe, nothing was published."""

    result = "stopped"


class RefusedError(RefreshError):
    """The gate refused the new model; `reason` is one of gate.REASONS."""

    result = "refused"

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
