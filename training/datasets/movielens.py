"""MovieLens 100K, fetched at a person's request from its home or from a package that carries it.

Neither the data nor a part of it may be shipped with this project: see NOTICE.
"""

from __future__ import annotations

import hashlib
import importlib.util
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from training.datasets.fetch import FetchError, Progress, fetch, file_sha256, is_offline

NOTICE = (
    "MovieLens 100K, by GroupLens Research at the University of Minnesota. For research use; no "
    "redistribution and no commercial use without permission. F. M. Harper and J. A. Konstan, "
    "The MovieLens Datasets: History and Context, ACM TiiS 5(4), 2015."
)
HOME_URL = "https://files.grouplens.org/datasets/movielens/ml-100k.zip"
# Of the 100,000 lines `user TAB item TAB rating TAB seconds`, sorted by user and time, with
# ties in the source's order: both sources must have it.
CONTENT_SHA256 = "7a7507f9f64aa8aeb2d89bced6080b608edc1b26c223e4e91f7512fdc8b70266"

PACKAGE = "recbole==1.2.1"
PACKAGE_SHA256 = "9c9948202011f37eb0a7c6768129313f00d6403ad221ec940d5e2d5d5f33a407"
_PACKAGE_SECONDS = 60
_MAX_BYTES = 64 * 1024 * 1024

_GENRES = (
    *("unknown", "Action", "Adventure", "Animation", "Children's", "Comedy", "Crime"),
    *("Documentary", "Drama", "Fantasy", "Film-Noir", "Horror", "Musical", "Mystery"),
    *("Romance", "Sci-Fi", "Thriller", "War", "Western"),
)

Ratings = list[tuple[int, int, int, int]]  # user, item, rating, seconds
Movies = list[tuple[int, str, list[str]]]  # item, title with year, genres


@dataclass(frozen=True, slots=True, kw_only=True)
class MovieLens:
    """The parsed data and where it came from. Ratings stand by user, then time."""

    ratings: Ratings
    movies: Movies
    source: str


def from_home(
    cache: Path, *, on_progress: Progress | None = None, environ: Mapping[str, str] | None = None
) -> MovieLens:
    """Return MovieLens 100K from its home or a mirror of it.

    Raises:
        FetchError: it cannot be had, or is not the 100,000 ratings it should be.
    """
    archive = fetch(
        HOME_URL,
        cache / "downloads" / "ml-100k.zip",
        max_bytes=_MAX_BYTES,
        on_progress=on_progress,
        environ=environ,
    )
    try:
        ratings = _member(archive, "ml-100k/u.data").decode("ascii")
        movies = _member(archive, "ml-100k/u.item").decode("latin-1")
        return _checked(
            [_rating(line.split("\t")) for line in ratings.splitlines()],
            [_movie_of_home(line) for line in movies.splitlines() if line],
            "MovieLens 100K from its home, files.grouplens.org",
        )
    except (FetchError, ValueError, IndexError, KeyError, zipfile.BadZipFile) as error:
        archive.unlink()  # a cached copy that cannot be used would fail for ever
        raise FetchError(f"{HOME_URL} is not MovieLens 100K: {error}") from error


def from_package(
    cache: Path, *, environ: Mapping[str, str] | None = None, seconds: float = _PACKAGE_SECONDS
) -> MovieLens:
    """Return MovieLens 100K from the example files of the package recbole.

    The package is fetched with pip as a file, kept in the cache, read as a zip archive, and
    neither installed nor imported.

    Raises:
        FetchError: it cannot be had, or is not the file it should be.
    """
    wheel = cache / "downloads" / "recbole-1.2.1-py3-none-any.whl"
    if not (wheel.is_file() and file_sha256(wheel) == PACKAGE_SHA256):
        if is_offline(environ):
            raise FetchError(f"{wheel.name} is not in the cache and CANET_OFFLINE is set")
        _pip_download(wheel, seconds)
    folder = "recbole/dataset_example/ml-100k/ml-100k"
    try:
        ratings = _member(wheel, f"{folder}.inter").decode("utf-8").splitlines()
        movies = _member(wheel, f"{folder}.item").decode("utf-8").splitlines()
        return _checked(
            [_rating(line.split("\t")) for line in ratings[1:]],
            [_movie_of_package(line) for line in movies[1:] if line],
            f"MovieLens 100K from the package {PACKAGE}",
        )
    except (ValueError, IndexError, KeyError, zipfile.BadZipFile) as error:
        raise FetchError(f"{wheel.name} does not hold MovieLens 100K: {error}") from error


def write(data: MovieLens, directory: Path) -> tuple[Path, Path]:
    """Write interactions.parquet and items.parquet into `directory` and return their paths.

    Columns: user_id, item_id, timestamp (Unix seconds), rating; item_id, title, genres.
    """
    interactions, items = directory / "interactions.parquet", directory / "items.parquet"
    users, movies, ratings, seconds = (list(column) for column in zip(*data.ratings, strict=True))
    table = pa.table(
        {
            "user_id": pa.array(users, pa.int32()),
            "item_id": pa.array(movies, pa.int32()),
            "timestamp": pa.array(seconds, pa.int64()),
            "rating": pa.array(ratings, pa.int8()),
        }
    )
    pq.write_table(table, interactions, compression="zstd")
    ids, titles, genres = (list(column) for column in zip(*data.movies, strict=True))
    table = pa.table({"item_id": pa.array(ids, pa.int32()), "title": titles, "genres": genres})
    pq.write_table(table, items, compression="zstd")
    return interactions, items


def content_sha256(ratings: Ratings) -> str:
    """Return the digest of ratings in canonical order, as `CONTENT_SHA256` describes it."""
    lines = "".join(f"{u}\t{i}\t{r}\t{t}\n" for u, i, r, t in ratings)
    return hashlib.sha256(lines.encode()).hexdigest()


def _checked(ratings: Ratings, movies: Movies, source: str) -> MovieLens:
    ratings = sorted(ratings, key=lambda row: (row[0], row[3]))  # stable
    found = content_sha256(ratings)
    if found != CONTENT_SHA256:
        raise FetchError(f"the sha256 of its content is {found}, expected {CONTENT_SHA256}")
    if {movie[0] for movie in movies} != set(range(1, 1683)) or len(movies) != 1682:
        raise FetchError(f"{len(movies)} movies, expected the ids 1 to 1682, each once")
    return MovieLens(ratings=ratings, movies=movies, source=source)


def _rating(fields: list[str]) -> tuple[int, int, int, int]:
    user, item, rating, seconds = fields
    return int(user), int(item), int(rating), int(seconds)


def _movie_of_home(line: str) -> tuple[int, str, list[str]]:
    fields = line.split("|")
    flags = fields[5:]
    if len(flags) != len(_GENRES):
        raise ValueError(f"{len(flags)} genre flags, expected {len(_GENRES)}")
    genres = [genre for genre, flag in zip(_GENRES, flags, strict=True) if flag == "1"]
    return int(fields[0]), fields[1].strip(), genres


def _movie_of_package(line: str) -> tuple[int, str, list[str]]:
    item, title, year, genres = line.split("\t")
    if year == "unkonwn":  # the one movie nobody knows, misspelt in this source
        return int(item), "unknown", ["unknown"]
    return int(item), f"{title.strip()} ({year})", genres.split()


def _member(archive: Path, name: str) -> bytes:
    with zipfile.ZipFile(archive) as content:
        size = content.getinfo(name).file_size
        if size > _MAX_BYTES:
            raise FetchError(f"{name} unpacks to {size:,} bytes, at most {_MAX_BYTES:,} are taken")
        return content.read(name)


def _pip_download(wheel: Path, seconds: float) -> None:
    if importlib.util.find_spec("pip") is None:
        raise FetchError("this Python has no pip to fetch the package with")
    wheel.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "--quiet"]
    command += ["--no-deps", "--only-binary=:all:", "--retries=1", "--timeout=10"]
    with tempfile.TemporaryDirectory(dir=wheel.parent, prefix=".pip-") as folder:
        try:
            done = subprocess.run(  # noqa: S603 - fixed words and a folder of our own
                [*command, "--dest", folder, PACKAGE],
                capture_output=True,
                text=True,
                timeout=seconds,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise FetchError(f"pip did not fetch {PACKAGE} within {seconds:g} s") from None
        fetched = Path(folder) / wheel.name
        if done.returncode != 0 or not fetched.is_file():
            said = (done.stderr.strip().splitlines() or ["no message"])[-1]
            raise FetchError(f"pip cannot fetch {PACKAGE}: {said}")
        found = file_sha256(fetched)
        if found != PACKAGE_SHA256:
            raise FetchError(f"{wheel.name}: sha256 {found}, expected {PACKAGE_SHA256}")
        shutil.move(fetched, wheel)
