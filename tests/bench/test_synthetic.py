"""Synthetic checkpoints and users."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from bench.synthetic_checkpoint import SyntheticModel, item_id, publish_synthetic
from bench.synthetic_users import make_histories, user_id, write_histories, zipf_rows
from service.engine.contract import Query
from service.engine.torch_engine import load_engine
from service.store.redis_config import RedisConfig
from service.store.redis_history import RedisHistoryStore


def test_the_router_of_a_synthetic_checkpoint_spreads_and_meets_its_share(tmp_path: Path) -> None:
    users = make_histories(users=200, items=500, length=20, most=20, fixed=True)
    model = SyntheticModel(items=500, depth=4, width=32, emb_width=16, length=20, encoder_share=0.3)
    version = publish_synthetic(tmp_path, model, users)
    engine = load_engine(tmp_path / version, price=None, allowed=None)
    queries = [Query(history=tuple(item_id(row) for row in rows)) for rows in users.rows]
    rankings, _ = engine.recommend(queries)
    asked = Counter(ranking.submodel for ranking in rankings)
    assert len(asked) >= 4
    spent = sum(ranking.flops.encoder for ranking in rankings)
    assert spent / sum(ranking.flops_full.encoder for ranking in rankings) == pytest.approx(
        0.3, abs=0.05
    )


def test_what_cannot_be_made_is_refused() -> None:
    with pytest.raises(ValueError, match="items is 1"):
        SyntheticModel(items=1)
    with pytest.raises(ValueError, match="width is 20; give a multiple of 16"):
        SyntheticModel(items=10, width=20)
    with pytest.raises(ValueError, match="encoder_share is 0"):
        SyntheticModel(items=10, encoder_share=0.0)
    with pytest.raises(ValueError, match="users is 0"):
        make_histories(users=0, items=10, length=5, most=10)


def test_users_are_skewed_like_people() -> None:
    made = make_histories(users=3000, items=10_000, length=20, most=100)
    lengths = np.array([len(rows) for rows in made.rows])
    assert lengths.min() >= 1
    assert lengths.max() == 100
    assert 18 <= np.median(lengths) <= 22
    assert lengths.mean() > 1.2 * np.median(lengths)
    rows = np.concatenate([np.asarray(rows) for rows in made.rows])
    assert rows.min() >= 1
    assert rows.max() <= 10_000
    assert (rows <= 100).mean() > 0.2
    assert made.rows == make_histories(users=3000, items=10_000, length=20, most=100).rows


def test_zipf_rows_stay_within_the_catalog() -> None:
    rows = zipf_rows(np.random.default_rng(0), 1, 10)
    assert rows.tolist() == [1] * 10


async def test_the_service_reads_the_histories_that_were_written(redis_url: str) -> None:
    made = make_histories(users=5, items=50, length=8, most=20)
    await write_histories(redis_url, made, [item_id(row) for row in range(1, 51)])
    store = RedisHistoryStore(RedisConfig(url=redis_url, op_timeout_seconds=10))
    try:
        for place, rows in enumerate(made.rows):
            assert await store.recent(user_id(place), 100) == [item_id(row) for row in rows]
    finally:
        await store.close()
