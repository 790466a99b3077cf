from __future__ import annotations

import os
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch

from models.catalog import Catalog
from models.checkpoint.errors import CheckpointError, Reason
from models.checkpoint.files import sha256_hex
from models.checkpoint.manifest import is_version, parse_manifest, render_manifest
from models.checkpoint.read import read_checkpoint
from models.checkpoint.store import current, list_versions
from models.checkpoint.write import STALE_SECONDS, write_checkpoint

if TYPE_CHECKING:
    from tests.models.checkpoint.conftest import Tiny


def test_what_was_written_is_read(tmp_path: Path, tiny: Tiny) -> None:
    contents = tiny.contents()
    version = tiny.publish(tmp_path)
    checkpoint = read_checkpoint(tmp_path / version)
    assert checkpoint.version == version == current(tmp_path)
    assert checkpoint.config == contents.config
    assert checkpoint.manifest.submodels == contents.submodels
    assert checkpoint.manifest.router == contents.router
    assert checkpoint.manifest.training == contents.training
    assert checkpoint.manifest.metrics == contents.metrics
    assert checkpoint.catalog.external_ids == contents.catalog.external_ids
    assert checkpoint.catalog.attributes == contents.catalog.attributes
    assert checkpoint.popular == contents.popular
    assert checkpoint.golden == contents.golden
    assert checkpoint.evaluation == contents.evaluation
    assert set(checkpoint.tensors) == set(contents.tensors)
    for name, tensor in contents.tensors.items():
        assert checkpoint.tensors[name].dtype == tensor.dtype
        assert torch.equal(checkpoint.tensors[name], tensor)
    assert checkpoint.digest == sha256_hex((tmp_path / version / "manifest.json").read_bytes())


def test_a_catalog_without_attributes_stays_without(tmp_path: Path, tiny: Tiny) -> None:
    contents = replace(tiny.contents(), catalog=Catalog(tiny.contents().catalog.external_ids))
    version = write_checkpoint(tmp_path, contents)
    checkpoint = read_checkpoint(tmp_path / version)
    assert checkpoint.catalog.attributes is None


def test_the_manifest_reads_back_equal(tmp_path: Path, tiny: Tiny) -> None:
    version = tiny.publish(tmp_path)
    data = (tmp_path / version / "manifest.json").read_bytes()
    manifest = parse_manifest(data, version)
    assert render_manifest(manifest) == data
    assert manifest.submodel("d2-w8-e4").flops == 510


def test_versions_sort_by_publication_even_when_the_clock_goes_back(
    tmp_path: Path, tiny: Tiny
) -> None:
    clock = iter([datetime(2026, 11, 21, hour, tzinfo=UTC) for hour in (12, 12, 3, 12)])
    versions = [
        write_checkpoint(tmp_path, tiny.contents(), now=lambda: next(clock)) for _ in range(4)
    ]
    assert versions == sorted(set(versions)) == list_versions(tmp_path)
    assert all(is_version(version) for version in versions)
    assert versions[0].startswith("20261121T120000Z-")


def test_not_making_current_leaves_current_alone(tmp_path: Path, tiny: Tiny) -> None:
    first = tiny.publish(tmp_path)
    second = tiny.publish(tmp_path, seed=1, make_current=False)
    assert current(tmp_path) == first
    assert list_versions(tmp_path) == [first, second]


def test_old_leftovers_are_swept_and_young_ones_kept(tmp_path: Path, tiny: Tiny) -> None:
    old = tmp_path / ".tmp-old"
    old.mkdir()
    (old / "model.safetensors").write_bytes(b"half")
    stale_file = tmp_path / ".tmp-CURRENT-1-ab"
    stale_file.write_bytes(b"")
    young = tmp_path / ".tmp-young"
    young.mkdir()
    past = time.time() - STALE_SECONDS - 60
    for path in (old, stale_file):
        os.utime(path, (past, past))
    tiny.publish(tmp_path)
    assert [path.name for path in tmp_path.glob(".tmp-*")] == [".tmp-young"]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"popular": [("a", 1.0), ("nobody", 0.5)]}, Reason.BAD_POPULAR),
        ({"popular": [("a", float("nan"))]}, Reason.BAD_MANIFEST),
        ({"golden": []}, Reason.BAD_GOLDEN),
        ({"training": {"when": datetime(2026, 1, 1, tzinfo=UTC)}}, Reason.BAD_MANIFEST),
        ({"metrics": {"ndcg_10": float("inf")}}, Reason.BAD_MANIFEST),
        ({"data_until": "yesterday"}, Reason.BAD_MANIFEST),
        ({"catalog": Catalog(["a", "b"])}, Reason.BAD_ITEMS),
        ({"catalog": Catalog(["a", "b", "c", "d", "e\n"])}, Reason.BAD_ITEMS),
        ({"tensors": {}}, Reason.TENSOR_NAMES),
    ],
)
def test_contents_the_service_would_refuse_are_never_published(
    tmp_path: Path, tiny: Tiny, change: dict[str, Any], reason: Reason
) -> None:
    version = tiny.publish(tmp_path)
    with pytest.raises(CheckpointError) as caught:
        write_checkpoint(tmp_path, replace(tiny.contents(), **change))
    assert caught.value.reason is reason
    assert current(tmp_path) == version
    assert list_versions(tmp_path) == [version]
    assert not list(tmp_path.glob(".tmp-*"))
