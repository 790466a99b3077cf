"""Weigh the transition memory after training: one number per submodel, found on validation."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from models.config import Submodel
from models.memory import TransitionMemory
from models.memory_lookup import newest
from models.ranker import Ranker, stack
from models.supernet import Supernet
from training.data.split import EvalCases
from training.evaluate.metrics import rank_of_target
from training.progress import Progress

GAINS = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0, 1.25, 1.5, 2.0, 3.0, 4.5, 7.0, 10.0)
_CELLS = 4_000_000


@torch.inference_mode()
def fit_gains(
    supernet: Supernet,
    memory: TransitionMemory,
    submodels: Sequence[Submodel],
    cases: EvalCases,
    *,
    exclude_seen: bool,
    progress: Progress,
) -> dict[str, float]:
    """Set each submodel's memory gain to the best of GAINS; return them by submodel name.

    Submodels of the same weights share one, found where they read everything. Best is the highest
    mean 1 / log2(1 + rank) over the cases; of equals the smallest.
    """
    config = supernet.config
    submodels = tuple(dict.fromkeys(one.slice for one in submodels))
    ranker = Ranker(supernet, memory, None, submodels)
    quality_SG = np.zeros((len(submodels), len(GAINS)))
    size = max(1, _CELLS // (config.num_items + 1))
    with progress.track("weighing the transition memory", len(cases)) as advance:
        for start in range(0, len(cases), size):
            chosen = range(start, min(start + size, len(cases)))
            full = [cases.histories[index] for index in chosen]
            cut = [history[-config.max_length :].tolist() for history in full]
            ids_BL, lengths_B = stack(cut, ranker.bucket(max(map(len, cut))))
            recent_BW = newest(ids_BL, lengths_B, ranker.window)
            targets_B = torch.from_numpy(cases.targets[chosen.start : chosen.stop])
            for place in range(len(submodels)):
                query_BE = ranker.encode(place, ids_BL, lengths_B)
                bare_BV, added_BV = (
                    ranker.scores(query_BE, np.full(len(chosen), gain, dtype=np.float32), recent_BW)
                    for gain in (0.0, 1.0)
                )
                bare_BV[:, 0] = added_BV[:, 0] = 0.0  # padding is never read, -inf would spread
                added_BV -= bare_BV
                for column, gain in enumerate(GAINS):
                    scores = torch.from_numpy(bare_BV + np.float32(gain) * added_BV)
                    ranks_B = rank_of_target(scores, targets_B, full if exclude_seen else None)
                    quality_SG[place, column] += float((1 / torch.log2(1 + ranks_B)).sum())
            advance(len(chosen))
    gains = [GAINS[column] for column in quality_SG.argmax(1)]
    for submodel, gain in zip(submodels, gains, strict=True):
        supernet.slice(submodel).memory_gain.fill_(gain)
    return {one.name: gain for one, gain in zip(submodels, gains, strict=True)}
