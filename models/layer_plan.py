"""Which layers share one kernel (CpRec, section "layer-wise parameter sharing").

A block is a pair of layers that stand one after the other: a residual block's two convolutions in
NextItNet, for which the schemes were published, and two successive layers in the Transformer.
"""

from __future__ import annotations

SHARING = ("none", "adjacent_layer", "adjacent_block", "cross_block", "cross_layer")


def layer_plan(sharing: str, layers: int) -> tuple[int, ...]:
    """Return the kernel of each layer, numbered from 0 by first use.

    `none`: each its own. `adjacent_layer`: the two layers of a block share. `adjacent_block`: two
    successive blocks share, first layer with first, second with second. `cross_block`: all blocks
    share so, which leaves two kernels. `cross_layer`: one kernel. The plan of fewer layers is the
    beginning of the plan of more. ValueError for an unknown scheme.
    """
    if sharing not in SHARING:
        raise ValueError(f"layer sharing {sharing!r} is unknown; known are {', '.join(SHARING)}")
    places = [divmod(layer, 2) for layer in range(layers)]
    if sharing == "adjacent_layer":
        return tuple(block for block, _ in places)
    if sharing == "adjacent_block":
        return tuple(block // 2 * 2 + half for block, half in places)
    if sharing == "cross_block":
        return tuple(half for _, half in places)
    return (0,) * layers if sharing == "cross_layer" else tuple(range(layers))
