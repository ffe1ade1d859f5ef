"""The picture of a summary: for each kind a map, layers top to bottom, token roles left to right,
and below it the same numbers as lines with bands; then the neurons that matter most often."""

from __future__ import annotations

from typing import Any

import numpy as np

from twinlens.results.base import optional
from twinlens.show.colours import EMPTY, FOCUS, INK, SUBJECT
from twinlens.show.text import fitted, printable, width_of, wrapped
from twinlens.sweep.summary import MATTERS, RoleAverage, Summary

_COLUMN, _GAP, _LEFT = 2.25, 0.55, 0.75  # inches
_HEAD, _ROLES, _BAR, _AXIS, _LEGEND, _LINE = 1.12, 0.82, 0.55, 0.45, 0.5, 0.2
_GREY = "#6b7076"
_COLOURS = {
    "before": "#a9adb1",
    "first subject": "#f2b45c",
    "middle subject": "#e0812f",
    "last subject": SUBJECT,
    "first after": "#7fb2e5",
    "further after": "#3b5ba9",
    "focus": FOCUS,
}
_TITLES = {
    "block": ("state after the block", "restored: the residual of one layer and token"),
    "mlp": ("MLP", "restored: what one MLP adds"),
    "attn": ("attention", "restored: what one attention adds"),
    "neurons": ("mean over the MLP's neurons", "each restored alone"),
}


def draw_summary(summary: Summary, neurons: int = 10) -> Any:
    """The summary as a `matplotlib.figure.Figure` (`MissingExtraError` without matplotlib)."""
    figure_module = optional("matplotlib.figure", "figures")
    page = _Page(summary, neurons)
    page.figure = figure_module.Figure(figsize=page.size, facecolor="white")
    page.words()
    for column, (kind, average) in enumerate(summary.kinds.items()):
        page.map(column, kind, average)
        page.lines(column, average)
    page.legend()
    page.table()
    return page.figure


class _Page:
    """Where everything is, in inches from the left and from the top."""

    figure: Any

    def __init__(self, summary: Summary, neurons: int) -> None:
        self.summary, self.shown = summary, summary.neurons[:neurons]
        rows = max((len(a.layers) for a in summary.kinds.values()), default=1)
        self.height = min(max(0.26 * rows, 1.6), 5.5)
        self.lines_top = _HEAD + self.height + _ROLES + _BAR
        self.legend_top = self.lines_top + self.height + _AXIS
        bottom = self.legend_top + _LEGEND
        bottom += 0.5 + _LINE * (len(self.shown) + 1) if self.shown else 0
        width = _LEFT + max(len(summary.kinds), 3) * (_COLUMN + _GAP)
        self.size = (width, bottom + 0.15)

    def axes(self, x: float, top: float, width: float, height: float) -> Any:
        across, down = self.size
        box = (x / across, 1 - (top + height) / down, width / across, height / down)
        return self.figure.add_axes(box)

    def text(self, x: float, top: float, words: str, **style: Any) -> None:
        across, down = self.size
        given = {"fontsize": 7.5, "color": INK, "va": "top", "parse_math": False} | style
        self.figure.text(x / across, 1 - top / down, words, **given)

    def left(self, column: int) -> float:
        return _LEFT + column * (_COLUMN + _GAP)

    def words(self) -> None:
        """Title and what is shown."""
        summary, about = self.summary, self.summary.about
        facts = f"{summary.n_facts:,} fact{'s' if summary.n_facts != 1 else ''}"
        model = about["model"]["name"]
        title = f"{model}: what the answer depends on, averaged over {facts}"
        if summary.is_difference:
            title = f"{summary.names[0]} \u2212 {summary.names[1]}: difference over {facts}"
        room = self.size[0] - 0.5
        self.text(0.25, 0.14, fitted(printable(title), 13, room), fontsize=13, fontweight="bold")
        mean, low, high = (f"{v:.3f}".replace("-", "\u2212") for v in summary.total)
        total = f"total effect of the corruption {mean} [{low}, {high}]"
        if summary.is_difference:
            total = f"total effect of the corruption, difference {mean} [{low}, {high}]"
        bands = f"bands: {summary.level:.0%} intervals"
        told = [corruption_of(about), total, bands, *summary.notes]
        self.text(0.25, 0.42, wrapped(printable("  ·  ".join(told)), 7.5, room), color=_GREY)

    def map(self, column: int, kind: str, average: RoleAverage) -> None:
        """Layers top to bottom, roles left to right; orange: the state matters."""
        matplotlib = optional("matplotlib", "figures")
        title, below = _TITLES[kind]
        if kind == "neurons":
            below += f"; {self.summary.about['settings']['method']}"
        self.text(self.left(column), _HEAD - 0.34, title, fontsize=10, fontweight="bold")
        self.text(self.left(column), _HEAD - 0.15, below, fontsize=6.5, color=_GREY)
        axes = self.axes(self.left(column), _HEAD, _COLUMN, self.height)
        limit = float(np.nanmax(np.abs(average.mean), initial=1e-12))
        colours = matplotlib.colormaps["PuOr_r"].with_extremes(bad=EMPTY)
        mesh = axes.pcolormesh(
            average.mean, cmap=colours, vmin=-limit, vmax=limit, edgecolors="white", linewidth=0.4
        )
        if self.summary.is_difference:
            sure = (average.low > 0) | (average.high < 0)
            y, x = np.nonzero(sure)
            axes.scatter(x + 0.5, y + 0.5, s=3, c=INK, linewidths=0)
        axes.set_ylim(len(average.layers), 0)
        self._layers(axes, average, 0.5, named=column == 0)
        axes.set_xticks(np.arange(len(average.roles)) + 0.5)
        axes.set_xticklabels(average.roles, rotation=45, ha="right", rotation_mode="anchor")
        for tick, role in zip(axes.get_xticklabels(), average.roles, strict=True):
            tick.set(color=_COLOURS[role] if role != "before" else _GREY, fontsize=7.5)
            tick.set_fontweight("bold" if role in ("last subject", "focus") else "normal")
        axes.spines[:].set_visible(False)
        bar = self.axes(self.left(column), _HEAD + self.height + _ROLES, _COLUMN, 0.09)
        drawn = self.figure.colorbar(mesh, cax=bar, orientation="horizontal")
        drawn.outline.set_visible(False)
        drawn.set_ticks([-limit, 0, limit])
        drawn.ax.set_xticklabels([_number(v) for v in (-limit, 0, limit)], fontsize=6.5)
        drawn.ax.tick_params(length=2, pad=1)

    def lines(self, column: int, average: RoleAverage) -> None:
        """One line a role, down the layers, with the interval as a band."""
        ticker = optional("matplotlib.ticker", "figures")
        axes = self.axes(self.left(column), self.lines_top, _COLUMN, self.height)
        y = np.arange(len(average.layers))
        axes.axvline(0, color="#bbb", linewidth=0.8, zorder=0)
        for number, role in enumerate(average.roles):
            if not average.count[number]:
                continue
            strong = role in ("last subject", "focus")
            axes.fill_betweenx(
                y, average.low[:, number], average.high[:, number], color=_COLOURS[role],
                alpha=0.22, linewidth=0,
            )  # fmt: skip
            axes.plot(
                average.mean[:, number], y, color=_COLOURS[role], linewidth=1.8 if strong else 1.1
            )
        axes.set_ylim(len(average.layers) - 0.5, -0.5)
        self._layers(axes, average, 0, named=column == 0)
        axes.xaxis.set_major_locator(ticker.MaxNLocator(4))
        axes.xaxis.set_major_formatter(ticker.FuncFormatter(lambda v, _: _number(v)))
        axes.tick_params(axis="x", labelsize=6.5, length=2, pad=1)
        metric = self.summary.about["settings"]["metric"].replace("_", " ")
        words = "difference of effects" if self.summary.is_difference else "effect"
        axes.set_xlabel(f"{words} ({metric})", fontsize=7, color=INK, labelpad=2)
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)

    def _layers(self, axes: Any, average: RoleAverage, shift: float, *, named: bool) -> None:
        step = max(1, int(np.ceil(len(average.layers) * 0.14 / self.height)))
        embed = average.layers[0] == "embed"
        at = [n for n, _ in enumerate(average.layers) if n == 0 or (n - embed) % step == 0]
        if embed and step > 1:
            at = [n for n in at if n != 1]  # "embed" and "0" would touch
        axes.set_yticks([n + shift for n in at])
        axes.set_yticklabels([average.layers[n] for n in at], fontsize=7)
        axes.tick_params(axis="y", length=0, pad=2)
        if named:
            axes.set_ylabel("layer, top to bottom", fontsize=7, color=_GREY, labelpad=2)

    def legend(self) -> None:
        """The colours of the roles, with how many facts have each."""
        averages = list(self.summary.kinds.values())
        if not averages:
            return
        x = _LEFT
        for role, count in zip(averages[0].roles, averages[0].count, strict=True):
            axes = self.axes(x, self.legend_top + 0.05, 0.16, 0.09)
            axes.set_facecolor(_COLOURS[role])
            axes.set(xticks=[], yticks=[])
            axes.spines[:].set_visible(False)
            words = f"{role} ({count:,})"
            self.text(x + 0.21, self.legend_top + 0.04, words, fontsize=7)
            x += 0.42 + width_of(words, 7)
        told = "orange: the state brings the answer back; in brackets: facts with such a token"
        if self.summary.is_difference:
            told = "orange: more effect in the first; in brackets: facts with such a token"
            told += f"; dots: cells whose {self.summary.level:.0%} interval leaves out 0"
        self.text(_LEFT, self.legend_top + 0.22, told, fontsize=6.5, color=_GREY)

    def table(self) -> None:
        """The neurons that are most often among the strongest of a fact."""
        if not self.shown:
            return
        top = self.legend_top + _LEGEND + 0.1
        self.text(0.25, top, "neurons that matter most often", fontsize=10, fontweight="bold")
        told = f"those with at least {MATTERS:.0%} of the effect of a fact's strongest neuron"
        self.text(3.0, top + 0.04, told, fontsize=6.5, color=_GREY)
        columns = (0.25, 1.2, 3.4, 4.6)
        names = ("layer.neuron", "facts in which it matters", "mean effect there", "writes for")
        for x, name in zip(columns, names, strict=True):
            self.text(x, top + 0.24, name, fontsize=7, color=_GREY)
        for line, neuron in enumerate(self.shown):
            y = top + 0.24 + _LINE * (line + 1)
            bar = self.axes(columns[1], y + 0.01, max(0.9 * neuron.share, 0.005), 0.1)
            bar.set_facecolor("#d98c4a")
            bar.set(xticks=[], yticks=[])
            bar.spines[:].set_visible(False)
            self.text(columns[0], y, neuron.name, fontweight="bold")
            self.text(columns[1] + 0.96, y, f"{neuron.count:,} ({neuron.share:.0%})")
            self.text(columns[2], y, _number(neuron.effect))
            words = printable("   ".join(neuron.promotes))
            self.text(columns[3], y, fitted(words, 7.5, self.size[0] - columns[3] - 0.2))


def corruption_of(about: Any) -> str:
    """How the subjects of a run were corrupted, in a few words."""
    settings, sigma = about["settings"], about["resolved"]["sigma"]
    if settings["corruption"] == "counterfactual":
        return "subject replaced by the counterfactual's"
    if sigma is None:
        return f"{settings['rule']} noise on the subject, {settings['samples']} samples"
    return f"noise on the subject, \u03c3 = {sigma:.3g}, {settings['samples']} samples"


def _number(value: float) -> str:
    return f"{value:.3g}".replace("-", "\u2212") if abs(value) > 1e-12 else "0"
