"""Figures as SVG that can stand in one HTML page, several of them and without any network."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager

import matplotlib as mpl
from matplotlib.figure import Figure

# Okabe and Ito: told apart with any colour vision.
COLOURS = {
    "routed": "#d55e00",
    "full": "#0072b2",
    "random": "#999999",
    "hull": "#0072b2",
    "oracle": "#009e73",
    "plain": "#cc79a7",
    "canet": "#e69f00",
    "floor": "#555555",
}
_NO_METADATA = dict.fromkeys(("Date", "Creator", "Format", "Type"))
_IDS = re.compile(r'(\bid="|url\(#|href="#)')


@contextmanager
def styled() -> Iterator[None]:
    """The look of every figure, inside the block only."""
    with mpl.rc_context(
        {
            "svg.fonttype": "none",  # text stays text: small, searchable, in the reader's own font
            "svg.hashsalt": "canet",  # equal figures give equal bytes
            "font.family": "sans-serif",
            "font.size": 9.0,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.grid": True,
            "axes.axisbelow": True,
            "grid.color": "#e4e4e4",
            "legend.frameon": False,
            "legend.fontsize": 8.0,
        }
    ):
        yield


def to_svg(figure: Figure, name: str, description: str) -> str:
    """Return the figure as one `<svg>` element whose ids begin with `name`; call inside `styled`.

    `description` is what a screen reader says of it. No prolog, no reference to anything outside.
    """
    out = io.StringIO()
    figure.savefig(out, format="svg", metadata=_NO_METADATA)
    text = out.getvalue()
    text = text[text.index("<svg") :]
    text = _IDS.sub(rf"\g<1>{name}-", text)
    label = description.replace("&", "&amp;").replace("<", "&lt;").replace('"', "&quot;")
    return text.replace("<svg", f'<svg role="img" aria-label="{label}"', 1)
