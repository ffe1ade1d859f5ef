"""The pictures of a scrub: what was deleted and where, and what quality did on the way.

They are SVG with colours by name, so that they follow the reader's light or dark screen.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from twinlens.change.journal import Entry
from twinlens.change.recipe import Noise, Prune
from twinlens.change.scrubbed import Deletion, ScrubAccount
from twinlens.results.base import optional
from twinlens.show.colours import STAR
from twinlens.show.saved import rendered
from twinlens.show.use_figure import ends_of, mixed

INK, GREY, BAND, PAGE = "#22262b", "#6b7076", "#f0f1f2", "#fefefe"
KEPT, REFUSED, FINAL = "#0f7b8a", "#b3400a", "#5a3fa0"
_DARK = {
    INK: "#e8e6e1", GREY: "#a3a8ad", BAND: "#24272b", PAGE: "#17191c", KEPT: "#4cc3d4",
    REFUSED: "#ff8a4c", FINAL: "#b49cf2",
}  # fmt: skip
_WIDTH, _LEFT, _RIGHT = 8.4, 0.7, 1.5  # inches


def draw_deletion(deletion: Deletion) -> Any:
    """Layers top to bottom; the units of each by their score, the most used first; those that were
    deleted in pink; at the right how many."""
    n_layers, n_units = deletion.scores.shape
    height = min(max(0.3 * n_layers, 0.9), 6.0)
    figure, axes = _figure(height + 0.4, 0.1, height)
    axes.imshow(
        mixed(_colours(deletion)), aspect="auto", interpolation="nearest",
        extent=(0, n_units, n_layers, 0),
    )  # fmt: skip
    for line in range(1, n_layers):
        axes.axhline(line, color=PAGE, linewidth=1.0)
    every = max(1, int(np.ceil(n_layers * 0.16 / height)))
    axes.set_yticks(np.arange(0, n_layers, every) + 0.5, [str(n) for n in range(n_layers)][::every])
    axes.set_ylabel("layer", color=GREY, fontsize=8)
    axes.set_xticks([])
    axes.set_xlabel(
        f"{n_units:,} {deletion.kind}s of each layer, by {deletion.score}: highest at the left,"
        " lowest at the right",
        color=GREY, fontsize=8,
    )  # fmt: skip
    for layer in range(0, n_layers, every):
        gone = int(deletion.removed[layer].sum())
        words = f"{gone:,} deleted ({gone / n_units:.1%})" if gone else "none"
        axes.text(
            n_units * 1.012, layer + 0.5, words, va="center", fontsize=8,
            color=INK if gone else GREY,
        )  # fmt: skip
    return figure


def draw_curve(account: ScrubAccount) -> Any:
    """Each proposal's increase with its bounds against the margin; then the final text."""
    figure, axes = _figure(3.45, 0.3, 2.6)
    entries, final = account.entries, account.final
    ends = len(entries) + (1.5 if final else 0.5)
    low, high = _range(account)
    axes.set(xlim=(0.4, ends + 0.2), ylim=(low, high))
    _bands(axes, account)
    axes.axhline(0, color=GREY, linewidth=0.8)
    axes.axhline(_margin(account), color=INK, linewidth=1.2, linestyle=(0, (5, 3)))
    axes.text(
        1.01, _margin(account), f"margin {_margin(account):g}", va="center", fontsize=8,
        color=INK, transform=axes.get_yaxis_transform(),
    )  # fmt: skip
    for n, entry in enumerate(entries, 1):
        style = (KEPT, "o", KEPT) if entry.accepted else (REFUSED, "X", REFUSED)
        _point(axes, n, entry.verdict, style)
    if final:
        _point(axes, ends, final, (FINAL, "D", FINAL))
    _ticks(axes, entries, account, ends if final else None)
    axes.set_ylabel("nats a token above the original", color=GREY, fontsize=8)
    _legend(axes, bool(final))
    return figure


def svg_of(figure: Any) -> str:
    """The figure as SVG whose colours follow light and dark."""
    text = rendered(figure, "svg", 160).decode()
    light = ";".join(f"--c{n}:{colour}" for n, colour in enumerate(_DARK))
    dark = ";".join(f"--c{n}:{colour}" for n, colour in enumerate(_DARK.values()))
    for n, colour in enumerate(_DARK):
        text = text.replace(colour, f"var(--c{n})")
    style = f":root{{{light}}}@media(prefers-color-scheme:dark){{:root{{{dark}}}}}"
    return text.replace("<defs>", f"<style>{style}</style><defs>", 1)


def label_of(entry: Entry, account: ScrubAccount) -> str:
    """What a proposal was, in a word: the share, the draw, the training."""
    stage = account.recipe.stages[entry.stage]
    if isinstance(stage, Prune):
        return f"{entry.share:.3g}" if entry.share < 0.001 else f"{100 * entry.share:.3g}%"
    return f"{'n' if isinstance(stage, Noise) else 'r'}{entry.number + 1}"


def _figure(height: float, top: float, inner: float) -> tuple[Any, Any]:
    made = optional("matplotlib.figure", "figures").Figure((_WIDTH, height))
    made.patch.set_alpha(0)
    box = (_LEFT / _WIDTH, 1 - (top + inner) / height, 1 - (_LEFT + _RIGHT) / _WIDTH,
           inner / height)  # fmt: skip
    axes = made.add_axes(box)
    axes.patch.set_alpha(0)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0, labelsize=8, colors=GREY, pad=3)
    return made, axes


def _colours(deletion: Deletion) -> np.ndarray:
    """The colour of each unit, sorted within its layer."""
    matplotlib, colors = (optional(m, "figures") for m in ("matplotlib", "matplotlib.colors"))
    order = np.argsort(-deletion.scores, axis=1, kind="stable")
    values = np.take_along_axis(deletion.scores, order, 1)
    low, high = ends_of(values)
    shade = colors.LogNorm(low, high, clip=True)(np.maximum(np.nan_to_num(values), low))
    drawn = matplotlib.colormaps["GnBu"](0.15 + 0.85 * np.asarray(shade))
    drawn[np.take_along_axis(deletion.removed, order, 1)] = colors.to_rgba(STAR)
    return drawn


def _numbers(verdict: Any) -> tuple[float, float, float]:
    """Lower bound, increase, upper bound; NaN where there is none."""
    found = (verdict[name] for name in ("lower", "increase", "upper"))
    low, middle, high = (np.nan if value is None else float(value) for value in found)
    return low, middle, high


def _margin(account: ScrubAccount) -> float:
    verdicts = [entry.verdict for entry in account.entries] + [account.final]
    return float(next(v["margin"] for v in verdicts if v))


def _range(account: ScrubAccount) -> tuple[float, float]:
    """So that all that was accepted is seen, and of the rest what is near."""
    margin, kept = _margin(account), [_numbers(e.verdict) for e in account.accepted]
    if account.final:
        kept.append(_numbers(account.final))
    near = [n for e in account.entries for n in _numbers(e.verdict) if abs(n) < 3 * margin]
    found = [n for three in kept for n in three if np.isfinite(n)] + near + [0.0, margin]
    room = 0.12 * (max(found) - min(found))
    return min(found) - room, max(found) + room


def _point(axes: Any, x: float, verdict: Any, style: tuple[str, str, str]) -> None:
    """A point with its bounds; an arrow with the number where it lies beyond the picture."""
    colour, marker, face = style
    (low, high), (lower, middle, upper) = axes.get_ylim(), _numbers(verdict)
    ends = np.clip(np.nan_to_num([lower, upper], nan=middle), low, high)
    axes.plot([x, x], ends, color=colour, linewidth=1.6, solid_capstyle="butt", alpha=0.7)
    if low <= middle <= high:
        axes.plot(x, middle, marker, color=colour, markerfacecolor=face, markersize=6.5)
        return
    above = middle > high
    edge = high if above else low
    axes.plot(x, edge, "^" if above else "v", color=colour, markersize=6.5, clip_on=False)
    axes.annotate(
        f"{middle:+.2g}", (x, edge), (0, -7 if above else 7), textcoords="offset points",
        ha="center", va="top" if above else "bottom", fontsize=7, color=colour,
    )  # fmt: skip


def _bands(axes: Any, account: ScrubAccount) -> None:
    """The stages as bands with their names above."""
    start = 0.5
    for number, stage in enumerate(account.stages, 1):
        end = start + len(stage.entries)
        if number % 2 and stage.entries:
            axes.axvspan(start, end, color=BAND, linewidth=0)
        if stage.entries:
            axes.text(
                (start + end) / 2, 1.02, _name(number, account), ha="center", va="bottom",
                fontsize=8, color=INK, transform=axes.get_xaxis_transform(),
            )  # fmt: skip
        start = end


def _name(number: int, account: ScrubAccount) -> str:
    """The stage's number, and its kind where there is room for it."""
    stage = account.stages[number - 1]
    room = len(stage.entries) / (len(account.entries) + 1)
    return f"{number} {type(stage.stage).__name__.lower()}" if room > 0.12 else str(number)


def _ticks(axes: Any, entries: Sequence[Entry], account: ScrubAccount, final: float | None) -> None:
    every = max(1, -(-len(entries) // 24))
    places = [float(n) for n in range(1, len(entries) + 1, every)]
    labels = [label_of(entry, account) for entry in entries[::every]]
    if final is not None:
        places, labels = [*places, final], [*labels, "final"]
    axes.set_xticks(places, labels, fontsize=7)


def _legend(axes: Any, final: bool) -> None:
    marks = [("accepted", "o", KEPT, KEPT), ("rejected", "X", REFUSED, REFUSED)]
    if final:
        marks.append(("final text", "D", FINAL, FINAL))
    y = -0.16  # below the axes, so that it covers nothing
    for n, (name, marker, colour, face) in enumerate(marks):
        style = {"transform": axes.transAxes, "clip_on": False}
        axes.plot(
            0.01 + 0.15 * n, y, marker, color=colour, markerfacecolor=face, markersize=6, **style
        )
        axes.text(
            0.03 + 0.15 * n, y, name, va="center", fontsize=8, color=INK, transform=axes.transAxes
        )
