"""Every knob of the service, read once at start from `CANET_*` environment variables."""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
)

from models.config import Submodel

PREFIX = "CANET_"
SECRETS = frozenset({"redis_url", "api_keys", "log_salt"})
# Read by the command line, the demo and the compose file, not by the service.
READ_ELSEWHERE = frozenset(
    {"CANET_CACHE", "CANET_MIRRORS", "CANET_OFFLINE", "CANET_REQUIRE_SERVERS"}
)
SCOPES = ("read", "write", "admin")
REDIS_SCHEMES = ("redis://", "rediss://", "unix://")
LEAST_KEY_LENGTH = 16

_DURATION = re.compile(r"^(\d+)(s|m|h|d)?$")
_SECONDS = {None: 1, "s": 1, "m": 60, "h": 3600, "d": 86400}
_SHA256 = re.compile(r"^sha256\$([0-9a-f]{64})$")


class SettingsError(ValueError):
    """Start-up cannot go on; the message lists every wrong variable, one a line."""

    def __init__(self, problems: list[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("invalid settings:\n" + "\n".join(f"  - {line}" for line in problems))


class ApiKey(BaseModel):
    """One accepted key, known by its SHA-256 only, and what it opens."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    digest: bytes = Field(repr=False)
    scopes: frozenset[str]


def _duration(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    match = _DURATION.match(value.strip())
    if match is None:
        raise ValueError("give seconds, or a number followed by s, m, h or d, such as 90d")
    return int(match[1]) * _SECONDS[match[2]]


def _words(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    return tuple(word for part in value.split(",") if (word := part.strip()))


def _keys(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    keys = []
    for place, entry in enumerate(_words(value), start=1):
        scopes_text, colon, key = entry.partition(":")
        scopes = frozenset(scopes_text.split("+"))
        if not colon or not scopes <= set(SCOPES):
            raise ValueError(
                f"entry {place} is not of the form 'read+write:KEY'; scopes are {', '.join(SCOPES)}"
            )
        hashed = _SHA256.match(key)
        if hashed is None and len(key) < LEAST_KEY_LENGTH:
            raise ValueError(
                f"the key of entry {place} is shorter than {LEAST_KEY_LENGTH} characters"
            )
        digest = bytes.fromhex(hashed[1]) if hashed else hashlib.sha256(key.encode()).digest()
        keys.append(ApiKey(digest=digest, scopes=scopes))
    return tuple(keys)


def _served_names(names: tuple[str, ...]) -> tuple[str, ...]:
    for name in names:
        Submodel.parse(name)
    return names


def _redis_url(url: SecretStr | None) -> SecretStr | None:
    if url is not None and not url.get_secret_value().startswith(REDIS_SCHEMES):
        raise ValueError(f"the URL must start with one of {', '.join(REDIS_SCHEMES)}")
    return url


Duration = Annotated[int, BeforeValidator(_duration), Field(ge=1)]
Words = Annotated[tuple[str, ...], BeforeValidator(_words)]
Port = Annotated[int, Field(ge=0, le=65535)]


class Settings(BaseModel):
    """The whole configuration, frozen; `CANET_<FIELD NAME>` sets each field."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    host: Annotated[str, Field(min_length=1, description="Address to listen on.")] = "127.0.0.1"
    port: Annotated[Port, Field(description="Port to listen on; 0 picks a free one.")] = 8000
    model_root: Annotated[Path, Field(description="Directory of checkpoints.")] = Path(
        "checkpoints"
    )
    model_version: Annotated[
        str | None,
        Field(min_length=1, description="Serve this version and do not follow `CURRENT`."),
    ] = None
    reload_poll_seconds: Annotated[
        float, Field(gt=0, le=3600, description="How often `CURRENT` is looked at.")
    ] = 2.0
    submodels: Annotated[
        Words,
        AfterValidator(_served_names),
        Field(description="Serve only these submodels, comma separated; empty: all published."),
    ] = ()
    price: Annotated[
        float | None,
        Field(
            ge=0,
            allow_inf_nan=False,
            description="What the router pays for compute; empty: as published.",
        ),
    ] = None
    torch_threads: Annotated[
        int, Field(ge=1, le=256, description="Threads that one network run may use.")
    ] = 1
    max_batch: Annotated[int, Field(ge=1, le=1024, description="Most queries in one batch.")] = 16
    batch_wait_ms: Annotated[
        float,
        Field(ge=0, le=1000, description="Longest wait for a batch to fill; never when idle."),
    ] = 2.0
    queue_limit: Annotated[
        int, Field(ge=1, le=100_000, description="Waiting queries beyond which 429 is answered.")
    ] = 256
    deadline_ms: Annotated[
        float,
        Field(ge=5, le=60_000, description="Time for one answer; then popular items, flagged."),
    ] = 200.0
    redis_url: Annotated[
        SecretStr | None,
        AfterValidator(_redis_url),
        Field(description="History store; empty: an embedded server is started. Secret."),
    ] = None
    redis_connect_timeout_ms: Annotated[
        float, Field(gt=0, le=60_000, description="Time to open a connection.")
    ] = 200.0
    redis_op_timeout_ms: Annotated[
        float, Field(gt=0, le=60_000, description="Time for one Redis operation.")
    ] = 25.0
    redis_max_connections: Annotated[
        int, Field(ge=1, le=10_000, description="Most connections to Redis.")
    ] = 64
    embedded_dir: Annotated[
        Path | None,
        Field(description="Where the embedded server keeps its data; empty: the user's cache."),
    ] = None
    history_max: Annotated[
        int, Field(ge=1, le=1000, description="Items remembered for a user.")
    ] = 100
    history_ttl: Annotated[
        Duration, Field(description="Idle time after which a user is forgotten.")
    ] = 90 * 86400
    ready_requires_redis: Annotated[
        bool, Field(description="Whether `/readyz` is 503 while Redis is away.")
    ] = False
    api_keys: Annotated[
        tuple[ApiKey, ...],
        BeforeValidator(_keys),
        Field(
            description="Accepted keys: `read+write:KEY,admin:KEY`, a key in clear (16 characters "
            "or more) or as `sha256$HEX`. Secret."
        ),
    ] = ()
    max_body: Annotated[
        int, Field(ge=1024, le=64 * 1024 * 1024, description="Longest request body, bytes.")
    ] = 1024 * 1024
    cors_origins: Annotated[
        Words, Field(description="Origins that browsers may call from; empty: none.")
    ] = ()
    log_level: Annotated[
        Literal["DEBUG", "INFO", "WARNING", "ERROR"],
        BeforeValidator(lambda value: value.upper() if isinstance(value, str) else value),
        Field(description="Least severe level that is logged."),
    ] = "INFO"
    log_format: Annotated[
        Literal["json", "text"], Field(description="`json`, or `text` for people.")
    ] = "json"
    log_salt: SecretStr = Field(
        default_factory=lambda: SecretStr(secrets.token_hex(16)),
        description="Salt of the user hashes in logs; empty: a fresh one per start. Secret.",
    )
    drain_seconds: Annotated[
        float,
        Field(ge=0, le=600, description="Time served after SIGTERM while `/readyz` is 503."),
    ] = 5.0
    grace_seconds: Annotated[
        float, Field(ge=0, le=600, description="Time that running requests get to finish.")
    ] = 20.0
    revision: Annotated[
        str, Field(max_length=64, description="Source revision, shown in `canet_build_info`.")
    ] = "unknown"

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
