"""The words above and below the panels: titles, colour bars, what the marks mean, notes."""

from __future__ import annotations

from typing import Any

import numpy as np

from twinlens.results.base import optional
from twinlens.show.colours import FOCUS, INK, SUBJECT, colour_map, norm
from twinlens.show.layout import Layout
from twinlens.show.panels import Panel
from twinlens.show.picture import Picture
from twinlens.show.text import width_of

_AWAY = ", outside of this crop"


def head(figure: Any, layout: Layout, panel: Panel, column: int) -> None:
    """A panel's title, and below it what it shows."""
    x, _ = layout.grid(0, column)
    top = layout.size[1]
    figure.text(
        *layout.at(x, top - 0.3), panel.title, fontsize=11, fontweight="bold", color=INK,
        va="center",
    )  # fmt: skip
    figure.text(
        *layout.at(x, top - 0.46), layout.subtitles[column], fontsize=7.5, color="#555", va="top",
        parse_math=False,
    )  # fmt: skip


def colour_bar(figure: Any, layout: Layout, panel: Panel, column: int) -> None:
    """A panel's colours and what they mean."""
    cm, ticker = optional("matplotlib.cm", "figures"), optional("matplotlib.ticker", "figures")
    x, _ = layout.grid(0, column)
    axes = figure.add_axes(layout.box(x, layout.foot - 0.1, min(layout.reading, 3.2), 0.1))
    scale = cm.ScalarMappable(norm(panel), colour_map(panel))
    bar = figure.colorbar(scale, cax=axes, orientation="horizontal")
    bar.outline.set_visible(False)
    bar.ax.tick_params(labelsize=6, length=2, pad=1)
    bar.ax.xaxis.set_minor_locator(ticker.NullLocator())
    if panel.scale == "symlog":
        bar.set_ticks([panel.low, panel.low / 10, 0.0, panel.high / 10, panel.high])
    elif panel.scale != "log":
        ticks = ticker.MaxNLocator(6).tick_values(panel.low, panel.high)
        tiny = 1e-9 * (panel.high - panel.low)  # what rounding leaves of zero
        inside = [tick for tick in ticks if panel.low <= tick <= panel.high]
        bar.set_ticks([tick if abs(tick) > tiny else 0.0 for tick in inside])
    bar.ax.xaxis.set_major_formatter(ticker.FuncFormatter(lambda v, _: _number(v)))
    words = layout.meanings[column]
    bar.set_label(words, fontsize=7, color=INK, labelpad=2, loc="left", parse_math=False)


def _number(value: float) -> str:
    return f"{value:.3g}".replace("-", "\u2212")


def foot(figure: Any, layout: Layout, picture: Picture) -> None:
    """What the marks mean, then the notes."""
    marks: list[tuple[str, str]] = []
    if picture.subject.any():
        away = "" if any(layout.shows(int(t)) for t in np.flatnonzero(picture.subject)) else _AWAY
        marks.append((f"▬ subject (corrupted){away}", SUBJECT))
    if picture.focus is not None:
        away = "" if layout.shows(picture.focus) else f", token {picture.focus}{_AWAY}"
        marks.append((f"▼ focus (its next token is explained){away}", FOCUS))
    x, y = layout.before, 0.08 + layout.style.line * layout.note_lines
    for text, colour in marks:
        figure.text(*layout.at(x, y), text, fontsize=7, color=colour)
        x += width_of(text, 7) + 0.2
    if layout.notes:
        figure.text(
            *layout.at(layout.before, y - 0.05), "\n".join(layout.notes), fontsize=7,
            color="#9a1c1c", va="top", linespacing=1.25, parse_math=False,
        )  # fmt: skip
