"""Every knob of the service, read once at start from `CANET_*` environment variables."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import SecretStr, ValidationError

from service.config.access import Access, ApiKey
from service.config.compute import Compute
from service.config.listening import Listening
from service.config.model import Model
from service.config.process import Process
from service.config.store import Store

__all__ = ["PREFIX", "SECRETS", "ApiKey", "Settings", "SettingsError"]

PREFIX = "CANET_"
SECRETS = frozenset({"redis_url", "api_keys", "log_salt"})
# Read by the command line, the demo and the compose file, not by the service.
READ_ELSEWHERE = frozenset(
    {"CANET_CACHE", "CANET_MIRRORS", "CANET_OFFLINE", "CANET_REQUIRE_SERVERS"}
)


class SettingsError(ValueError):
    """Start-up cannot go on; the message lists every wrong variable, one a line."""

    def __init__(self, problems: list[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("invalid settings:\n" + "\n".join(f"  - {line}" for line in problems))


# Pydantic takes the fields of the last base first; docs/settings.md shows them in this order.
class Settings(Process, Access, Store, Compute, Model, Listening):
    """The whole configuration, frozen; `CANET_<FIELD NAME>` sets each field.

    Each section of it is a file in `service/config`.
    """

    @classmethod
    def from_env(cls, environ: Mapping[str, str]) -> Settings:
        """Return the settings of `environ`; empty values count as not set.

        Secrets may come from a file named by `CANET_<NAME>_FILE`. Raises SettingsError, which
        lists every unknown variable and every invalid value, secrets never shown.
        """
        problems: list[str] = []
        values: dict[str, str] = {}
        for variable in sorted(environ):
            if not variable.startswith(PREFIX) or variable in READ_ELSEWHERE:
                continue
            name = variable.removeprefix(PREFIX).lower()
            text = environ[variable]
            if name.endswith("_file") and name.removesuffix("_file") in SECRETS:
                name = name.removesuffix("_file")
                if not text:
                    continue
                if environ.get(PREFIX + name.upper()):
                    problems.append(f"{variable} and {PREFIX}{name.upper()} are both set; keep one")
                    continue
                try:
                    text = Path(text).read_text(encoding="utf-8").strip()
                except (OSError, UnicodeDecodeError) as error:
                    problems.append(f"{variable} names {text!r}, which cannot be read: {error}")
                    continue
            elif name not in cls.model_fields:
                problems.append(f"{variable} is not a setting; see docs/settings.md")
                continue
            if text:
                values[name] = text
        try:
            settings = cls.model_validate(values)
        except ValidationError as error:
            problems += [_sentence(entry) for entry in error.errors()]
        if problems:
            raise SettingsError(problems)
        return settings

    def with_redis(self, url: str) -> Settings:
        """Return the same settings with the history store at `url`."""
        return self.model_copy(update={"redis_url": SecretStr(url)})

    @property
    def deadline_seconds(self) -> float:
        """Time for one answer, seconds."""
        return self.deadline_ms / 1000


def _sentence(entry: Any) -> str:
    name = str(entry["loc"][0])
    shown = "has an invalid value" if name in SECRETS else f"is {entry['input']!r}"
    if entry["type"] == "value_error":
        return f"{PREFIX}{name.upper()} {shown}: {entry['ctx']['error']}"
    return f"{PREFIX}{name.upper()} {shown}: {entry['msg'].removeprefix('Input ')}"
