"""A picture as a matplotlib figure: panels side by side, long prompts stacked in bands.

Everything is placed in inches, so a cell is at the same place in every panel and text keeps its
size however long the prompt is.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from twinlens.results.base import optional
from twinlens.show.colours import EMPTY, FOCUS, INK, STAR, SUBJECT, colour_map, ink, norm
from twinlens.show.layout import Layout, Style, blocks
from twinlens.show.margins import colour_bar, foot, head
from twinlens.show.panels import Panel
from twinlens.show.picture import Picture
from twinlens.show.pooling import strongest
from twinlens.show.text import fitted, printable, width_of

_DOTS = 200  # pixels an inch: what a neuron map shows at most
_SIZES = (7.5, 6.5, 5.5)  # points, tried in turn for the text of a cell


def draw(pictures: Sequence[Picture], style: Style) -> Any:
    """Pictures below each other as a `matplotlib.figure.Figure` (`MissingExtraError` without
    matplotlib)."""
    figure_module = optional("matplotlib.figure", "figures")
    layouts = blocks(pictures, style)
    figure = figure_module.Figure(figsize=layouts[0].canvas, facecolor="white")
    for layout in layouts:
        _block(figure, layout, layout.picture)
    return figure


def _block(figure: Any, layout: Layout, picture: Picture) -> None:
    """Panels side by side, with the words above and below them."""
    for number, band in enumerate(layout.bands):
        for column, panel in enumerate(picture.panels):
            _Band(figure, layout, picture, panel, band, number, column).draw()
    for column, panel in enumerate(picture.panels):
        head(figure, layout, panel, column)
        colour_bar(figure, layout, panel, column)
    foot(figure, layout, picture)


class _Band:
    """One panel's part of one band: grid, texts, stars, token names, marks, surprisal strip."""

    def __init__(
        self,
        figure: Any,
        layout: Layout,
        picture: Picture,
        panel: Panel,
        band: range,
        number: int,
        column: int,
    ) -> None:
        self.figure, self.layout, self.picture, self.panel = figure, layout, picture, panel
        self.band, self.number, self.column = band, number, column
        self.style = layout.style
        self.x, self.y = layout.grid(number, column)
        self.n_rows = len(panel.rows)
        size = len(band), self.n_rows
        self.across, self.down = size[::-1] if self.style.transpose else size
        width, height = self.across * layout.cell[0], self.down * layout.cell[1]
        self.width, self.height = width, height
        y = self.y + (layout.panel[1] - height)  # a shorter last band starts at the top too
        self.axes = figure.add_axes(layout.box(self.x, y, width, height))
        self.bottom = y

    def draw(self) -> None:
        self._cells()
        self._names()
        self._texts()
        self._marks()
        if self.panel.columns is None:
            self._positions()
        if self.picture.surprisal_bits is not None:
            self._strip()

    def place(self, row: int, token: int) -> tuple[int, int]:
        """Column and line of a cell on the axes (line 0 is at the top)."""
        row = self.n_rows - 1 - row if self.style.flip else row
        token -= self.band.start
        return (row, token) if self.style.transpose else (token, row)

    def _cells(self) -> None:
        values = self.panel.values[:, self.band.start : self.band.stop]
        values = values[::-1] if self.style.flip else values
        if values.ndim == 2:
            values = values[:, :, None]
        if self.style.transpose:
            values = values.swapaxes(0, 1)
        if values.ndim == 4:
            self._pixels(values)
        else:
            self._parts(values)
        self.axes.set(xlim=(0, self.across), ylim=(self.down, 0))
        self.axes.set_facecolor(EMPTY)
        if values.ndim == 3 and values.shape[2] > 1:
            self.axes.hlines(range(1, self.down), 0, self.across, color="white", linewidth=1)
            self.axes.vlines(range(1, self.across), 0, self.down, color="white", linewidth=1)
        for spine in self.axes.spines.values():
            spine.set_visible(False)

    def _pixels(self, values: np.ndarray) -> None:
        """One image of all cells' pixels, the strongest of several where they do not fit."""
        most = [max(1, int(side * _DOTS)) for side in self.layout.cell[::-1]]
        values = strongest(values, most[0], most[1])
        for axis, room in zip((2, 3), most, strict=True):
            values = values.repeat(max(1, room // values.shape[axis]), axis=axis)
        values = np.pad(values, ((0, 0), (0, 0), (0, 1), (0, 1)), constant_values=np.nan)
        down, across, high, wide = values.shape  # with a line between the cells
        image = values.swapaxes(1, 2).reshape(down * high, across * wide)
        self.axes.imshow(
            image, cmap=colour_map(self.panel), norm=norm(self.panel), aspect="auto",
            interpolation="nearest", extent=(0, self.across, self.down, 0),
        )  # fmt: skip

    def _parts(self, values: np.ndarray) -> None:
        parts = values.shape[2]
        edges = np.linspace(0, self.across, self.across * parts + 1)
        mesh = self.axes.pcolormesh(
            edges,
            np.arange(self.down + 1),
            values.reshape(self.down, -1),
            cmap=colour_map(self.panel),
            norm=norm(self.panel),
            edgecolors="white" if parts == 1 else "none",
            linewidth=0.4,
        )
        mesh.set_rasterized(parts > 1 and self.across * self.down * parts > 20_000)

    def _names(self) -> None:
        rows = list(reversed(self.panel.rows)) if self.style.flip else list(self.panel.rows)
        room = (self.layout.before if self.style.transpose else self.layout.below) - 0.1
        room = self.layout.cell[0] if self.layout.level else room
        tokens = [fitted(name, 7.5, room) for name in self._labels()]
        across, down = (rows, tokens) if self.style.transpose else (tokens, rows)
        size = 7.5 if self.layout.cell[0] > 0.2 else 6.5
        level, narrow = self.layout.level, self.layout.cell[0] < 0.4
        for axis, names in ((self.axes.xaxis, across), (self.axes.yaxis, down)):
            axis.set_ticks(np.arange(len(names)) + 0.5)
            axis.set_ticklabels(names, fontsize=size, color=INK, parse_math=False)
        self.axes.tick_params(length=0, pad=2)
        if not self.style.transpose:
            self.axes.tick_params(axis="x", rotation=0 if level else 90 if narrow else 45)
            for tick in self.axes.get_xticklabels():
                tick.set(ha="center" if level or narrow else "right")
                tick.set_rotation_mode("default" if level or narrow else "anchor")
        ticks = self.axes.get_yticklabels() if self.style.transpose else self.axes.get_xticklabels()
        for token, tick in zip(self.band, ticks, strict=True):
            if token == self.picture.focus:
                tick.set(color=FOCUS, fontweight="bold")
            elif self.picture.subject[token]:
                tick.set(color=SUBJECT, fontweight="bold")
            elif self.picture.tokens.special[token]:
                tick.set(color="#8a8a8a", fontstyle="italic")

    def _labels(self) -> list[str]:
        return [printable(self.picture.tokens.labels[token]) for token in self.band]

    def _texts(self) -> None:
        """The cell's text where it fits; a star in the corner where it is right."""
        width = self.layout.cell[0]
        stars = self.panel.stars
        if stars is not None:
            at = [self.place(r, t) for r in range(self.n_rows) for t in self.band if stars[r, t]]
            size = 16 if width > 0.3 else 9
            corner = (1 - 0.075 / width, 0.26) if width > 0.3 else (0.5, 0.5)
            x, y = [x + corner[0] for x, _ in at], [y + corner[1] for _, y in at]
            edge = "white" if width > 0.3 else "none"
            self.axes.scatter(x, y, marker="*", s=size, c=STAR, ec=edge, lw=0.3, zorder=3)
        if self.panel.texts is None:
            return
        colours, scale = colour_map(self.panel), norm(self.panel)
        for row, texts in enumerate(self.panel.texts):
            for token in self.band:
                value = self.panel.values[row, token]
                starred = stars is not None and bool(stars[row, token])
                if texts[token]:
                    colour = ink(colours(scale(value))) if np.isfinite(value) else INK
                    self._text(texts[token], row, token, colour, starred)

    def _text(self, text: str, row: int, token: int, colour: str, starred: bool) -> None:
        x, y = self.place(row, token)
        text, room = printable(text), self.layout.cell[0] - (0.17 if starred else 0.06)
        if self.layout.cell[0] <= 0.3:  # whole or not at all, and never over a star
            if starred or width_of(text, _SIZES[-1]) > self.layout.cell[0] - 0.02:
                return
            room = self.layout.cell[0]
        size = next((s for s in _SIZES if width_of(text, s) <= room), _SIZES[-1])
        shift = 0.06 / self.layout.cell[0] if starred else 0.0
        self.axes.text(
            x + 0.5 - shift, y + 0.54, fitted(text, size, room), ha="center", va="center",
            fontsize=size, color=colour, parse_math=False,
        )  # fmt: skip

    def _marks(self) -> None:
        """A bar over the subject, a wedge over the focus and a frame around its column."""
        for token in self.band:
            x, y = self.place(0, token)
            if self.style.transpose:
                x = -0.05
            if self.picture.subject[token]:
                line = ([x, x], [y + 0.06, y + 0.94])
                if not self.style.transpose:
                    line = ([x + 0.06, x + 0.94], [-0.14, -0.14])
                self.axes.plot(*line, color=SUBJECT, lw=3, clip_on=False, solid_capstyle="butt")
            if token == self.picture.focus:
                self._mark_focus(x, y)

    def _mark_focus(self, x: float, y: float) -> None:
        patches = optional("matplotlib.patches", "figures")
        if self.style.transpose:
            corner, size, at, marker = (0, y), (self.across, 1), (-0.12, y + 0.5), ">"
        else:
            corner, size, at, marker = (x, 0), (1, self.down), (x + 0.5, -0.36), "v"
        frame = patches.Rectangle(corner, *size, fill=False, ec=FOCUS, lw=1.2, clip_on=False)
        self.axes.add_patch(frame)
        self.axes.plot(*at, marker=marker, ms=5, color=FOCUS, clip_on=False)

    def _positions(self) -> None:
        """The position of every fifth token, and of the first of the band."""
        for token in self.band:
            start = self.band.start
            if token != start and (token % 5 or token - start < 3):
                continue
            x, y = self.place(0, token)
            if self.style.transpose:
                at = self.x + self.width + 0.03, self.bottom + self.height - (y + 0.5) * 0.22
                place = {"ha": "left", "va": "center"}
            else:
                at = self.x + (x + 0.5) * self.layout.cell[0], self.bottom + self.layout.panel[1]
                at = at[0], self.y + self.layout.panel[1] + self.layout.above - 0.1
                place = {"ha": "center", "va": "center"}
            self.figure.text(
                *self.layout.at(*at), str(token), fontsize=5.5, color="#8a8a8a", **place
            )

    def _strip(self) -> None:
        bits = self.picture.surprisal_bits
        assert bits is not None
        top = max(1.0, float(np.nanmax(bits, initial=0.0)))
        part = np.nan_to_num(bits[self.band.start : self.band.stop])
        at = np.arange(len(self.band)) + 0.5
        layout, size = self.layout, self.style.strip
        if self.style.transpose:
            box = layout.box(self.x - size - 0.12, self.bottom, size, self.height)
            axes = self.figure.add_axes(box)
            axes.barh(at, part, height=0.8, color="#7d8590")
            axes.set(xlim=(top, 0), ylim=(len(self.band), 0))
            if self.column == 0 and self.number == 0:
                axes.set_title("surprisal (bits)", fontsize=5.5, color="#666", pad=8)
            self.axes.tick_params(axis="y", pad=(size + 0.16) * 72)
        else:
            box = layout.box(self.x, self.bottom + self.height + 0.16, self.width, size)
            axes = self.figure.add_axes(box)
            axes.bar(at, part, width=0.8, color="#7d8590")
            axes.set(xlim=(0, len(self.band)), ylim=(0, top))
            if self.column == 0:
                axes.set_yticks([0, top], ["0", f"{top:.0f}"], fontsize=5.5, color="#666")
                axes.set_ylabel("surprisal\n(bits)", fontsize=5.5, color="#666", labelpad=1)
        axes.tick_params(length=0, pad=1)
        axes.set_facecolor("none")
        for side, spine in axes.spines.items():
            spine.set_visible(side == ("right" if self.style.transpose else "bottom"))
            spine.set_color("#bbbbbb")
        scale = self.style.transpose and self.column == 0
        axes.set_xticks([0, top] if scale else [])
        if scale:
            axes.set_xticklabels(["0", f"{top:.0f}"], fontsize=5.5, color="#666")
            axes.xaxis.tick_top()
        if self.column != 0 or self.style.transpose:
            axes.set_yticks([])
