"""What a long blocklist costs an answer: the engine alone, one thread, no HTTP.

python -m bench.blocked --items 100000
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch

from bench.synthetic_checkpoint import SyntheticModel, item_id, publish_synthetic
from bench.synthetic_users import make_histories
from models.checkpoint.read import read_checkpoint
from models.search.search import INDEX_FROM_ROWS
from service.blocklist.blocklist import blocked
from service.engine.contract import Query
from service.engine.torch_engine import TorchEngine

ROUNDS = 50
BATCHES = (1, 16)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print median milliseconds of an engine call by length of the blocklist and batch size."""
    parser = argparse.ArgumentParser(prog="python -m bench.blocked", description=__doc__)
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--blocked", type=int, nargs="+", default=[0, 100, 10_000])
    chosen = parser.parse_args(arguments)
    torch.set_num_threads(1)
    users = make_histories(users=64, items=chosen.items, length=20, most=50)
    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory)
        version = publish_synthetic(root, SyntheticModel(items=chosen.items), users)
        checkpoint = read_checkpoint(root / version)
    engine = TorchEngine(checkpoint)
    print(f"{chosen.items:,} items, by {engine.info.search} (index from {INDEX_FROM_ROWS:,})")
    histories = [tuple(item_id(row) for row in rows) for rows in users.rows[: max(BATCHES)]]
    drawn = np.random.default_rng(0).permutation(chosen.items) + 1
    for count in chosen.blocked:
        closed = blocked(item_id(int(row)) for row in drawn[:count])
        queries = [Query(history=history, blocked=closed) for history in histories]
        told = {
            f"batch of {size}": _milliseconds(partial(engine.recommend, queries[:size]))
            for size in BATCHES
        }
        told["popular"] = _milliseconds(partial(engine.popular, queries[0]))
        columns = ", ".join(f"{name} {spent:.2f} ms" for name, spent in told.items())
        print(f"{count:>6} blocked: {columns}")
    return 0


def _milliseconds(work: Callable[[], object]) -> float:
    work()
    spent = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        work()
        spent.append(time.perf_counter() - began)
    return 1000 * statistics.median(spent)


if __name__ == "__main__":
    raise SystemExit(main())
