"""Interactions to train on: a person's file, or a few made-up ones."""

from __future__ import annotations

from pathlib import Path

from training.data.interactions import Interactions, make_interactions
from training.data.reading import read
from training.datasets.synthetic import SyntheticConfig, generate
from training.progress import Silent


def interactions_of(path: Path | None) -> Interactions:
    """Return what the file holds; without one, 60 made-up users of 80 items."""
    if path is not None:
        return read(path, None, strict=False, progress=Silent())
    made = generate(SyntheticConfig(users=60, items=80, topics=8))
    return make_interactions(
        [str(user) for user in made.users.tolist()], [str(item) for item in made.items.tolist()]
    )
