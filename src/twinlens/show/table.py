"""A picture as a compact table for the terminal: the columns that matter, colours where it can."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from rich.cells import cell_len, set_cell_size
from rich.console import Group, RenderableType
from rich.style import Style
from rich.table import Table
from rich.text import Text

from twinlens.show.colours import SYMLOG
from twinlens.show.panels import Panel
from twinlens.show.picture import Picture, by_columns

_CELL, _ROW_NAME, _GAP = 8, 6, 1


def table(picture: Picture, width: int) -> RenderableType:
    """The panels below each other, with as many tokens as fit a terminal of `width` characters.

    Where not all fit, the focus, the subject and the tokens with the largest effects are shown.
    """
    parts = [line for part in by_columns(picture) for line in _panels(part, width)]
    parts += [Text(f"note: {note}", style="yellow") for note in picture.notes]
    return Group(*parts)


def _panels(picture: Picture, width: int) -> list[RenderableType]:
    """Panels with the same columns."""
    shown = _columns(picture, max(1, (width - _ROW_NAME - 1) // (_CELL + _GAP)))
    parts: list[RenderableType] = []
    for panel in picture.panels:
        title = Text(panel.title, style="bold")
        parts += [
            title.append(f"  {panel.subtitle}", style="not bold dim"),
            _grid(picture, panel, shown),
        ]
        if panel.values.ndim > 2:
            parts.append(Text("(the strongest part of each cell)", style="dim"))
    left_out = len(picture.tokens) - len(shown)
    if left_out:
        what = f"{picture.panels[0].column}s left out (…)"
        parts.append(Text(f"{left_out} of {len(picture.tokens)} {what}", style="dim"))
    return parts


def _columns(picture: Picture, room: int) -> list[int]:
    """Token positions to show, in order."""
    n = len(picture.tokens)
    if n <= room:
        return list(range(n))
    worth = np.linspace(0, 1e-6, n)  # the later, the better, where nothing else decides
    for panel in picture.panels:
        if (panel.scale == "diverging" and panel.texts is not None) or panel.values.ndim > 2:
            strength = np.abs(np.nan_to_num(panel.values)).reshape(len(panel.rows), n, -1)
            worth += strength.max(axis=(0, 2)) / (strength.max() or 1.0)
    worth[picture.subject] += 10
    if picture.focus is not None:
        worth[picture.focus] += 20
    return sorted(np.argsort(-worth, kind="stable")[:room].tolist())


def _grid(picture: Picture, panel: Panel, shown: list[int]) -> Table:
    grid = Table(box=None, padding=(0, _GAP, 0, 0), show_edge=False, header_style="")
    grid.add_column("", width=_ROW_NAME, justify="right", style="dim", no_wrap=True)
    for token in shown:
        grid.add_column(_head(picture, token, shown), width=_CELL, no_wrap=True, justify="center")
    for row, name in enumerate(panel.rows):
        grid.add_row(name, *(_cell(panel, row, token) for token in shown))
    return grid


def _head(picture: Picture, token: int, shown: list[int]) -> Text:
    before = {b: b - a > 1 for a, b in pairwise(shown)}.get(token, token == shown[0] and token > 0)
    label = ("…" if before else "") + picture.tokens.labels[token]
    style = "dim italic" if picture.tokens.special[token] else "bold"
    if token == picture.focus:
        label, style = f"▼{label}", "bold green"
    elif picture.subject[token]:
        label, style = f"▬{label}", "bold dark_orange3"
    return Text(f"{token}\n", style="dim").append(_cut(label, _CELL), style=f"not dim {style}")


def _cell(panel: Panel, row: int, token: int) -> Text:
    parts = np.atleast_1d(panel.values[row, token]).ravel()
    if not np.isfinite(parts).any():
        return Text("")
    value = float(parts[np.nanargmax(np.abs(parts))])
    if panel.stars is not None and panel.texts is not None:
        star = "★" if panel.stars[row, token] else ""
        text = _cut(panel.texts[row][token], _CELL - len(star)) + star
    else:
        text = _number(value, panel.high).replace("-", "−")
    return Text(set_cell_size(text.center(_CELL), _CELL), style=_colour(panel, value))


def _number(value: float, largest: float) -> str:
    """Three decimals, or powers of ten in a panel where all is small; a dot for next to nothing."""
    if abs(value) <= min(5e-4, largest / 50):
        return "·"
    return f"{value:+.3f}" if abs(value) > 5e-4 else f"{value:+.0e}".replace("e-0", "e-")


def _cut(text: str, room: int) -> str:
    return text if cell_len(text) <= room else set_cell_size(text, room - 1) + "…"


def _colour(panel: Panel, value: float) -> Style:
    """A background from white to blue, or from purple over white to orange, as in the figure."""
    share = (value - panel.low) / (panel.high - panel.low or 1.0)
    share = min(1.0, max(0.0, share))
    if panel.scale == "symlog":  # as in the figure: linear below a thirtieth, logarithmic above
        size = np.log1p(abs(value) / (panel.high * SYMLOG)) / np.log1p(1 / SYMLOG)
        share = 0.5 + 0.5 * float(np.copysign(size, value))
    if panel.scale in ("diverging", "symlog"):
        share, end = abs(2 * share - 1), ((230, 97, 1) if share > 0.5 else (94, 60, 153))
    else:
        end = (8, 81, 156)
        share = 1 - share if panel.scale == "log" else share
    red, green, blue = (round(255 + (to - 255) * share) for to in end)
    ink = "black" if 0.3 * red + 0.59 * green + 0.11 * blue > 140 else "white"
    return Style(color=ink, bgcolor=f"#{red:02x}{green:02x}{blue:02x}")
