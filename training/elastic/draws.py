"""Random widths for a training step: every budget is met, and so is every spread around it.

Where blocks are kept in place of prefixes, which ones is random as well, for each group by itself.
"""

# G item groups, W widths, N column blocks

from __future__ import annotations

import numpy as np

from training.elastic.config import Choice, Orders


def draw_choice(groups: int, widths: int, generator: np.random.Generator) -> Choice:
    """Return a random choice of widths.

    A level is drawn from the narrowest to the widest, and each group's place around it; half of
    the draws give the wider places to the more popular groups, as a search mostly does.
    """
    level = generator.random() * (widths - 1)
    places_G = np.rint(level + generator.normal(0.0, widths / 4, groups))
    choice_G = places_G.clip(0, widths - 1).astype(np.int64)
    return -np.sort(-choice_G) if generator.random() < 0.5 else choice_G


def draw_orders(groups: int, blocks: int, generator: np.random.Generator) -> Orders:
    """Return a random order of the blocks for every group: whatever it keeps of them is any."""
    orders_GN = generator.permuted(np.tile(np.arange(blocks), (groups, 1)), axis=1)
    return tuple(map(tuple, orders_GN.tolist()))
