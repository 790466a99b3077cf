"""LightGCN as published, the protocol by hand, and multiply-adds that skip zeros."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from bench.__main__ import main
from bench.lightgcn.data import GraphData, graph_data
from bench.lightgcn.macs import propagation, training_step
from bench.lightgcn.model import LightGCN, bpr_loss
from bench.lightgcn.ranking import quality
from training.data.interactions import make_interactions


@pytest.fixture(scope="module")
def data() -> GraphData:
    rng = np.random.default_rng(0)
    users, items = [], []
    for user in range(12):
        for item in rng.choice(30, int(rng.integers(3, 25)), replace=False):
            users.append(str(user))
            items.append(str(item))
    return graph_data(make_interactions(users, items), seed=1)


def make(data: GraphData, layers: int = 3) -> LightGCN:
    return LightGCN(data.num_users, data.num_items, 8, layers, torch.Generator().manual_seed(0))


def test_every_pair_is_in_one_part(data: GraphData) -> None:
    parts = [data.training_N2, data.validation_N2, data.test_N2]
    pairs = {tuple(pair) for part in parts for pair in part.tolist()}
    assert len(pairs) == sum(map(len, parts))
    for user in range(data.num_users):
        counts = [int((part[:, 0] == user).sum()) for part in parts]
        assert counts[1] == counts[2] == sum(counts) // 10


def test_layers_are_products_with_the_normalised_graph(data: GraphData) -> None:
    model = make(data)
    graph = data.adjacency().to_dense()
    assert torch.equal(graph, graph.T)
    degree = (graph > 0).sum(1)
    user, item = data.training_N2[0]
    node = data.num_users + item
    assert graph[user, node] == pytest.approx(float((degree[user] * degree[node]) ** -0.5))
    nodes = torch.cat([model.users, model.items])
    expected = sum(torch.linalg.matrix_power(graph, power) @ nodes for power in range(4)) / 4
    found = torch.cat(model(data.adjacency()))
    assert torch.allclose(found, expected, atol=1e-6)


def test_the_gradient_is_autograds(data: GraphData) -> None:
    model, dense = make(data), make(data)
    triples = torch.tensor([[0, 1, 2], [3, 4, 5], [3, 0, 7]])
    torch.autograd.backward(bpr_loss(model, data.adjacency(), triples, penalty=1e-2))
    graph = data.adjacency().to_dense()
    nodes = torch.cat([dense.users, dense.items])
    mean = sum(torch.linalg.matrix_power(graph, power) @ nodes for power in range(4)) / 4
    user, met, drawn = triples.T
    users, items = mean[: data.num_users], mean[data.num_users :]
    lead = (users[user] * (items[met] - items[drawn])).sum(1)
    own = (dense.users[user], dense.items[met], dense.items[drawn])
    loss = -torch.nn.functional.logsigmoid(lead).mean()
    squares = torch.stack([one.square().sum() for one in own]).sum()
    torch.autograd.backward(loss + 1e-2 * squares / 6)
    for left, right in ((model.users, dense.users), (model.items, dense.items)):
        assert left.grad is not None
        assert right.grad is not None
        assert torch.allclose(left.grad, right.grad, atol=1e-6)


def test_quality_by_hand() -> None:
    users = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    items = torch.tensor([[0.9, 0.1], [0.8, 0.3], [0.1, 0.9]])
    known = np.array([[0, 0]])
    # User 0 sees items 1, 2 in this order; user 1 all three, 2 first, then 1, then 0.
    found = quality(users, items, np.array([[0, 2], [1, 2], [1, 0]]), known)
    assert found.recall == 1.0
    log = np.log2
    second = (1 + 1 / log(4)) / (1 + 1 / log(3))
    assert found.ndcg == pytest.approx((1 / log(3) + second) / 2, rel=1e-5)


def test_zeros_are_not_multiplied(data: GraphData) -> None:
    model, graph = make(data), data.adjacency()
    edges = int(graph.values().numel())
    assert propagation(model, graph) == 3 * edges * 8
    assert training_step(model, graph, living=None) == 6 * edges * 8
    with torch.no_grad():
        model.users[:, 4:] = 0
        model.items[:, 4:] = 0
    living = torch.cat([model.users, model.items]) != 0
    # Columns that are zero everywhere stay so.
    assert propagation(model, graph) == 3 * edges * 4
    assert training_step(model, graph, living=living) == edges * (3 * 4 + 2 * 8 + 4)


@pytest.mark.long
def test_the_comparison_runs_in_short(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["dsl", "--quick", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    rows = {row["method"]: row for row in told["rows"]}
    assert list(rows) == ["dense", "dynamic", "static", "one-shot", "dense-small"]
    assert rows["dense"]["density"] == rows["dense-small"]["density"] == "100.0%"
    for method in ("dynamic", "static", "one-shot"):
        assert float(rows[method]["density"].rstrip("%")) <= 50.1
    assert rows["dense-small"]["against dense"] == "-50.0%"
    assert float(rows["static"]["against dense"].rstrip("%")) < -10


@pytest.mark.long
def test_supernets_are_compared_in_short(capsys: pytest.CaptureFixture[str]) -> None:
    words = "sparse-training --quick --json --density 0.5 --kinds unit dense-small"
    words += " --network d2-w64-e64"
    assert main(words.split()) == 0
    told = json.loads(capsys.readouterr().out)
    rows = {row["training"]: row for row in told["rows"]}
    assert list(rows) == ["dense", "unit 0.5", "dense-small 0.5"]
    assert rows["dense"]["weights left"] == "100.0%"
    assert rows["unit 0.5"]["table KB"] < 0.6 * rows["dense"]["table KB"]
    assert rows["dense-small 0.5"]["body KB"] < rows["dense"]["body KB"]
    small, dense = rows["dense-small 0.5"]["training MB"], rows["dense"]["training MB"]
    assert 0 < small < dense < rows["unit 0.5"]["training MB"]
    assert any("depths (2,), widths (64,)" in sentence for sentence in told["method"])


@pytest.mark.long
def test_products_run_in_short(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sparse-product", "--quick", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert len(told["rows"]) == 8
    assert told["rows"][0]["bitmap + values MB"] < told["rows"][0]["dense MB"]


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["dsl"], "--data is needed"),
        (["dsl", "--quick", "--density", "1"], "leaves everything"),
        (["sparse-training"], "--data is needed"),
        (["sparse-training", "--quick", "--density", "1"], "leaves everything"),
        (["sparse-training", "--quick", "--network", "d2"], "'d2' is not of the form"),
        (["sparse-product", "--density", "2"], "--density 2 is above 1"),
    ],
)
def test_senseless_options_are_refused(
    words: list[str], part: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 2
    assert part in capsys.readouterr().err
