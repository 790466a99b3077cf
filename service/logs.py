"""Structured logs: one canonical JSON line per request, users only as salted hashes."""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import sys
import time
from contextlib import nullcontext
from datetime import UTC, datetime
from functools import cache, lru_cache
from typing import Any, Literal, TextIO

from pydantic_core import to_json

ACCESS = "canet.access"
AUDIT = "canet.audit"
_FIELDS = "canet_fields"
_encode = json.JSONEncoder(default=str).encode
_access = logging.getLogger(ACCESS)
_audit = logging.getLogger(AUDIT)


class UserHasher:
    """Turns user ids into short hashes that cannot be turned back without the salt."""

    def __init__(self, salt: str) -> None:
        self._key = hashlib.blake2b(salt.encode(), digest_size=32).digest()

    def __call__(self, user_id: str) -> str:
        """Return 16 hex digits, the same for the same user and salt."""
        return hashlib.blake2b(
            user_id.encode("utf-8", "surrogatepass"), key=self._key, digest_size=8
        ).hexdigest()


class JsonFormatter(logging.Formatter):
    """One JSON object a line; what a record carries as fields stands beside the message."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as one line of ASCII JSON."""
        line: dict[str, Any] = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **getattr(record, _FIELDS, {}),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        fast = to_json(line, inf_nan_mode="null", fallback=str)
        if fast.isascii() and b"\x7f" not in fast:
            return fast.decode("ascii")
        return _encode(line)


class TextFormatter(logging.Formatter):
    """The same for people: time, level, message, then `name=value`."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as text; control characters are escaped."""
        fields: dict[str, Any] = getattr(record, _FIELDS, {})
        words = [f"{name}={json.dumps(value, default=str)}" for name, value in fields.items()]
        message = record.getMessage().encode("unicode_escape").decode("ascii")
        text = " ".join([_time(record), record.levelname.lower(), message, *words])
        if record.exc_info:
            text += "\n" + self.formatException(record.exc_info)
        return text


class GatheringHandler(logging.StreamHandler[TextIO]):
    """Writes the lines of one turn of the event loop together; a write is a system call.

    Warnings and worse, and whatever another thread logs, are written at once.
    """

    def __init__(self, stream: TextIO) -> None:
        super().__init__(stream)
        self._lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Take the line; it is written before the event loop waits again."""
        try:
            self._lines.append(self.format(record))
            if record.levelno >= logging.WARNING:
                self.flush()
            elif len(self._lines) == 1:
                asyncio.get_running_loop().call_soon(self.flush)
        except RuntimeError:  # no event loop here
            self.flush()
        except Exception:
            self.handleError(record)

    def flush(self) -> None:
        """Write what was taken."""
        with self.lock or nullcontext():
            if self._lines:
                lines, self._lines = self._lines, []
                self.stream.write("\n".join(lines) + self.terminator)
            super().flush()


def configure(
    level: str, log_format: Literal["json", "text"], stream: TextIO | None = None
) -> None:
    """Make every logger of this process write to `stream` (standard output) in one format."""
    handler = GatheringHandler(sys.stdout if stream is None else stream)
    handler.setFormatter(JsonFormatter() if log_format == "json" else TextFormatter())
    # No format shows these, and looking them up is a fifth of a line.
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access"):
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True
    # The canonical line says all of it, without client addresses and raw paths.
    logging.getLogger("uvicorn.access").disabled = True


def log_audit(what: str, fields: dict[str, Any]) -> None:
    """Write what an operator changed, whatever the level of other lines."""
    record = _audit.makeRecord(AUDIT, logging.WARNING, "", 0, "audit", (), None)
    setattr(record, _FIELDS, {"what": what, **fields})
    _audit.handle(record)


def log_request(fields: dict[str, Any], *, level: int = logging.INFO) -> None:
    """Write the canonical line of one request."""
    if _access.isEnabledFor(level):
        _access.handle(_request_record(level, fields))


def _request_record(level: int, fields: dict[str, Any]) -> logging.LogRecord:
    """Return the record of one canonical line.

    A copy of one that was made before: making one asks for file, line, process and thread, which
    no format shows.
    """
    made = _like(level)
    record = logging.LogRecord.__new__(logging.LogRecord)
    now = time.time()
    record.__dict__ = {
        **made.__dict__,
        "created": now,
        "msecs": (now - int(now)) * 1000,
        "relativeCreated": made.relativeCreated + (now - made.created) * 1000,
        _FIELDS: fields,
    }
    return record


@cache
def _like(level: int) -> logging.LogRecord:
    return _access.makeRecord(ACCESS, level, "", 0, "request", (), None)


def _time(record: logging.LogRecord) -> str:
    seconds, milliseconds = divmod(int(record.created * 1000), 1000)
    return f"{_second(seconds)}.{milliseconds:03d}+00:00"


@lru_cache(maxsize=1)
def _second(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")
