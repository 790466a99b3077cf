"""What popular items are worth to somebody, with and without the history's categories.

    python -m bench.fallback --data interactions.csv --items items.csv

Leave-one-out, validation part: nothing here reads the test part.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from service.engine.categories import Categories
from service.engine.eligibility import AttributeIndex, PopularRanking
from training.data.catalog_build import popular_items
from training.data.reading import make_split, read
from training.progress import Silent

POOL = 200
KS = (10, 50)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print NDCG and hit rate of popular items on the validation part, by length of history."""
    parser = argparse.ArgumentParser(prog="python -m bench.fallback", description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--items", type=Path, required=True)
    parser.add_argument("--newest", type=int, help="items of a history that are shown")
    chosen = parser.parse_args(arguments)
    interactions = read(chosen.data, None, strict=False, progress=Silent())
    split = make_split(interactions, "leave-one-out", items=chosen.items)
    ranking = PopularRanking(
        split.catalog, popular_items(interactions, training_mask=split.training_mask, limit=10_000)
    )
    categories = Categories(AttributeIndex(split.catalog), ranking)
    print(f"categories: {', '.join(categories.fields) or 'none'}")
    places: dict[str, list[int]] = {"popular": [], "popular in categories": []}
    cases = split.validation
    for user, target in enumerate(cases.targets.tolist()):
        history = cases.histories[user]
        found = ranking.top(POOL, excluded=set(history.tolist()), allowed=None, candidates=None)
        shown = history if chosen.newest is None else history[-chosen.newest :]
        for name, rows in (
            ("popular", found),
            ("popular in categories", categories.prefer(found, shown, POOL)),
        ):
            order = [row for row, _ in rows]
            places[name].append(order.index(target) + 1 if target in order else 0)
    for name, found_at in places.items():
        at = np.array(found_at)
        gain = np.where(at > 0, 1 / np.log2(np.maximum(at, 1) + 1), 0.0)
        told = " ".join(
            f"NDCG@{k} {np.where(at <= k, gain, 0).mean():.4f} HR@{k} "
            f"{((at > 0) & (at <= k)).mean():.4f}"
            for k in KS
        )
        print(f"{name:22} {told} ({len(at)} users)")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
