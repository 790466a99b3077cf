"""Keep a constant part of the weights alive while others train it: the forward pass never knows.

Dynamic sparse learning (Wang et al., WSDM 2024): train from a random sparse start and every few
steps exchange the smallest living weights for dead ones with large gradients. What the published
code gets wrong is done otherwise: moments are cleared at death and at birth, gradients are summed
over many batches, newborns are spared once, counts are exact, norms and biases stay, and the
exchange ends in time for the weights to settle.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from training.sparse.config import SparseConfig
from training.sparse.pool import Pool

_MOMENTS = ("exp_avg", "exp_avg_sq")


class SparseController:
    """Called around every optimiser step; see `SparseConfig`.

    After construction and after every call the living pieces of each pool are exactly as many as
    before, and dead weights of `parameters` and of their running `average` are exactly 0 with
    moments of 0. `given` weights keep their largest pieces; others start from a random choice.
    """

    def __init__(
        self,
        config: SparseConfig,
        pools: Sequence[Pool],
        parameters: Mapping[str, nn.Parameter],
        optimizer: torch.optim.Optimizer,
        average: Mapping[str, Tensor],
        *,
        given: bool,
        seed: int = 0,
    ) -> None:
        self.config = config
        self.pools = tuple(pools)
        self._parameters = dict(parameters)
        self._weights = {name: parameter.detach() for name, parameter in parameters.items()}
        self._optimizer = optimizer
        self._average = average
        self._sums: dict[str, Tensor] = {}
        self._generator = torch.Generator().manual_seed(seed)
        self._count = 0
        self._progress: float | None = None
        self._per_step = 0.0
        self.moving = config.method != "static" and not (given and config.method == "one-shot")
        """Whether it is still to change which pieces live."""
        self.whole = self.moving and config.method == "one-shot"
        """Whether nothing has been dropped yet: the first half of a one-shot run."""
        if not self.whole:
            for pool in self.pools:
                if given:
                    pool.choose_largest(self._weights, self._generator)
                else:
                    pool.choose_randomly(self._weights, self._generator)
            self._silence()

    def begin_epoch(self, progress: float, per_step: float) -> bool:
        """Say how far the run is, 0..1, and how much a step adds; nothing moves before the first.

        True when what lives has just become final: a dynamic run has stopped exploring, or a
        one-shot run has dropped its smallest weights now.
        """
        self._progress, self._per_step = progress, per_step
        if not self.moving:
            return False
        if self.whole:
            if progress < 0.5:
                return False
            self._prune()
        elif progress < self.config.stop_share:
            return False
        self.moving = False
        return True

    def before_step(self) -> None:
        """Take note of the gradients and keep them from the dead."""
        if self.whole:
            return
        interval = self.config.interval
        collects = self._rate() > 0 and self._count % interval >= interval - self.config.window
        for pool in self.pools:
            gradients = {
                name: gradient
                for name in pool.watched
                if (gradient := self._parameters[name].grad) is not None
            }
            if collects:
                for name, gradient in gradients.items():
                    if name in self._sums:
                        self._sums[name] += gradient
                    else:
                        self._sums[name] = gradient.clone()
            pool.silence(gradients)

    def after_step(self) -> None:
        """Count the step and, when it is time, exchange the smallest for the most wanted."""
        if self.whole:
            return
        self._count += 1
        rate = self._rate()
        if self._progress is not None:
            self._progress += self._per_step
        if rate > 0 and self._count % self.config.interval == 0:
            for pool in self.pools:
                if all(name in self._sums for name in pool.watched):
                    self._forget(pool.explore(rate, self._weights, self._sums))
            self._sums.clear()
            self._silence()

    @torch.no_grad()
    def finish(self) -> None:
        """Leave in `parameters`, whatever they were set to, nothing that is dead."""
        if self.whole:
            self._prune()
        for pool in self.pools:
            pool.clear(self._weights)

    def state(self) -> dict[str, Tensor]:
        """Return what continuing needs, flat, as copies."""
        state = {
            "count": torch.tensor(self._count),
            "moving": torch.tensor(self.moving),
            "whole": torch.tensor(self.whole),
        }
        state.update({f"sum.{name}": total.clone() for name, total in self._sums.items()})
        for pool in self.pools:
            state.update(pool.state())
        return state

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Continue where `state` was taken."""
        self._count = int(state["count"])
        self.moving, self.whole = bool(state["moving"]), bool(state["whole"])
        self._sums = {
            name.removeprefix("sum."): total.clone()
            for name, total in state.items()
            if name.startswith("sum.")
        }
        for pool in self.pools:
            pool.load_state(state)

    def _rate(self) -> float:
        return 0.0 if self._progress is None else self.config.rate(self._progress)

    @torch.no_grad()
    def _prune(self) -> None:
        self.whole = False
        for pool in self.pools:
            self._forget(pool.choose_largest(self._weights, self._generator))
        self._silence()

    @torch.no_grad()
    def _forget(self, changed: Mapping[str, Tensor]) -> None:
        for name, places in changed.items():
            moments = self._optimizer.state.get(self._parameters[name], {})
            for key in _MOMENTS:
                if key in moments:
                    moments[key].masked_fill_(places, 0.0)

    @torch.no_grad()
    def _silence(self) -> None:
        for pool in self.pools:
            pool.silence(self._weights)
            pool.silence(self._average)
