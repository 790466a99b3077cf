"""Wrong values are refused with the limit and a remedy; the rate falls along a cosine."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

import pytest

from models.config import SupernetConfig
from models.cost import parameter_counts
from training.sparse.config import SparseConfig
from training.sparse.inherit import inherited
from training.sparse.smaller import smaller


@pytest.mark.parametrize(
    ("values", "part"),
    [
        ({"density": 0.0}, "density is 0.0; give the share of weights that stay, above 0"),
        ({"density": 1.5}, "at most 1"),
        ({"granularity": "row"}, "known are element, unit"),
        ({"method": "magic"}, "known are dynamic, static, one-shot, dense-small"),
        ({"interval": 0}, "interval is 0; it must be at least 1"),
        ({"row_blocks": 0}, "row_blocks is 0"),
        ({"start_rate": 1.0}, "between 0 and 1"),
        ({"stop_share": 0.0}, "above 0"),
    ],
)
def test_wrong_values_are_refused(values: dict[str, Any], part: str) -> None:
    with pytest.raises(ValueError, match=part):
        SparseConfig(**{"density": 0.5, **values})


def test_the_rate_is_the_papers_until_it_stops() -> None:
    config = SparseConfig(density=0.5, start_rate=0.4)
    assert config.rate(0.0) == pytest.approx(0.4)
    assert config.rate(0.5) == pytest.approx(0.2)
    assert config.rate(0.75) == 0.0
    assert replace(config, method="static").rate(0.0) == 0.0


def test_it_is_handed_on() -> None:
    config = SparseConfig(density=0.3, granularity="unit")
    noted = {"config": {"sparse": asdict(config)}}
    assert inherited(noted, None) == config
    assert inherited({"config": {"sparse": None}}, None) is None
    assert inherited({}, None) is None
    other = SparseConfig(density=1.0)
    assert inherited(noted, other) == other
    with pytest.raises(ValueError, match="without --refresh"):
        inherited(noted, SparseConfig(density=0.5, method="dense-small"))
    with pytest.raises(ValueError, match="say --density again"):
        inherited({"config": {"sparse": {"density": 0.5, "shape": 1}}}, None)


@pytest.mark.parametrize("density", [0.5, 0.3, 0.1])
def test_a_smaller_network_has_at_most_as_many_weights(density: float) -> None:
    config = SupernetConfig(
        num_items=3_000, max_length=50, depths=(1, 2), widths=(32, 64), emb_widths=(32, 64)
    )
    small = smaller(config, density)
    counts = [sum(parameter_counts(one, one.largest).values()) for one in (small, config)]
    assert 0.75 * density < counts[0] / counts[1] < 1.1 * density
    assert len(small.widths) == len(small.emb_widths) == 2
