"""What every report says about its users, its cores and the state of the machine."""

from __future__ import annotations

from bench.machine import busy
from bench.stack import Bench


def notes(here: Bench) -> tuple[str, ...]:
    """Return sentences for the method: the model, the users, pinning, other work here."""
    model = here.model
    told = [
        f"Synthetic checkpoint: {model.items:,} items, {model.depth} layers of width "
        f"{model.width}, tables of {model.emb_width}, histories of up to {model.length}; published "
        f"with the price of {model.encoder_share:.0%} of the encoder's FLOPs; served are "
        f"{', '.join(one.name for one in model.served)}.",
        f"Synthetic users: {here.histories.description}.",
        here.cores.description[0].upper() + here.cores.description[1:] + ".",
    ]
    if here.options.quick:
        told.append("--quick: sizes and times are too small to mean anything.")
    warning = busy()
    if warning is not None:
        told.append(warning[0].upper() + warning[1:] + ".")
    return tuple(told)
