"""One optimisation step with an elastic table: the sandwich, with rows narrowed at random."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from models.memory import TransitionMemory
from models.network import NetworkWeights
from models.supernet import Supernet
from models.table.table import ItemTable, whole_table
from training.elastic.config import Choice, ElasticConfig
from training.elastic.diversity import add_diversity
from training.elastic.draws import draw_choice, draw_orders
from training.elastic.narrow import Calibration, Narrowing
from training.elastic.turn import principal_turn, turned
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
        self._weight_V = popularity_V.sqrt()

    def identity(self) -> dict[str, Any]:
        """Return the groups, widths and blocks, and that columns are turned."""
        return {"elastic": self._elastic.to_json(), "turned": True}

    @torch.no_grad()
    def begin_epoch(self, epoch: int) -> None:
        """Find the turn that puts most into leading columns, between two epochs of one run.

        Not where blocks of columns are kept in place of prefixes, nor where single weights are held
        at zero.
        """
        if epoch == 0 or self._elastic.blocks is not None or self.sparse is not None:
            return
        turn_EE = principal_turn(
            self.average["table"], self._weight_V, self.supernet.config.emb_widths
        )
        self.calibration.turn_EE.copy_(turn_EE)

    @torch.no_grad()
    def finish(self, best: Mapping[str, Tensor]) -> None:
        """Take the best weights and turn them: prefixes are of the columns that are there then."""
        super().finish(best)
        for name, tensor in turned(self.parameters, self.calibration.turn_EE).items():
            self.parameters[name].copy_(tensor)
        self.calibration.turn_EE.copy_(torch.eye(len(self.calibration.turn_EE)))

    def _networks(self, generator: np.random.Generator) -> list[NetworkWeights]:
        """Return the networks of one step, the teacher first."""
        groups, widths = len(self._elastic.stops), len(self._elastic.widths)
        grid = [one for one in self.supernet.config.submodels if within(one, self.top)]
        networks = super()._networks(generator)[:2]
        table = whole_table(self.supernet.table @ self.calibration.turn_EE)
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
            networks.append(self._narrowed(self.supernet.slice(submodel), table, how, choice_G))
        return networks

    def _add_terms(self, draws: torch.Generator) -> None:
        elastic = self._elastic
        if elastic.blocks is not None and elastic.diversity > 0:
            add_diversity(self.supernet.table, elastic.blocks, elastic.diversity, draws)

    def _narrowed(
        self, weights: NetworkWeights, table: ItemTable, how: Narrowing, choice_G: Choice
    ) -> NetworkWeights:
        """Return the weights with turned columns and the narrowed one of the turned `table`."""
        narrow, item_bias_V = how(table, self.supernet.item_bias, choice_G)
        columns = weights.submodel.emb_width
        turn_EE = self.calibration.turn_EE[:columns, :columns]
        positions_LE = weights.positions_LE
        return replace(
            weights,
            table=narrow.slice(columns),
            item_bias_V=item_bias_V,
            positions_LE=None if positions_LE is None else positions_LE @ turn_EE,
            input_weight_DE=weights.input_weight_DE @ turn_EE,
            output_weight_ED=turn_EE.T @ weights.output_weight_ED,
            output_bias_E=turn_EE.T @ weights.output_bias_E,
        )
