"""Training tops out at ever larger submodels, and the last one is the full network."""

from __future__ import annotations

from models.config import Submodel, SupernetConfig
from training.fit.growth import rungs, within


def grid(depths: tuple[int, ...], widths: tuple[int, ...]) -> SupernetConfig:
    return SupernetConfig(
        num_items=10, max_length=8, depths=depths, widths=widths, emb_widths=(16, 32)
    )


def names(config: SupernetConfig) -> list[str]:
    return [rung.name for rung in rungs(config)]


def test_rungs_climb_the_diagonal_at_full_embedding_width() -> None:
    assert names(grid((1, 2, 4), (32, 64, 128))) == ["d1-w32-e32", "d2-w64-e32", "d4-w128-e32"]


def test_the_shorter_axis_waits_so_that_both_end_together() -> None:
    assert names(grid((1, 2), (16, 32, 64))) == ["d1-w16-e32", "d1-w32-e32", "d2-w64-e32"]
    assert names(grid((1, 2, 4), (64,))) == ["d1-w64-e32", "d2-w64-e32", "d4-w64-e32"]


def test_a_grid_of_one_has_nothing_to_climb() -> None:
    config = grid((2,), (64,))
    assert rungs(config) == (config.largest,)


def test_within_compares_every_axis() -> None:
    top = Submodel(depth=2, width=64, emb_width=32)
    assert within(top, top)
    assert within(Submodel(depth=1, width=32, emb_width=16), top)
    assert not within(Submodel(depth=4, width=32, emb_width=16), top)
    assert not within(Submodel(depth=1, width=128, emb_width=16), top)
    assert not within(Submodel(depth=1, width=32, emb_width=64), top)
