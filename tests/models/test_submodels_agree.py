"""The network served is the network evaluated: sliced, extracted and ranked scores are equal."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

from models.arrays import Floats
from models.backbone.transformer.layers import TransformerLayers, TransformerNewest
from models.body import TorchBody
from models.config import BACKBONES, Submodel
from models.network import NetworkWeights, encode_all, score_all
from models.onnx_body import OnnxBody, checked_body
from models.ranker import Ranker, stack
from models.submodel import extract
from models.table.layout import TableLayout
from models.table.table import ItemTable
from tests.models.builders import (
    COLUMNS,
    COMBINATIONS,
    PREFIXES,
    PROJECTED,
    random_histories,
    random_memory,
    random_router,
    random_supernet,
    small_config,
)
from tests.models.naive import evidence, naive_scores

CONFIG = small_config()
TOLERANCE = 1e-5


def close(left: Tensor, right: Tensor, what: str = "") -> None:
    """Equal to 1e-5 of the scores' own scale, float32."""
    finite = torch.isfinite(right)
    assert torch.equal(torch.isfinite(left), finite), what
    scale = max(1.0, float(right[finite].abs().max()))
    assert float((left[finite] - right[finite]).abs().max()) <= TOLERANCE * scale, what


def embedded(weights: NetworkWeights, ids_BL: NDArray[np.int64]) -> Floats:
    """Item and position embeddings, as a body takes them."""
    vectors_BLE: Floats = weights.table.dense().numpy()[ids_BL]
    if weights.positions_LE is not None:
        vectors_BLE = vectors_BLE + weights.positions_LE.numpy()[: ids_BL.shape[1]]
    return vectors_BLE


@pytest.mark.parametrize(
    ("backbone", "sharing", "table", "two_level", "seed"),
    [
        *((*combination, None, False, 0) for combination in COMBINATIONS),
        *((backbone, "none", None, False, 1) for backbone in BACKBONES),
        *(
            (backbone, "none", table, False, 0)
            for backbone in BACKBONES
            for table in (PROJECTED, PREFIXES, COLUMNS)
        ),
        ("nextitnet", "cross_block", PROJECTED, False, 1),
        *((backbone, "none", PROJECTED, True, 0) for backbone in BACKBONES),
    ],
)
def test_sliced_equals_extracted_equals_served(
    backbone: str, sharing: str, table: TableLayout | None, two_level: bool, seed: int
) -> None:
    """Every submodel, random norms and scalars, batches of mixed lengths and any padding."""
    config = small_config(
        backbone=backbone, layer_sharing=sharing, table=table, two_level=two_level
    )
    supernet, memory = random_supernet(config, seed), random_memory(config, seed)
    assert memory is not None
    histories = random_histories(config, 7, seed)
    ids_BL, lengths_B = stack(histories, config.max_length)
    rows = torch.arange(len(histories))
    newest = torch.from_numpy(lengths_B) - 1
    ranker = Ranker(supernet, memory, random_router(18), config.submodels)
    for place, submodel in enumerate(config.submodels):
        sliced, extracted = supernet.slice(submodel), extract(supernet, submodel)
        everywhere_BE = encode_all(sliced, torch.from_numpy(ids_BL))[rows, newest]
        for weights, body in (
            (sliced, TorchBody(sliced)),
            (extracted, TorchBody(extracted)),
            (extracted, ranker._bodies[place]),
        ):
            query_BE = body(embedded(weights, ids_BL), lengths_B)
            close(torch.from_numpy(query_BE), everywhere_BE, submodel.name)
        assert isinstance(ranker._bodies[place], OnnxBody)
        gain = extracted.memory_gain
        without_memory = score_all(sliced, everywhere_BE)
        for index, history in enumerate(histories):
            alone_BL, length_B = stack([history], ranker.bucket(len(history)))
            query_BE = ranker.encode(place, alone_BL, length_B)
            alone = ranker.score(place, query_BE, alone_BL, length_B)[0]
            added = gain * torch.log1p(evidence(memory, config.num_items, history))
            close(alone, without_memory[index] + added, submodel.name)
            if index < 3:
                close(alone, naive_scores(supernet, submodel, history) + added, submodel.name)


@pytest.mark.parametrize("backbone", BACKBONES)
@settings(deadline=None, max_examples=40)
@given(data=st.data())
def test_neither_padding_nor_later_items_reach_a_position(
    backbone: str, data: st.DataObject
) -> None:
    """At every position, through slices; at the newest one, through what is served."""
    config = small_config(backbone=backbone)
    supernet = random_supernet(config)
    submodel = data.draw(st.sampled_from(config.submodels))
    items = st.integers(1, config.num_items)
    history = data.draw(st.lists(items, min_size=1, max_size=config.max_length))
    after = data.draw(st.lists(st.integers(0, config.num_items), max_size=20 - len(history)))
    own = torch.tensor([history])
    longer = torch.tensor([history + after])
    weights = supernet.slice(submodel)
    own_LE = encode_all(weights, own)[0]
    close(encode_all(weights, longer)[0, : len(history)], own_LE)
    lengths_B = np.array([len(history)])
    query_BE = TorchBody(weights)(embedded(weights, longer.numpy()), lengths_B)
    close(torch.from_numpy(query_BE)[0], own_LE[-1])


def test_extracted_weights_are_contiguous_and_share_the_table() -> None:
    supernet = random_supernet(CONFIG)
    tables: dict[int, ItemTable] = {}
    networks = [extract(supernet, submodel, tables=tables) for submodel in CONFIG.submodels]
    for network in networks:
        assert all(tensor.is_contiguous() for tensor in network.table.tensors())
        assert network.table is tables[network.submodel.emb_width]
        assert all(tensor.is_contiguous() for tensor in network.layers.tensors())
    assert set(tables) == set(CONFIG.emb_widths)
    assert tables[CONFIG.emb_width].dense().data_ptr() == supernet.table.data_ptr()


def test_changing_the_copy_does_not_change_the_supernet() -> None:
    supernet = random_supernet(CONFIG)
    before = {name: tensor.clone() for name, tensor in supernet.state_dict().items()}
    for tensor in extract(supernet, CONFIG.largest).layers.tensors():
        tensor.zero_()
    for name, tensor in supernet.state_dict().items():
        assert torch.equal(tensor, before[name]), name


def test_a_submodel_off_the_grid_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="d9-w8-e8 is not on the grid"):
        random_supernet(CONFIG).slice(Submodel(depth=9, width=8, emb_width=8))


@pytest.mark.parametrize("backbone", BACKBONES)
@pytest.mark.parametrize("length", [1, 2, 4, 8, 16])
def test_reading_less_is_the_same_slice_on_the_newest_items(backbone: str, length: int) -> None:
    """Batches of mixed lengths and any padding; the memory reads no more than the network."""
    config = small_config(backbone=backbone)
    supernet, memory = random_supernet(config), random_memory(config)
    histories = random_histories(config, 9, seed=3)
    ids_BL, lengths_B = stack(histories, config.max_length)
    for submodel in config.submodels:
        shorter = replace(submodel, length=length)
        assert Submodel.parse(shorter.name) == shorter
        ranker = Ranker(supernet, memory, random_router(2), [shorter, submodel])
        scores_BV = ranker.score(0, ranker.encode(0, ids_BL, lengths_B), ids_BL, lengths_B)
        for scores_V, history in zip(scores_BV, histories, strict=True):
            newest = history[-length:]
            own_BL, own_B = stack([newest], ranker.bucket(len(newest)))
            close(scores_V, ranker.score(1, ranker.encode(1, own_BL, own_B), own_BL, own_B)[0])


def test_layers_without_an_onnx_form_run_in_torch(caplog: pytest.LogCaptureFixture) -> None:
    class Other(TransformerNewest):
        pass

    class Unknown(TransformerLayers):
        def newest(self) -> TransformerNewest:
            return Other(self)

    weights = extract(random_supernet(CONFIG), CONFIG.smallest)
    assert isinstance(weights.layers, TransformerLayers)
    unknown = Unknown(num_heads=weights.layers.num_heads, blocks=weights.layers.blocks)
    assert isinstance(checked_body(replace(weights, layers=unknown)), TorchBody)
    assert "refused d1-w8-e8; torch runs it" in caplog.text


@pytest.mark.parametrize(
    "name", ["d1-w8", "d01-w8-e8", "d1-w8-e8-l0", "d1-w8-e8-l08", "d\u0661-w8-e8"]
)
def test_a_submodel_has_one_name(name: str) -> None:
    with pytest.raises(ValueError, match="is not of the form"):
        Submodel.parse(name)
