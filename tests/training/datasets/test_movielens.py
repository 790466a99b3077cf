"""MovieLens 100K from both of its sources; the real one is fetched with pip, once a machine."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from training.data.attributes import read_item_attributes
from training.data.interactions import read_interactions
from training.datasets import demo, movielens
from training.datasets.demo import get_demo_data
from training.datasets.fetch import FetchError, cache_root
from training.datasets.movielens import MovieLens
from training.datasets.synthetic import SyntheticConfig

# Nobody answers there, so the home is out of reach whatever the network.
NO_HOME = "http://127.0.0.1:9/ml-100k.zip"


@pytest.fixture(scope="module")
def package() -> MovieLens:
    """The data from the package; kept in the person's cache, so that tests fetch it once."""
    try:
        return movielens.from_package(cache_root())
    except FetchError as error:
        if "pip cannot fetch" in str(error) or "CANET_OFFLINE" in str(error):
            pytest.skip(f"no package index: {error}")
        raise


def put_wheel(cache: Path) -> None:
    name = "recbole-1.2.1-py3-none-any.whl"
    (cache / "downloads").mkdir(parents=True, exist_ok=True)
    (cache / "downloads" / name).symlink_to(cache_root() / "downloads" / name)


def home_archive(data: MovieLens, path: Path) -> None:
    """An archive laid out as at the home of the data, made of `data`."""
    ratings = "".join("\t".join(map(str, row)) + "\n" for row in data.ratings)
    movies = ""
    for item, title, genres in data.movies:
        flags = "|".join("1" if genre in genres else "0" for genre in movielens._GENRES)
        movies += f"{item}|{title}|01-Jan-1995||http://x|{flags}\n"
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("ml-100k/u.data", ratings)
        archive.writestr("ml-100k/u.item", movies.encode("latin-1"))


def test_the_package_holds_the_published_data(package: MovieLens) -> None:
    assert len(package.ratings) == 100_000
    assert len({row[0] for row in package.ratings}) == 943
    assert movielens.content_sha256(package.ratings) == movielens.CONTENT_SHA256
    movies = {item: (title, genres) for item, title, genres in package.movies}
    assert movies[1] == ("Toy Story (1995)", ["Animation", "Children's", "Comedy"])
    assert movies[267] == ("unknown", ["unknown"])


def test_both_sources_give_the_same_data(package: MovieLens, tmp_path: Path) -> None:
    home_archive(package, tmp_path / "downloads" / "ml-100k.zip")
    home = movielens.from_home(tmp_path, environ={"CANET_OFFLINE": "1"})
    assert home.ratings == package.ratings
    assert [(i, t, sorted(g)) for i, t, g in home.movies] == [
        (i, t, sorted(g)) for i, t, g in package.movies
    ]
    assert "home" in home.source
    assert "package" in package.source


def test_a_changed_rating_at_the_home_is_refused_and_forgotten(
    package: MovieLens, tmp_path: Path
) -> None:
    user, item, rating, seconds = package.ratings[0]
    changed = [(user, item, 6 - rating, seconds + 1), *package.ratings[1:]]
    archive = tmp_path / "downloads" / "ml-100k.zip"
    home_archive(MovieLens(ratings=changed, movies=package.movies, source=""), archive)
    with pytest.raises(FetchError, match="sha256 of its content"):
        movielens.from_home(tmp_path, environ={"CANET_OFFLINE": "1"})
    assert not archive.exists()


@pytest.mark.parametrize("content", [b"", b"no zip", b"PK\x05\x06" + b"\0" * 18])
def test_junk_at_the_home_is_refused(tmp_path: Path, content: bytes) -> None:
    archive = tmp_path / "downloads" / "ml-100k.zip"
    archive.parent.mkdir()
    archive.write_bytes(content)
    with pytest.raises(FetchError, match="is not MovieLens 100K"):
        movielens.from_home(tmp_path, environ={"CANET_OFFLINE": "1"})


def test_the_demo_falls_back_to_the_package_and_keeps_it(
    package: MovieLens, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(movielens, "HOME_URL", NO_HOME)
    put_wheel(tmp_path)
    stages: list[str] = []
    data = get_demo_data(
        "movielens", tmp_path, lambda stage, done, total: stages.append(stage), environ={}
    )
    assert data.source == "MovieLens 100K from the package recbole==1.2.1"
    assert not data.synthetic
    assert "no redistribution" in data.notice.replace("\n", " ")
    assert [stage.rpartition(" from ")[2] for stage in stages] == [
        "its home",
        "the package recbole==1.2.1",
    ]
    interactions = read_interactions(data.interactions_path, strict=True)
    assert (interactions.num_users, interactions.num_items, len(interactions)) == (
        943,
        1682,
        100_000,
    )
    attributes = read_item_attributes(data.items_path)
    assert set(attributes) == set(interactions.item_ids)
    # Kept: a second call needs neither network nor wheel.
    assert get_demo_data("movielens", tmp_path, environ={"CANET_OFFLINE": "1"}) == data
    # A harmed copy is made again.
    data.items_path.write_bytes(b"harmed")
    assert get_demo_data("movielens", tmp_path, environ={}) == data
    assert read_item_attributes(data.items_path) == attributes


def test_without_any_source_the_demo_says_that_its_data_is_made_up(tmp_path: Path) -> None:
    config = SyntheticConfig(users=60, items=120, topics=6)
    offline = {"CANET_OFFLINE": "1"}
    data = get_demo_data("movielens", tmp_path, environ=offline, config=config)
    assert data.synthetic
    assert data.source == (
        "SYNTHETIC DATA, made up: 60 users, 120 items (MovieLens 100K cannot be had)"
    )
    asked = get_demo_data("synthetic", tmp_path, environ=offline, config=config)
    assert asked.interactions_path == data.interactions_path
    assert asked.source == "SYNTHETIC DATA, made up: 60 users, 120 items"
    assert asked.notice == demo.SYNTHETIC_NOTICE


def test_an_unknown_kind_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="'movielens' or 'synthetic'"):
        get_demo_data("netflix", tmp_path)  # type: ignore[arg-type]
