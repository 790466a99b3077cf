"""The manifest of a checkpoint directory: what is inside, how it was made, how to verify it."""

from __future__ import annotations

import re
from datetime import datetime
from hashlib import sha256
from typing import Annotated, Any, Final, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    StringConstraints,
    ValidationError,
    field_validator,
    model_validator,
)

from models.checkpoint.elastic import ElasticEntry, SpecializedEntry
from models.checkpoint.errors import CheckpointError, Reason
from models.checkpoint.strict_json import parse_json
from models.config import Submodel, SupernetConfig
from models.lengths import buckets, check_length

FORMAT_VERSION: Final = 1
MANIFEST_FILE: Final = "manifest.json"
TENSORS_FILE: Final = "model.safetensors"
ITEMS_FILE: Final = "items.jsonl"
POPULAR_FILE: Final = "popular.json"
GOLDEN_FILE: Final = "golden.jsonl"
EVALUATION_FILE: Final = "eval.json"

# What the manifest lists, with the most bytes each file may hold.
FILE_LIMITS: Final[dict[str, int]] = {
    TENSORS_FILE: 32 * 2**30,
    ITEMS_FILE: 8 * 2**30,
    POPULAR_FILE: 8 * 2**20,
    GOLDEN_FILE: 64 * 2**20,
    EVALUATION_FILE: 16 * 2**20,
}
MANIFEST_LIMIT: Final = 4 * 2**20

# Bounds of an architecture, so that a forged one cannot cost memory before it is refused.
MAX_ITEMS: Final = 100_000_000
MAX_LENGTH: Final = 10_000
MAX_WIDTH: Final = 16_384
MAX_DEPTH: Final = 256
MAX_AXIS: Final = 32
MAX_HIDDEN: Final = 65_536

_VERSION = re.compile(r"[0-9]{8}T[0-9]{6}Z-[0-9a-f]{8}")
_STRICT = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

Name = Annotated[str, StringConstraints(min_length=1, max_length=64)]
Timestamp = Annotated[str, StringConstraints(min_length=1, max_length=64)]
Flops = Annotated[int, Field(ge=0, lt=2**63)]


def is_version(name: str) -> bool:
    """Whether `name` is the name of a version: UTC time and digest, 20261121T041200Z-1a2b3c4d."""
    return _VERSION.fullmatch(name) is not None


def name_digest(data: bytes, version: str) -> str:
    """Return the digest that ends a version's name: of the manifest's bytes without that name.

    It ties the manifest to its directory, as the manifest's own digests tie the other files.
    """
    return sha256(data.replace(version.encode(), b"", 1)).hexdigest()[:8]


class FileEntry(BaseModel):
    """SHA-256 (hexadecimal) and size in bytes of one file."""

    model_config = _STRICT

    sha256: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
    size: Annotated[int, Field(ge=0, lt=2**63)]


class SubmodelEntry(BaseModel):
    """One served submodel with its FLOPs at full length; a multiply-add counts as two.

    `flops_ratio` is the total divided by the full network's encoder and scoring. `body_bytes` is
    what it reads beside the tables, a kernel that layers share once; older ones do not say.
    """

    model_config = _STRICT

    name: Name
    flops_router: Flops
    flops_encoder: Flops
    flops_scoring: Flops
    flops_ratio: Annotated[float, Field(gt=0, le=4)]
    body_bytes: Annotated[int, Field(ge=0, lt=2**63)] | None = None

    @property
    def flops(self) -> int:
        """Router, encoder and scoring together."""
        return self.flops_router + self.flops_encoder + self.flops_scoring


class PricePoint(BaseModel):
    """What the validation split showed with one price of compute."""

    model_config = _STRICT

    price: Annotated[float, Field(ge=0)]
    flops_ratio: Annotated[float, Field(ge=0)]
    ndcg_10: Annotated[float, Field(ge=0, le=1)]


class RouterEntry(BaseModel):
    """The router: outputs in the order of `submodels`, its sizes, the price it was tuned to."""

    model_config = _STRICT

    submodels: Annotated[tuple[Name, ...], Field(min_length=1, max_length=4096)]
    hidden: Annotated[int, Field(ge=1, le=MAX_HIDDEN)]
    features: Annotated[int, Field(ge=1, le=MAX_HIDDEN)]
    price: Annotated[float, Field(ge=0)]
    price_curve: Annotated[tuple[PricePoint, ...], Field(max_length=1000)] = ()


class Manifest(BaseModel):
    """`manifest.json`: frozen, every key known, checked against itself.

    `architecture` is `SupernetConfig.to_json`; `submodels` is the served set by rising cost and
    ends with the full network; `repeats` says that people consume the same item again. `elastic`
    says how the item table may be narrowed, `specialized` how it was.
    """

    model_config = _STRICT

    format_version: Literal[1]
    version: str
    created_at: Timestamp
    data_until: Timestamp | None
    code_revision: Annotated[str, StringConstraints(max_length=200)]
    parent: str | None
    files: dict[str, FileEntry]
    architecture: dict[str, JsonValue]
    submodels: Annotated[tuple[SubmodelEntry, ...], Field(min_length=1, max_length=4096)]
    router: RouterEntry
    metrics: dict[str, float]
    training: dict[str, JsonValue]
    repeats: bool
    elastic: ElasticEntry | None = None
    specialized: SpecializedEntry | None = None

    @property
    def config(self) -> SupernetConfig:
        """The architecture as a configuration."""
        return SupernetConfig.from_json(self.architecture)

    def submodel(self, name: str) -> SubmodelEntry:
        """Return the served submodel called `name`; KeyError when it is not served."""
        for entry in self.submodels:
            if entry.name == name:
                return entry
        raise KeyError(name)

    @field_validator("version", "parent")
    @classmethod
    def _check_version(cls, value: str | None) -> str | None:
        if value is not None and not is_version(value):
            raise ValueError("must look like 20261121T041200Z-1a2b3c4d")
        return value

    @field_validator("created_at", "data_until")
    @classmethod
    def _check_time(cls, value: str | None) -> str | None:
        if value is not None and datetime.fromisoformat(value).tzinfo is None:
            raise ValueError("must be an ISO 8601 time with a time zone")
        return value

    @field_validator("files")
    @classmethod
    def _check_files(cls, value: dict[str, FileEntry]) -> dict[str, FileEntry]:
        if set(value) != set(FILE_LIMITS):
            raise ValueError(f"must list exactly {sorted(FILE_LIMITS)}")
        return value

    @field_validator("architecture")
    @classmethod
    def _check_architecture(cls, value: dict[str, JsonValue]) -> dict[str, JsonValue]:
        check_architecture(value)
        return value

    @model_validator(mode="after")
    def _check_submodels(self) -> Manifest:
        names = [entry.name for entry in self.submodels]
        served = [Submodel.parse(name) for name in names]
        if len(set(served)) != len(served):
            raise ValueError("a served submodel stands twice")
        grid = set(self.config.submodels)
        unknown = sorted(one.name for one in served if one.slice not in grid)
        if unknown:
            raise ValueError(f"served submodels {unknown} are not in the grid")
        for one in served:
            check_length(one, self.config.max_length)
        if names[-1] != self.config.largest.name:
            raise ValueError(f"the last served submodel must be {self.config.largest.name}")
        costs = [entry.flops for entry in self.submodels]
        if costs != sorted(costs):
            raise ValueError("served submodels must stand by rising FLOPs")
        self._check_elastic()
        choices = self.router.submodels
        if len(set(choices)) != len(choices) or not set(choices) <= set(names):
            raise ValueError("the router may choose only served submodels, each once")
        return self

    def _check_elastic(self) -> None:
        config, elastic = self.config, self.elastic
        if elastic is None:
            return
        if self.specialized is not None or config.table is not None:
            raise ValueError("an elastic table is stored whole and not specialised")
        if elastic.stops[-1] != config.rows or elastic.widths[-1] != config.emb_width:
            raise ValueError("elastic must end with the table's last row and whole width")
        routed = len(self.router.submodels)
        if any(len(row) != routed for row in elastic.routing.quality):
            raise ValueError("elastic.routing must list the router's submodels")
        if not set(elastic.routing.buckets) <= set(buckets(config.max_length)):
            raise ValueError("elastic.routing.buckets must be padded lengths")


def check_architecture(values: dict[str, Any]) -> SupernetConfig:
    """Return the configuration in `values`; ValueError when it is wrong or beyond the bounds."""
    for axis, most in (("depths", MAX_DEPTH), ("widths", MAX_WIDTH), ("emb_widths", MAX_WIDTH)):
        axis_values = values.get(axis)
        if not isinstance(axis_values, list | tuple) or len(axis_values) > MAX_AXIS:
            raise ValueError(f"{axis} must be a list of at most {MAX_AXIS} integers")
        if not all(type(value) is int and value <= most for value in axis_values):
            raise ValueError(f"{axis} must hold integers of at most {most}")
    dilations = values.get("dilations", [])
    if not isinstance(dilations, list | tuple) or len(dilations) > MAX_AXIS:
        raise ValueError(f"dilations must be a list of at most {MAX_AXIS} integers")
    if not all(type(value) is int and value <= MAX_LENGTH for value in dilations):
        raise ValueError(f"dilations must hold integers of at most {MAX_LENGTH}")
    try:
        config = SupernetConfig.from_json(values)
    except TypeError as error:
        raise ValueError(f"architecture is malformed: {error}") from None
    for name, value, most in (
        ("num_items", config.num_items, MAX_ITEMS),
        ("max_length", config.max_length, MAX_LENGTH),
        ("num_heads", config.num_heads, MAX_WIDTH),
        ("ffn_multiplier", config.ffn_multiplier, 64),
    ):
        if value > most:
            raise ValueError(f"{name} is {value}, more than {most}")
    return config


def parse_manifest(data: bytes, version: str) -> Manifest:
    """Return the manifest in `data`, the bytes of `manifest.json` in the directory `version`.

    Raises CheckpointError `digest_mismatch`, `bad_json`, `unknown_format` or `bad_manifest`.
    """
    if not version.endswith(f"-{name_digest(data, version)}"):
        raise CheckpointError(
            Reason.DIGEST_MISMATCH,
            f"{MANIFEST_FILE} is not the one that was published as {version[:80]}",
        )
    values = parse_json(data, MANIFEST_FILE)
    if not isinstance(values, dict):
        raise CheckpointError(Reason.BAD_MANIFEST, f"{MANIFEST_FILE} must hold one object")
    release = values.get("format_version")
    if type(release) is not int or release != FORMAT_VERSION:
        raise CheckpointError(
            Reason.UNKNOWN_FORMAT,
            f"format_version is {str(release)[:40]!r}; this release reads {FORMAT_VERSION}",
        )
    try:
        manifest = Manifest.model_validate_json(data)
    except ValidationError as error:
        raise refused_manifest(error) from None
    if manifest.version != version:
        raise CheckpointError(
            Reason.BAD_MANIFEST,
            f"{MANIFEST_FILE} says version {manifest.version}, its directory {version[:80]}",
        )
    return manifest


def render_manifest(manifest: Manifest) -> bytes:
    """Return the bytes of `manifest.json`; `parse_manifest` reads them back to an equal value."""
    return manifest.model_dump_json(indent=2).encode("utf-8") + b"\n"


def refused_manifest(error: ValidationError) -> CheckpointError:
    """Return the refusal that names the first few wrong keys of a manifest."""
    findings = []
    for detail in error.errors(include_url=False, include_input=False)[:3]:
        where = ".".join(str(part) for part in detail["loc"])[:100] or "manifest"
        findings.append(f"{where}: {detail['msg'][:200]}")
    return CheckpointError(Reason.BAD_MANIFEST, f"{MANIFEST_FILE}: {'; '.join(findings)}")
