"""A peer answers like our full network, so that only the serving differs."""

from __future__ import annotations

from pathlib import Path

import torch

from bench.peer_servers.network import FullNetwork
from bench.synthetic_checkpoint import SyntheticModel, publish_synthetic
from bench.synthetic_users import make_histories
from models.checkpoint.read import read_checkpoint
from service.engine.contract import Compute, Query
from service.engine.torch_engine import TorchEngine


def test_a_peer_answers_like_the_full_network(tmp_path: Path) -> None:
    model = SyntheticModel(items=200, depth=2, width=32, emb_width=16, length=20)
    users = make_histories(users=20, items=200, length=20, most=30, fixed=False)
    version = publish_synthetic(tmp_path, model, users)
    checkpoint = read_checkpoint(tmp_path / version)
    threads = torch.get_num_threads()
    try:
        peer = FullNetwork(tmp_path)
    finally:
        torch.set_num_threads(threads)
    ids = checkpoint.catalog.external_ids
    histories = [[ids[row - 1] for row in users.rows[place]] for place in range(4)]
    engine = TorchEngine(checkpoint)
    queries = [
        Query(history=tuple(history), k=5, compute=Compute(mode="full")) for history in histories
    ]
    rankings, _ = engine.recommend(queries)
    ours = [[item.external_id for item in ranking.items] for ranking in rankings]
    assert peer.recommend(histories, 5) == ours
