"""One trainer at a time: a lock in Redis whose holder must keep renewing it."""

from __future__ import annotations

import os
import threading
import time
from types import TracebackType
from typing import Any, Self

import redis
from redis.exceptions import RedisError

from models.events import KEY_PREFIX
from training.refresh.errors import BusyError, LeaseLostError

_ACQUIRE = """
local left = redis.call('PTTL', KEYS[1])
if left > 0 then return {0, left} end
local fence = redis.call('INCR', KEYS[2])
redis.call('SET', KEYS[1], fence .. ':' .. ARGV[1], 'PX', ARGV[2])
return {1, fence}
"""
_RENEW = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return 1
"""
_RELEASE = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('DEL', KEYS[1])
"""
_RETRY_SECONDS = 0.2


class Lease:
    """Holds the lock while the context lasts; a thread renews it every third of the lease.

    The token is a number that rises with every holder, and a random part: a run that was asleep
    for longer than its lease finds another token there, and `ensure` tells it so.
    """

    def __init__(
        self, client: redis.Redis, *, seconds: float, wait_seconds: float, prefix: str = KEY_PREFIX
    ) -> None:
        self._client: Any = client
        self._seconds = seconds
        self._wait_seconds = wait_seconds
        self._key = f"{prefix}:trainer:lock"
        self._fence_key = f"{prefix}:trainer:fence"
        self._token = ""
        self._until = 0.0
        self._lost = threading.Event()
        self._done = threading.Event()
        self._thread: threading.Thread | None = None
        self.fence = 0

    @property
    def lost(self) -> bool:
        """Whether the lock is known to be another's, or its lease to have run out."""
        return self._lost.is_set() or time.monotonic() >= self._until

    def ensure(self) -> None:
        """Return when the lock is still held, renewed just now; else raise LeaseLostError."""
        try:
            held = not self._lost.is_set() and self._renew()
        except RedisError as error:
            raise LeaseLostError(
                f"the trainer's lock cannot be confirmed ({type(error).__name__}); nothing is "
                "published without it"
            ) from error
        if not held:
            raise LeaseLostError(
                f"the trainer's lock was lost: it was not renewed for {self._seconds:g} s, or "
                "somebody removed it; nothing of this run is published"
            )

    def __enter__(self) -> Self:
        random = os.urandom(8).hex()
        give_up = time.monotonic() + self._wait_seconds
        while True:
            began = time.monotonic()
            taken, number = self._client.eval(
                _ACQUIRE, 2, self._key, self._fence_key, random, int(1000 * self._seconds)
            )
            if taken:
                break
            if time.monotonic() >= give_up:
                raise BusyError(
                    f"another refresh is running: it holds the lock {self._key}, which ends with "
                    f"that run, or {number / 1000:.0f} s after its process died",
                    number / 1000,
                )
            time.sleep(_RETRY_SECONDS)
        self.fence = int(number)
        self._token = f"{self.fence}:{random}"
        self._until = began + self._seconds
        self._thread = threading.Thread(target=self._keep, name="lease", daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._done.set()
        assert self._thread is not None
        self._thread.join()
        try:
            self._client.eval(_RELEASE, 1, self._key, self._token)
        except RedisError:
            return  # it runs out by itself

    def _keep(self) -> None:
        while not self._done.wait(self._seconds / 3):
            try:
                if not self._renew():
                    return
            except RedisError:
                continue  # until the lease runs out there is time to try again

    def _renew(self) -> bool:
        began = time.monotonic()
        milliseconds = int(1000 * self._seconds)
        if not self._client.eval(_RENEW, 1, self._key, self._token, milliseconds):
            self._lost.set()
            return False
        self._until = began + self._seconds
        return True
