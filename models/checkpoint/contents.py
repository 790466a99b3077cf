"""What goes into a checkpoint and what comes out of one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from models.catalog import Catalog
from models.checkpoint.elastic import ElasticEntry, SpecializedEntry
from models.checkpoint.golden import GoldenQuery
from models.checkpoint.manifest import Manifest, RouterEntry, SubmodelEntry
from models.config import SupernetConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointContents:
    """Everything a trainer hands to `write_checkpoint`.

    `tensors` are named `supernet.*`, `router.*` and, when the config has a memory, `memory.offsets`
    (int32, num_items + 2), `memory.items` (int32, nnz), `memory.weights` (float32, nnz). `popular`
    holds (external id, score), best first. `golden` covers every served submodel. `data_until` is
    an ISO 8601 time with a zone; `parent` the version this one was trained from. `elastic` says how
    the item table may be narrowed, `specialized` how it was.
    """

    config: SupernetConfig
    submodels: Sequence[SubmodelEntry]
    router: RouterEntry
    tensors: Mapping[str, torch.Tensor]
    catalog: Catalog
    popular: Sequence[tuple[str, float]]
    golden: Sequence[GoldenQuery]
    evaluation: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    training: Mapping[str, Any] = field(default_factory=dict)
    repeats: bool = False
    data_until: str | None = None
    code_revision: str = ""
    parent: str | None = None
    elastic: ElasticEntry | None = None
    specialized: SpecializedEntry | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """A verified checkpoint. `digest` is the SHA-256 of the manifest's bytes, hexadecimal.

    `tensors` live on the CPU, own their memory and are finite.
    """

    path: Path
    manifest: Manifest
    digest: str
    tensors: dict[str, torch.Tensor]
    catalog: Catalog
    popular: list[tuple[str, float]]
    golden: list[GoldenQuery]
    evaluation: dict[str, Any]

    @property
    def version(self) -> str:
        """The version's name, which is the directory's name."""
        return self.manifest.version

    @property
    def config(self) -> SupernetConfig:
        """The architecture."""
        return self.manifest.config
