"""The picture of a use map: one row a layer; heads, neurons and what is to be told of each layer.

The more a unit is used, the darker it is, on a scale of powers of ten; silent units are pink.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from twinlens.results.base import optional
from twinlens.results.use import UnitKind, UseResult
from twinlens.show.colours import EMPTY, INK, STAR, ink
from twinlens.show.text import fitted, printable, width_of, wrapped

_LEFT, _GAP, _TOP, _BOTTOM, _NEURONS, _RIGHT = 0.62, 0.32, 1.28, 0.82, 6.6, 0.3  # inches
_COLUMNS = (("silent", 0.55), ("halves agree", 0.85), ("most used", 0.75), ("least used", 0.75))
_GREY = "#6b7076"
_FINEST = 1000  # columns that can be told apart; more units share one, and their colours mix
MEANINGS = {
    "use": "mean length of what a unit writes at a token",
    "mean_use": "mean distance of what a unit writes from its mean",
    "effect": "first-order effect on the loss of zeroing a unit at a token, nats",
    "wanda": "root of the summed squares of |W| times the root mean square of the input (Wanda)",
    "magnitude": "length of a unit's weights, whatever the text",
}


def draw_use(result: UseResult, score: str = "use", *, sort: bool = False) -> Any:
    """The map as a `matplotlib.figure.Figure`; `sort`: units of a layer by their score.

    Raises `MissingExtraError` without matplotlib, `InputError` for an unknown score.
    """
    page = _Page(result, score, sort)
    page.figure = optional("matplotlib.figure", "figures").Figure(page.size, facecolor="white")
    page.words()
    x = _LEFT
    for kind in page.kinds:
        page.map(kind, x, page.widths[kind])
        x += page.widths[kind] + _GAP
    page.told(x - 0.1)
    return page.figure


def ends_of(values: Float[np.ndarray, "layer unit"]) -> tuple[float, float]:
    """The ends of the colour scale: 1% of the units lie below the lower, 0.5% above the upper."""
    known = values[np.isfinite(values) & (values > 0)]
    if not known.size:
        return 1e-3, 1.0
    low, high = np.percentile(known, [1, 99.5])
    return max(float(low), float(high) / 1e4), float(high)


def round_ticks(low: float, high: float, most: int) -> list[float]:
    """At most so many round numbers (1, 2, 5 times powers of ten) between two; else the two."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for leading in ((1, 2, 5), (1, 3), (1,)):
        found = [n * 10.0**p for p in powers for n in leading if low <= n * 10.0**p <= high]
        if 2 <= len(found) <= most:
            return found
    return [low, high]


class _Page:
    """Where everything is, in inches from the left and from the top."""

    figure: Any

    def __init__(self, result: UseResult, score: str, sort: bool) -> None:
        self.result, self.score, self.sort = result, score, sort
        self.kinds: list[UnitKind] = ["head", "neuron"]
        self.kinds = [kind for kind in self.kinds if result.score(score, kind).shape[1]]
        n_heads = result.heads.shape[-1]
        wanted = {"head": min(max(0.42 * n_heads, 1.3), 3.4), "neuron": _NEURONS}
        self.widths = {kind: wanted[kind] for kind in self.kinds}
        self.height = min(max(0.34 * len(result.layers), 1.3), 9.0)
        across = _LEFT + sum(width + _GAP for width in self.widths.values()) + _RIGHT
        self.size = (across + sum(w for _, w in _COLUMNS), _TOP + self.height + _BOTTOM)

    def axes(self, x: float, top: float, width: float, height: float) -> Any:
        across, down = self.size
        return self.figure.add_axes(
            (x / across, 1 - (top + height) / down, width / across, height / down)
        )

    def text(self, x: float, top: float, words: str, **style: Any) -> None:
        across, down = self.size
        given = {"fontsize": 7.5, "color": INK, "va": "top", "parse_math": False} | style
        self.figure.text(x / across, 1 - top / down, words, **given)

    def words(self) -> None:
        """Title, and what is shown."""
        result, room = self.result, self.size[0] - 0.5
        title = f"{result.provenance.model}: which parts a text uses"
        self.text(0.25, 0.14, fitted(printable(title), 13, room), fontsize=13, fontweight="bold")
        told = [f"{self.score}: {MEANINGS[self.score]}", f"{result.n_tokens:,} tokens"]
        if np.isfinite(result.loss):
            told.append(f"loss {result.loss:.3f} nats a token")
        told.append(
            f"pink: silent, at no token as much as {result.threshold:g} times the layer's mean use"
        )
        told.append("halves agree: rank correlation between random halves of the documents")
        told += result.notes
        self.text(0.25, 0.44, wrapped(printable("  ·  ".join(told)), 7.5, room), color=_GREY)

    def map(self, kind: UnitKind, x: float, width: float) -> None:
        """Layers top to bottom, units left to right."""
        matplotlib = optional("matplotlib", "figures")
        colors = optional("matplotlib.colors", "figures")
        values, silent = self._values(kind)
        n_layers, n_units = values.shape
        below = "most used first" if self.sort else "by number"
        self.text(x, _TOP - 0.3, f"{kind}s", fontsize=10, fontweight="bold")
        self.text(
            x + width_of(f"{kind}s", 10) * 1.12 + 0.1, _TOP - 0.26, f"{n_units:,} a layer, {below}",
            fontsize=6.5, color=_GREY,
        )  # fmt: skip
        axes = self.axes(x, _TOP, width, self.height)
        low, high = ends_of(values)
        norm, colours = colors.LogNorm(low, high, clip=True), matplotlib.colormaps["GnBu"]
        drawn = colours(norm(np.maximum(np.nan_to_num(values), low)))
        drawn[silent] = colors.to_rgba(STAR)
        drawn[~np.isfinite(values)] = colors.to_rgba(EMPTY)
        axes.imshow(
            mixed(drawn), aspect="auto", interpolation="nearest", extent=(0, n_units, n_layers, 0)
        )
        for line in range(1, n_layers):
            axes.axhline(line, color="white", linewidth=1.0)
        self._ends(axes, kind, x)
        if kind == "head" and n_units <= 16 and not self.sort:
            self._numbers(axes, values, drawn)
        self._scale(matplotlib.cm.ScalarMappable(norm, colours), x, width)

    def told(self, x: float) -> None:
        """A few facts of each layer, on its row: of the neurons, or where there are none, heads."""
        kind = self.kinds[-1]
        stable = self.result.stability(self.score, kind).layers
        silent = self.result.silent(kind).mean(axis=1)
        values = self.result.score(self.score, kind)
        columns: list[Sequence[str]] = [
            [f"{share:.0%}" if share == 0 or share >= 0.1 else f"{share:.1%}" for share in silent],
            ["–" if np.isnan(one) else f"{one:.2f}" for one in stable],
            [self.result.unit_name(kind, n, int(row.argmax())) for n, row in enumerate(values)],
            [self.result.unit_name(kind, n, int(row.argmin())) for n, row in enumerate(values)],
        ]
        self.text(x, _TOP - 0.34, f"of the {kind}s", fontsize=7.5, fontweight="bold")
        step = self.height / len(values)
        every = max(1, int(np.ceil(0.14 / step)))
        for (name, width), words in zip(_COLUMNS, columns, strict=True):
            self.text(x, _TOP - 0.16, name, fontsize=6.5, color=_GREY)
            for row in range(0, len(words), every):
                middle = _TOP + (row + 0.5) * step
                self.text(x, middle, words[row], fontsize=7, va="center")
            x += width

    def _values(self, kind: UnitKind) -> tuple[np.ndarray, np.ndarray]:
        values, silent = self.result.score(self.score, kind), self.result.silent(kind)
        if not self.sort:
            return values, silent
        order = np.argsort(-values, axis=1, kind="stable")
        return np.take_along_axis(values, order, 1), np.take_along_axis(silent, order, 1)

    def _ends(self, axes: Any, kind: UnitKind, x: float) -> None:
        layers = self.result.layers
        step = max(1, int(np.ceil(len(layers) * 0.14 / self.height)))
        axes.set_yticks(np.arange(0, len(layers), step) + 0.5)
        first = x == _LEFT
        axes.set_yticklabels(layers[::step] if first else [], fontsize=7)
        if first:
            axes.set_ylabel("layer, top to bottom", fontsize=7, color=_GREY, labelpad=2)
        axes.tick_params(axis="y", length=0, pad=2)
        axes.tick_params(axis="x", labelsize=6.5, length=2, pad=1)
        if kind == "head" and self.result.heads.shape[-1] <= 16:
            n_units = self.result.heads.shape[-1]
            axes.set_xticks(np.arange(n_units) + 0.5)
            axes.set_xticklabels([f"H{n}" for n in range(n_units)])
        if self.sort:
            axes.set_xticks([])
        axes.spines[:].set_visible(False)

    def _numbers(self, axes: Any, values: np.ndarray, drawn: np.ndarray) -> None:
        if self.height / len(values) < 0.16:
            return
        for layer, unit in np.ndindex(values.shape):
            if np.isfinite(values[layer, unit]):
                axes.text(
                    unit + 0.5, layer + 0.5, _short(float(values[layer, unit])), fontsize=6.5,
                    ha="center", va="center", color=ink(tuple(drawn[layer, unit])),
                )  # fmt: skip

    def _scale(self, shown: Any, x: float, width: float) -> None:
        bar = self.axes(x, _TOP + self.height + 0.34, width, 0.09)
        drawn = self.figure.colorbar(shown, cax=bar, orientation="horizontal")
        drawn.outline.set_visible(False)
        ticks = round_ticks(shown.norm.vmin, shown.norm.vmax, 5 if width < 4 else 10)
        drawn.set_ticks(ticks, labels=[_short(v) for v in ticks], fontsize=6.5)
        drawn.ax.minorticks_off()
        drawn.ax.tick_params(length=2, pad=1)


def mixed(drawn: Float[np.ndarray, "layer unit 4"]) -> Float[np.ndarray, "layer column 4"]:
    """Colours of so many columns as can be told apart, each the mean of its units'."""
    n_units = drawn.shape[1]
    if n_units <= _FINEST:
        return drawn
    edges = np.linspace(0, n_units, _FINEST + 1).round().astype(int)
    sums = np.add.reduceat(drawn, edges[:-1], axis=1)
    return sums / np.diff(edges)[None, :, None]


def _short(value: float) -> str:
    """Two digits: 0.31, 4.2, 57, 100, 3e-5."""
    if value == 0 or 1e-2 <= value < 100:
        return f"{value:.2g}"
    return f"{value:.0f}" if 100 <= value < 1e4 else f"{value:.0e}".replace("e-0", "e-")
