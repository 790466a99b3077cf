"""A real checkpoint of a few kilobytes, and a forger's tools."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from models.catalog import Catalog
from models.checkpoint.contents import CheckpointContents
from models.checkpoint.files import sha256_hex
from models.checkpoint.golden import GoldenQuery
from models.checkpoint.manifest import PricePoint, RouterEntry, SubmodelEntry, name_digest
from models.checkpoint.shapes import ROUTER_PREFIX, SUPERNET_PREFIX
from models.checkpoint.write import write_checkpoint
from models.config import MemoryConfig, SupernetConfig
from models.router import ROUTER_FEATURES, Router
from models.supernet import Supernet

CONFIG = SupernetConfig(
    num_items=5,
    max_length=4,
    depths=(1, 2),
    widths=(4, 8),
    emb_widths=(4,),
    memory=MemoryConfig(window=2, row_limit=3),
)
IDS = ("a", "b", "é", "d d", "e-5")


def tiny_tensors(seed: int) -> dict[str, torch.Tensor]:
    supernet = Supernet(CONFIG)
    generator = torch.Generator().manual_seed(seed)
    supernet.initialise(generator)
    router = Router(features=ROUTER_FEATURES, hidden=3, num_submodels=2)
    for parameter in router.parameters():
        torch.nn.init.normal_(parameter, generator=generator)
    return {
        **{SUPERNET_PREFIX + name: tensor for name, tensor in supernet.state_dict().items()},
        **{ROUTER_PREFIX + name: tensor for name, tensor in router.state_dict().items()},
        "memory.offsets": torch.tensor([0, 0, 2, 3, 3, 3, 4], dtype=torch.int32),
        "memory.items": torch.tensor([2, 3, 1, 5], dtype=torch.int32),
        "memory.weights": torch.tensor([2.0, 1.0, 4.0, 0.5]),
    }


def tiny_contents(seed: int = 0, *, parent: str | None = None) -> CheckpointContents:
    return CheckpointContents(
        config=CONFIG,
        submodels=(
            SubmodelEntry(
                name="d1-w4-e4",
                flops_router=10,
                flops_encoder=100,
                flops_scoring=40,
                flops_ratio=0.3,
            ),
            SubmodelEntry(
                name="d2-w8-e4",
                flops_router=10,
                flops_encoder=460,
                flops_scoring=40,
                flops_ratio=1.02,
            ),
        ),
        router=RouterEntry(
            submodels=("d1-w4-e4", "d2-w8-e4"),
            hidden=3,
            features=ROUTER_FEATURES,
            price=0.1,
            price_curve=(PricePoint(price=0.1, flops_ratio=0.5, ndcg_10=0.07),),
        ),
        tensors=tiny_tensors(seed),
        catalog=Catalog(IDS, [{"title": "A", "genres": ["x", "y"]}, {}, {"year": 1999}, {}, {}]),
        popular=[("a", 9.0), ("b", 4.0), ("d d", 4.0)],
        golden=[
            GoldenQuery(history=("a", "b"), submodel=name, items=("é", "e-5"), scores=(0.5, 0.25))
            for name in ("d1-w4-e4", "d2-w8-e4")
        ],
        evaluation={"routed": {"ndcg_10": 0.07}},
        metrics={"ndcg_10": 0.07},
        training={"seed": seed, "method": "sandwich", "seconds": 1.5, "rows": 12},
        repeats=False,
        data_until="2026-11-20T00:00:00+00:00",
        code_revision="1a2b3c4",
        parent=parent,
    )


@dataclass(frozen=True, slots=True)
class Tiny:
    """What the tests of this room share."""

    contents: Callable[..., CheckpointContents] = tiny_contents

    def publish(self, root: Path, *, seed: int = 0, make_current: bool = True) -> str:
        return write_checkpoint(root, tiny_contents(seed), make_current=make_current)

    def sign(self, path: Path) -> Path:
        """Make the directory's manifest and name fit its files again, as a forger would."""
        values = json.loads((path / "manifest.json").read_bytes())
        for name in values["files"]:
            if (path / name).is_file():
                data = (path / name).read_bytes()
                values["files"][name] = {"sha256": sha256_hex(data), "size": len(data)}
        return self.sign_manifest(path, json.dumps(values).encode())

    def sign_manifest(self, path: Path, data: bytes) -> Path:
        """Put `data` in place of the manifest and rename the directory to what it demands."""
        draft = path.name
        version = f"{draft[:17]}{name_digest(data, draft)}"
        (path / "manifest.json").write_bytes(data.replace(draft.encode(), version.encode(), 1))
        return path.rename(path.with_name(version))


@pytest.fixture(scope="session")
def tiny() -> Tiny:
    torch.set_num_threads(1)
    return Tiny()


@pytest.fixture(scope="session")
def published(tiny: Tiny, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("models")
    return root / tiny.publish(root)


@pytest.fixture
def path(published: Path, tmp_path: Path) -> Path:
    """A sound version's directory, for the test to spoil."""
    return Path(shutil.copytree(published, tmp_path / published.name))
