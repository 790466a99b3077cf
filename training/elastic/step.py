"""One optimisation step with an elastic table: the sandwich, with rows narrowed at random."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from models.memory import TransitionMemory
from models.network import NetworkWeights
from models.supernet import Supernet
from training.elastic.config import Choice, ElasticConfig
from training.elastic.diversity import add_diversity
from training.elastic.draws import draw_choice, draw_orders
from training.elastic.narrow import Calibration, Narrowing
from training.fit.config import TrainConfig
from training.fit.growth import within
from training.fit.sandwich import SandwichStep


class ElasticStep(SandwichStep):
    """The largest and the smallest submodel with whole rows, others with narrowed ones.

    Of the others one has every group at the least width, the rest (at least one) random widths;
    all learn from the largest with whole rows. Rows are narrowed where they are read, too. Where
    blocks are kept in place of prefixes, each network keeps random ones of every group, and the
    step has a diversity term of its own.
    ValueError for a table that is not stored whole.
    """

    def __init__(
        self,
        elastic: ElasticConfig,
        supernet: Supernet,
        config: TrainConfig,
        memories: Sequence[TransitionMemory] | None,
        popularity_V: Tensor,
        *,
        initial: Calibration | None = None,
    ) -> None:
        if supernet.config.table is not None:
            raise ValueError(
                "an elastic table must be stored whole; leave out either --elastic or the "
                "table's blocks"
            )
        calibration = Calibration(elastic)
        if initial is not None:
            calibration.load_state_dict(initial.state_dict())
        super().__init__(supernet, config, memories, popularity_V, more={"elastic.": calibration})
        self.calibration: Calibration = calibration
        self._elastic = elastic

    def identity(self) -> dict[str, Any]:
        """Return the groups, widths and blocks."""
        return {"elastic": self._elastic.to_json()}

    def _networks(self, generator: np.random.Generator) -> list[NetworkWeights]:
        """Return the networks of one step, the teacher first."""
        groups, widths = len(self._elastic.stops), len(self._elastic.widths)
        grid = [one for one in self.supernet.config.submodels if within(one, self.top)]
        networks = super()._networks(generator)[:2]
        drawn = max(1, self.config.random_submodels)
        least_G = np.zeros(groups, dtype=np.int64)
        for choice_G in (
            least_G,
            *(draw_choice(groups, widths, generator) for _ in range(drawn)),
        ):
            submodel = grid[int(generator.integers(len(grid)))]
            how = self.calibration.narrowing()
            if self._elastic.blocks is not None:
                how = how.ordered(draw_orders(groups, self._elastic.blocks, generator))
            networks.append(self._narrowed(self.supernet.slice(submodel), how, choice_G))
        return networks

    def _add_terms(self, draws: torch.Generator) -> None:
        elastic = self._elastic
        if elastic.blocks is not None and elastic.diversity > 0:
            add_diversity(self.supernet.table, elastic.blocks, elastic.diversity, draws)

    def _narrowed(
        self, weights: NetworkWeights, how: Narrowing, choice_G: Choice
    ) -> NetworkWeights:
        table, item_bias_V = how(self.supernet.item_table, self.supernet.item_bias, choice_G)
        columns = weights.submodel.emb_width
        return replace(weights, table=table.slice(columns), item_bias_V=item_bias_V)
