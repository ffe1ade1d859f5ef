"""What is drawn in which colour, and the ink that stands out from it."""

from __future__ import annotations

from typing import Any

import numpy as np

from twinlens.results.base import optional
from twinlens.show.panels import Panel

INK, SUBJECT, FOCUS, STAR, EMPTY = "#22262b", "#b3400a", "#0b6b3a", "#e0218a", "#e4e4e2"
SYMLOG = 1 / 30  # of the largest: colours are linear below, logarithmic above
_COLOURS = {"sequential": "GnBu", "log": "GnBu_r", "diverging": "PuOr_r", "symlog": "PuOr_r"}


def colour_map(panel: Panel) -> Any:
    """The panel's matplotlib colour map."""
    matplotlib = optional("matplotlib", "figures")
    return matplotlib.colormaps[_COLOURS[panel.scale]].with_extremes(bad=EMPTY)


def norm(panel: Panel) -> Any:
    """From the panel's values to 0 to 1."""
    colors = optional("matplotlib.colors", "figures")
    if panel.scale == "log":
        return colors.LogNorm(max(panel.low, 1e-12), max(panel.high, 2e-12))
    if panel.scale == "symlog":  # so that weak units are seen beside the strongest
        return colors.SymLogNorm(panel.high * SYMLOG, vmin=panel.low, vmax=panel.high)
    return colors.Normalize(panel.low, panel.high)


def ink(colour: tuple[float, ...]) -> str:
    """Dark or light text, whichever stands out from the cell (relative luminance, WCAG 2)."""
    linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in colour[:3]]
    luminance = float(np.dot(linear, (0.2126, 0.7152, 0.0722)))
    return INK if luminance > 0.3 else "white"
