"""From `canet train --table-...` to an answer, and on from that model to another layout."""

from __future__ import annotations

from pathlib import Path

import pytest

from cli.errors import WRONG_ARGUMENTS
from cli.main import main
from models.checkpoint.read import read_checkpoint
from models.checkpoint.store import current
from models.table.layout import TableLayout
from service.engine.contract import Query
from service.engine.torch_engine import load_engine
from service.lifecycle.trial import prove
from tests.models.builders import layout
from tests.training.refusals import check_refused
from tests.training.walkers import Told, write_data
from training.data.reading import read
from training.fit.table_plan import TableWish
from training.pipeline import build, publish_trained
from training.plan import TrainPlan
from training.progress import Silent

GIVEN = layout((11, 64), (31, 16), (61, 4), projected=True)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_data(tmp_path_factory.mktemp("blocks") / "data.csv")


@pytest.fixture(scope="module")
def root(data: Path) -> Path:
    """A model root that the command trained into."""
    root = data.parent / "models"
    options = ["--table-cuts", "10,30", "--table-ranks", "64,16,4", "--epochs", "1"]
    assert main(["train", "--data", str(data), "--out", str(root), *options]) == 0
    return root


def test_the_command_trains_publishes_and_serves(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    version = current(root)
    assert version is not None
    checkpoint = read_checkpoint(root / version)
    assert checkpoint.config.table == GIVEN
    engine = load_engine(root / version, price=None, allowed=None)
    prove(engine, root / version)
    (ranking,), _ = engine.recommend([Query(history=("i1", "i3", "i50"), k=5)])
    assert len(ranking.items) == 5
    full = checkpoint.manifest.submodels[-1]
    whole = 2 * 64 * 61
    assert full.flops_scoring < whole
    capsys.readouterr()
    assert main(["checkpoints", "show", str(root)]) == 0
    told = f"table        {GIVEN.num_bytes(64):,} bytes, rows x numbers: 11 x 64, 20 x 16, 30 x 4"
    assert told in capsys.readouterr().out


@pytest.mark.parametrize(
    ("wish", "expected"),
    [
        (None, GIVEN),
        (TableWish(cuts=(20,), ranks=(32, 4)), layout((21, 32), (61, 4), projected=True)),
    ],
)
def test_a_refresh_keeps_the_layout_or_takes_the_one_asked_for(
    root: Path, data: Path, wish: TableWish | None, expected: TableLayout, tmp_path: Path
) -> None:
    version = current(root)
    assert version is not None
    parent, progress = read_checkpoint(root / version), Told()
    plan = TrainPlan(out=tmp_path, epochs=1, table=wish)
    interactions = read(data, None, strict=False, progress=Silent())
    trained = build(plan, interactions, progress, parent=parent)
    assert trained.warm
    assert trained.fitted.supernet.config.table == expected
    again = read_checkpoint(tmp_path / publish_trained(tmp_path, trained, seconds=1.0))
    assert again.config.table == expected
    stood = [line for line in progress.lines if line.startswith("as it stands")]
    learned = parent.manifest.metrics["full_ndcg_10"]
    if expected == GIVEN:  # nothing moved: it knows what its parent knew
        assert float(stood[0].split("largest ")[1].split(",")[0]) > 0.3 * learned


@pytest.mark.parametrize(
    ("options", "code", "told"),
    [
        (["--table-cuts", "30,10", "--table-ranks", "8,4,2"], WRONG_ARGUMENTS, "give rising"),
        (["--table-cuts", "30", "--table-ranks", "8,0"], WRONG_ARGUMENTS, "at least 1"),
        (["--table-cuts", "30", "--table-ranks", "4,8"], WRONG_ARGUMENTS, "may not rise"),
        (["--table-cuts", "30"], WRONG_ARGUMENTS, "go together"),
        (["--table-bytes", "1MiB", "--table-ranks", "4"], WRONG_ARGUMENTS, "not both"),
        (["--table-cuts", "60", "--table-ranks", "8,4"], 1, "has 60"),
        (["--table-ranks", "65"], 1, "65 is more than the embedding's 64 columns"),
        (["--table-bytes", "400"], 1, "the least is 500 bytes"),
        (["--table-factor", "2"], WRONG_ARGUMENTS, "without --table-bytes"),
        (["--table-bytes", "1KiB", "--table-factor", "0"], WRONG_ARGUMENTS, "factor is 0; give 1"),
        (["--table-bytes", "2MB"], 2, "'2MB' is no size"),
        (["--table-cuts", "a,b"], 2, "'a,b' is not a list of whole numbers"),
    ],
)
def test_wrong_tables_are_refused_and_publish_nothing(
    data: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    code: int,
    told: str,
) -> None:
    check_refused(data, tmp_path / "m", capsys, options, code, told)
