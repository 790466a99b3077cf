"""The network served is the network evaluated: sliced, extracted and ranked scores are equal."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.body import Floats, TorchBody
from models.config import Submodel, SupernetConfig
from models.network import NetworkWeights, encode_all, score_all
from models.onnx_body import OnnxBody, checked_body
from models.ranker import Ranker, stack
from models.submodel import extract
from models.supernet import Block, Supernet
from models.table.table import ItemTable
from tests.models.builders import (
    PREFIXES,
    PROJECTED,
    random_histories,
    random_memory,
    random_router,
    random_supernet,
    small_config,
)

CONFIG = small_config()
CONFIGS = {
    "whole": CONFIG,
    "projected": small_config(table=PROJECTED),
    "prefixes": small_config(table=PREFIXES),
}
TOLERANCE = 1e-5


def close(left: Tensor, right: Tensor) -> None:
    """Equal to 1e-5 of the scores' own scale, float32."""
    finite = torch.isfinite(right)
    assert torch.equal(torch.isfinite(left), finite)
    scale = max(1.0, float(right[finite].abs().max()))
    assert float((left[finite] - right[finite]).abs().max()) <= TOLERANCE * scale


def embedded(weights: NetworkWeights, ids_BL: NDArray[np.int64]) -> Floats:
    """Item and position embeddings, as a body takes them."""
    table_VE, positions_LE = weights.table.dense().numpy(), weights.positions_LE.numpy()
    vectors_BLE: Floats = table_VE[ids_BL] + positions_LE[: ids_BL.shape[1]]
    return vectors_BLE


def evidence(seed: int, history: list[int]) -> Tensor:
    """The memory's evidence for every row, entry by entry."""
    memory = random_memory(CONFIG, seed)
    assert memory is not None
    found = torch.zeros(CONFIG.num_items + 1)
    for age, item in enumerate(reversed(history[-memory.config.window :]), start=1):
        for place in range(int(memory.offsets[item]), int(memory.offsets[item + 1])):
            found[memory.items[place]] += memory.weights[place] / age
    return found


def naive_table(supernet: Supernet) -> Tensor:
    """Every embedding by its definition, row by row, straight from the full parameters."""
    config, state = supernet.config, supernet.state_dict()
    if config.table is None:
        return supernet.table.detach()
    rows = []
    for place, block in enumerate(config.table.blocks):
        for row in state[f"table_blocks.rows.{place}"]:
            if config.table.projected and block.width < config.emb_width:
                rows.append(row @ state[f"table_blocks.projections.{place}"])
            else:
                rows.append(torch.cat([row, torch.zeros(config.emb_width - block.width)]))
    return torch.stack(rows)


def naive_scores(
    config: SupernetConfig, submodel: Submodel, seed: int, history: list[int]
) -> Tensor:
    """The definition, one history at a time, unpadded, straight from the full parameters."""
    supernet = random_supernet(config, seed)
    table_VE = naive_table(supernet)
    e, d, k = submodel.emb_width, submodel.width, submodel.width // CONFIG.num_heads
    norm = torch.nn.functional.layer_norm
    ids = torch.tensor(history)
    z = table_VE[ids, :e] + supernet.positions[: len(ids), :e]
    z = z @ supernet.input_weight[:d, :e].T + supernet.input_bias[:d]
    for block in list(supernet.blocks)[: submodel.depth]:
        assert isinstance(block, Block)
        y = norm(z, (d,), block.norm_attention_weight[:d], block.norm_attention_bias[:d])
        mixed = torch.zeros(len(ids), d)
        for head in range(CONFIG.num_heads):
            q, key, v = (
                y @ block.qkv_weight[part, head, :k, :d].T + block.qkv_bias[part, head, :k]
                for part in range(3)
            )
            attention = q @ key.T / k**0.5
            future = torch.ones_like(attention).triu(1).bool()
            attention = attention.masked_fill(future, -torch.inf).softmax(1)
            mixed += (attention @ v) @ block.out_weight[:d, head, :k].T
        z = z + block.attention_gain * (mixed + block.out_bias[:d])
        y = norm(z, (d,), block.norm_ffn_weight[:d], block.norm_ffn_bias[:d])
        f = CONFIG.ffn_multiplier * d
        y = torch.nn.functional.gelu(y @ block.ffn_in_weight[:f, :d].T + block.ffn_in_bias[:f])
        z = z + block.ffn_gain * (y @ block.ffn_out_weight[:d, :f].T + block.ffn_out_bias[:d])
    query = norm(z[-1], (d,), supernet.norm_weight[:d], supernet.norm_bias[:d])
    query = query @ supernet.output_weight[:e, :d].T + supernet.output_bias[:e]
    scores = table_VE[:, :e] @ query + supernet.item_bias
    scores[0] = -torch.inf
    gain = supernet.memory_gain[
        CONFIG.depths.index(submodel.depth), CONFIG.widths.index(d), CONFIG.emb_widths.index(e)
    ]
    return scores + gain * torch.log1p(evidence(seed, history))


@pytest.mark.parametrize("submodel", CONFIG.submodels, ids=lambda s: s.name)
@pytest.mark.parametrize(
    ("layout", "seed"), [("whole", 0), ("whole", 1), ("projected", 0), ("prefixes", 0)]
)
def test_sliced_equals_extracted_equals_served(submodel: Submodel, layout: str, seed: int) -> None:
    """Every submodel, random norms and scalars, batches of mixed lengths and any padding."""
    config = CONFIGS[layout]
    supernet, memory = random_supernet(config, seed), random_memory(config, seed)
    histories = random_histories(CONFIG, 7, seed)
    ids_BL, lengths_B = stack(histories, CONFIG.max_length)
    rows = torch.arange(len(histories))
    sliced, extracted = supernet.slice(submodel), extract(supernet, submodel)
    newest = torch.from_numpy(lengths_B) - 1
    everywhere_BE = encode_all(sliced, torch.from_numpy(ids_BL))[rows, newest]
    for weights, body in (
        (sliced, TorchBody(sliced)),
        (extracted, TorchBody(extracted)),
        (extracted, OnnxBody(extracted)),
    ):
        query_BE = body(embedded(weights, ids_BL), lengths_B)
        close(torch.from_numpy(query_BE), everywhere_BE)
    assert isinstance(checked_body(extracted), OnnxBody)
    served = [submodel] if submodel == CONFIG.largest else [submodel, CONFIG.largest]
    ranker = Ranker(supernet, memory, random_router(len(served)), served)
    for index, history in enumerate(histories):
        alone_BL, length_B = stack([history], ranker.bucket(len(history)))
        alone = ranker.score(0, ranker.encode(0, alone_BL, length_B), alone_BL, length_B)[0]
        without_memory = score_all(sliced, everywhere_BE)[index]
        gain = extracted.memory_gain
        close(alone, without_memory + gain * torch.log1p(evidence(seed, history)))
        close(alone, naive_scores(config, submodel, seed, history))


def test_extracted_weights_are_contiguous_and_share_the_table() -> None:
    supernet = random_supernet(CONFIG)
    tables: dict[int, ItemTable] = {}
    networks = [extract(supernet, submodel, tables=tables) for submodel in CONFIG.submodels]
    for network in networks:
        assert all(tensor.is_contiguous() for tensor in network.table.tensors())
        assert network.table is tables[network.submodel.emb_width]
        for block in network.blocks:
            assert block.qkv_weight_3DD.is_contiguous()
            assert block.ffn_out_weight_DF.is_contiguous()
    assert set(tables) == set(CONFIG.emb_widths)
    assert tables[CONFIG.emb_width].dense().data_ptr() == supernet.table.data_ptr()


def test_changing_the_copy_does_not_change_the_supernet() -> None:
    supernet = random_supernet(CONFIG)
    block = supernet.blocks[0]
    assert isinstance(block, Block)
    before = block.ffn_in_weight.detach().clone()
    extract(supernet, CONFIG.largest).blocks[0].ffn_in_weight_FD.zero_()
    assert torch.equal(block.ffn_in_weight, before)


def test_a_submodel_off_the_grid_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="d9-w8-e8 is not on the grid"):
        random_supernet(CONFIG).slice(Submodel(depth=9, width=8, emb_width=8))


@pytest.mark.parametrize("length", [8, 16])
@pytest.mark.parametrize("submodel", CONFIG.submodels, ids=lambda s: s.name)
def test_reading_less_is_the_same_slice_on_the_newest_items(
    submodel: Submodel, length: int
) -> None:
    """Batches of mixed lengths and any padding; the memory sees the newest items either way."""
    supernet, memory = random_supernet(CONFIG), random_memory(CONFIG)
    shorter = replace(submodel, length=length)
    assert Submodel.parse(shorter.name) == shorter
    ranker = Ranker(supernet, memory, random_router(2), [shorter, submodel])
    histories = random_histories(CONFIG, 9, seed=3)
    ids_BL, lengths_B = stack(histories, CONFIG.max_length)
    scores_BV = ranker.score(0, ranker.encode(0, ids_BL, lengths_B), ids_BL, lengths_B)
    for scores_V, history in zip(scores_BV, histories, strict=True):
        newest = history[-length:]
        own_BL, own_B = stack([newest], ranker.bucket(len(newest)))
        close(scores_V, ranker.score(1, ranker.encode(1, own_BL, own_B), own_BL, own_B)[0])


@pytest.mark.parametrize(
    "name", ["d1-w8", "d01-w8-e8", "d1-w8-e8-l0", "d1-w8-e8-l08", "d\u0661-w8-e8"]
)
def test_a_submodel_has_one_name(name: str) -> None:
    with pytest.raises(ValueError, match="is not of the form"):
        Submodel.parse(name)
