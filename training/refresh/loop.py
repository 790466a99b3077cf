"""Refresh now and then every interval, until asked to stop."""

from __future__ import annotations

import time
from collections.abc import Callable

from models.checkpoint.errors import CheckpointError
from training.data.errors import DataError
from training.progress import Progress
from training.refresh.errors import BusyError, RefreshError, StoppedError
from training.refresh.metrics import RefreshMetrics
from training.refresh.refresh import Refreshed, RefreshRequest, refresh

# What a person can mend, or what mends itself: said, counted, and tried again next time.
EXPECTED = (RefreshError, DataError, CheckpointError, ValueError, OSError)
_STEP_SECONDS = 0.2


def keep_refreshing(
    request: RefreshRequest,
    interval_seconds: float,
    metrics: RefreshMetrics,
    progress: Progress,
    should_stop: Callable[[], bool],
    after_run: Callable[[Refreshed | None], None] = lambda found: None,
) -> None:
    """Refresh every `interval_seconds`, counted from begin to begin; return when asked to stop.

    A run that fails, or whose model is refused, is told of and tried again at its next turn; one
    that finds the lock taken tries again as soon as that can be free. `after_run` is called with
    what every run gave.
    """
    if interval_seconds <= 0:
        raise ValueError(f"the interval is {interval_seconds:g} s; it must be above 0")
    while not should_stop():
        began = time.monotonic()
        found: Refreshed | None = None
        wait = interval_seconds
        try:
            found = refresh(request, metrics, progress, should_stop)
        except StoppedError as error:
            progress.log(str(error))
        except BusyError as error:
            progress.log(str(error))
            wait = min(interval_seconds, max(1.0, error.wait_seconds))
        except EXPECTED as error:
            progress.log(f"refresh failed: {error}")
        after_run(found)
        left = began + wait
        if not should_stop():
            progress.log(f"next refresh in {max(0.0, left - time.monotonic()):.0f} s")
        while time.monotonic() < left and not should_stop():
            time.sleep(min(_STEP_SECONDS, max(0.0, left - time.monotonic())))
