"""Each backbone from the command line to an answer over HTTP, and as a parent of the next run."""

from __future__ import annotations

from pathlib import Path

import pytest

from cli.main import main
from models.checkpoint.contents import Checkpoint
from models.checkpoint.read import read_checkpoint
from models.checkpoint.store import current
from models.cost import parameter_counts
from models.onnx_body import OnnxBody
from models.ranker import Ranker
from tests.e2e.live import engine_of, ids, live
from tests.training.refresh.world import walks, write_csv
from tests.training.walkers import Told
from training.data.interactions import Interactions
from training.data.reading import read
from training.pipeline import Trained, build, train
from training.plan import TrainPlan, TrainRequest
from training.progress import Silent

USERS = [f"u{n}" for n in range(40)]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_csv(tmp_path_factory.mktemp("data") / "data.csv", walks(USERS, items=40))


@pytest.mark.parametrize(
    ("backbone", "sharing"), [("nextitnet", "cross_block"), ("transformer", "adjacent_layer")]
)
async def test_trained_published_and_served(
    data: Path,
    tmp_path: Path,
    redis_url: str,
    backbone: str,
    sharing: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    root = tmp_path / "models"
    words = "--preset small --epochs 1 --threads 1 --depths 1,2 --widths 16,32 --emb-widths 16"
    chosen = ["--backbone", backbone, "--layer-sharing", sharing, *words.split()]
    assert main(["train", "--data", str(data), "--out", str(root), *chosen]) == 0
    assert f"backbone {backbone}, layer sharing {sharing}" in capsys.readouterr().err
    version = current(root)
    assert version is not None
    checkpoint = read_checkpoint(root / version)
    assert (checkpoint.config.backbone, checkpoint.config.layer_sharing) == (backbone, sharing)
    entries = checkpoint.manifest.submodels
    assert (
        entries[-1].body_bytes
        == 4 * parameter_counts(checkpoint.config, checkpoint.config.largest)["body"]
    )
    assert main(["checkpoints", "show", str(root)]) == 0
    assert f"backbone     {backbone}, layer sharing {sharing}" in capsys.readouterr().out
    ranker = engine_of(root, version)._ranker
    assert isinstance(ranker, Ranker)
    assert all(isinstance(body, OnnxBody) for body in ranker._bodies)
    async with live(root, redis_url) as service:
        for entry in entries:
            answer = await service.recommend(
                history=["i3", "i5", "i7", "i9"],
                k=5,
                compute={"mode": "fixed", "submodel": entry.name},
            )
            assert answer["source"] == "model"
            assert answer["compute"]["submodel"] == entry.name
            assert len(ids(answer)) == 5
        routed = await service.recommend(history=[f"i{n}" for n in range(1, 33)], k=5)
        assert routed["compute"]["reason"] == "router"


@pytest.fixture(scope="module")
def interactions(data: Path) -> Interactions:
    return read(data, None, strict=False, progress=Silent())


@pytest.fixture(scope="module")
def parent(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    root = tmp_path_factory.mktemp("parent")
    request = TrainRequest(
        data=data,
        out=root,
        epochs=1,
        threads=1,
        depths=(1, 2),
        widths=(16, 32),
        emb_widths=(16,),
        backbone="nextitnet",
        layer_sharing="cross_block",
    )
    return read_checkpoint(train(request, Silent()).path)


@pytest.mark.parametrize(
    ("backbone", "sharing", "reason"),
    [
        (None, None, ""),
        ("transformer", None, "backbone transformer is asked for, the parent has nextitnet"),
        (None, "none", "layer sharing none is asked for, the parent has cross_block"),
    ],
)
def test_a_parent_of_another_architecture_is_not_used(
    interactions: Interactions,
    parent: Checkpoint,
    tmp_path: Path,
    backbone: str | None,
    sharing: str | None,
    reason: str,
) -> None:
    told = Told()
    plan = TrainPlan(
        out=tmp_path,
        epochs=1,
        threads=1,
        max_length=8,
        resume=False,
        backbone=backbone,
        layer_sharing=sharing,
    )
    trained: Trained = build(plan, interactions, told, parent=parent)
    config = trained.fitted.supernet.config
    assert trained.warm is not bool(reason)
    if reason:
        assert f"training afresh: {reason}" in told.lines
        assert (config.backbone, config.layer_sharing) == (
            backbone or "nextitnet",
            sharing or "cross_block",
        )
    else:
        assert (config.backbone, config.layer_sharing) == ("nextitnet", "cross_block")


def test_the_published_method_refuses_a_network_without_heads(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["train", "--data", str(data), "--out", str(tmp_path / "models"), "--method", "canet"]
    assert main([*words, "--backbone", "nextitnet"]) == 1
    assert "backbone 'nextitnet' has none: leave the backbone out" in capsys.readouterr().err
    assert not (tmp_path / "models").exists()
