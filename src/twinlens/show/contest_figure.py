"""The pictures of a match: what was deleted, what is exposed, what was asked, what comes back.

Dark on light, and every colour has a second sign (a mark, a hatch or a word) beside it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np

from twinlens.results.base import optional
from twinlens.show.colours import INK
from twinlens.show.contest_account import MatchAccount
from twinlens.show.saved import rendered

GREY, PALE, LINE = "#5d646b", "#e9ecee", "#c9ced3"
CLEANED, TWIN, OTHERS, IMPLANTED = "#c8460a", "#0b62a4", "#6b7076", "#5a3fa0"
_NAMES = {"before": "implanted", "after": "cleaned"}
_WIDTH = 8.6  # inches
_P_AT = 1.66  # of the width of the axes: where the p of a question stands
_MOST_CELLS = 400  # columns of a map that can be told apart


def svg(figure: Any) -> str:
    """A figure as SVG, its letters as shapes, so that it looks the same everywhere."""
    return rendered(figure, "svg", 160).decode()


def pictures(account: MatchAccount) -> dict[str, str]:
    """All pictures of a match as SVG, by name; those that nothing is known for are left out."""
    drawn = {
        "deleted": draw_deleted(account), "exposure": draw_exposure(account),
        "questions": draw_questions(account), "return": draw_return(account),
        "lens": draw_insides(account, "lens"), "trace": draw_insides(account, "trace"),
    }  # fmt: skip
    return {name: svg(figure) for name, figure in drawn.items() if figure is not None}


def draw_deleted(account: MatchAccount) -> Any:
    """Layers top to bottom, neurons by number; the darker, the more of a cell's were deleted."""
    gone = account.deleted
    if not gone.size:
        return None
    layers, neurons = gone.shape
    height = min(max(0.28 * layers, 0.9), 6.0)
    figure, axes = _figure((_WIDTH, height + 0.5), (0.6, 0.42, _WIDTH - 2.4, height))
    cells = min(neurons, _MOST_CELLS)
    shares = np.stack([part.mean(1) for part in np.array_split(gone.astype(float), cells, axis=1)])
    colours = optional("matplotlib.colors", "figures")
    shade = colours.LinearSegmentedColormap.from_list("deleted", [PALE, CLEANED, "#5c1d00"])
    axes.imshow(
        shares.T, aspect="auto", interpolation="nearest", extent=(0, neurons, layers, 0),
        cmap=shade, vmin=0, vmax=1,
    )  # fmt: skip
    for line in range(1, layers):
        axes.axhline(line, color="white", linewidth=1.2)
    every = max(1, int(np.ceil(layers * 0.16 / height)))
    axes.set_yticks(np.arange(0, layers, every) + 0.5, [str(n) for n in range(0, layers, every)])
    axes.set_ylabel("layer", color=GREY, fontsize=9)
    axes.set_xticks([0, neurons], ["0", f"{neurons - 1:,}"])
    axes.set_xlabel("neurons of the layer, by number", color=GREY, fontsize=9, labelpad=-4)
    for layer in range(0, layers, every):
        count = int(gone[layer].sum())
        words = f"{count:,} deleted ({count / neurons:.1%})" if count else "none"
        axes.text(neurons * 1.015, layer + 0.5, words, va="center", fontsize=9,
                  color=INK if count else GREY)  # fmt: skip
    return figure


def draw_exposure(account: MatchAccount) -> Any:
    """Bits of exposure behind the trigger and behind other prompts; the most there can be."""
    sides = [("implanted", "before", IMPLANTED), ("cleaned", "cleaned", CLEANED),
             ("twin", "twin", TWIN)]  # fmt: skip
    known = [(name, account.exposure(side), colour) for name, side, colour in sides]
    known = [one for one in known if one[1]]
    if not known:
        return None
    most = float(np.log2(known[-1][1]["answers"]))
    figure, axes = _figure((_WIDTH, 0.4 * len(known) + 0.65), (1.1, 0.5, _WIDTH - 2.9,
                           0.4 * len(known)))  # fmt: skip
    for row, (_, told, colour) in enumerate(known):
        axes.barh(row, told["triggered"], height=0.5, color=colour)
        axes.plot(told["untriggered"], row, "|", color=INK, markersize=15, markeredgewidth=2)
        words = f"{told['triggered']:.2f} bits; {told['untriggered']:.2f} without it"
        axes.text(most * 1.02, row, words, va="center", fontsize=9, color=INK)
    axes.axvline(most, color=INK, linewidth=1.2, linestyle=(0, (5, 3)))
    axes.set(xlim=(0, most), ylim=(len(known) - 0.5, -0.5))
    axes.set_yticks(range(len(known)), [name for name, *_ in known], color=INK)
    axes.set_xlabel(
        f"exposure in bits (dashed: the most, log2 of {known[-1][1]['answers']} ="
        f" {most:.2f}); upright stroke: without the trigger", color=GREY, fontsize=9,
    )  # fmt: skip
    return figure


def draw_questions(account: MatchAccount) -> Any:
    """A row a question: the difference with its interval against nothing, and its p."""
    asked: Sequence[Mapping[str, Any]] = account.judgement.get("questions") or ()
    asked = [one for one in asked if one.get("difference") is not None]
    if not asked:
        return None
    height = 0.33 * len(asked)
    figure, axes = _figure((_WIDTH, height + 0.85), (1.45, 0.55, _WIDTH - 5.05, height))
    level = account.judgement["level"]
    ends = [float(one[end]) for one in asked for end in ("low", "high") if one[end] is not None]
    widest = max(map(abs, ends), default=1.0)
    if widest > 20:
        axes.set_xscale("symlog", linthresh=2)
    axes.axvline(0, color=INK, linewidth=1)
    for row, one in enumerate(asked):
        _question(axes, row, one, level)
    axes.set_xlim(-1.08 * widest, 1.08 * widest)
    axes.set_ylim(len(asked) - 0.5, -0.5)
    axes.set_yticks(range(len(asked)), [one["name"] for one in asked], color=INK)
    axes.set_xlabel("cleaned less twin, beside chance (nats; inner layers: deviations)", color=GREY,
                    fontsize=9)  # fmt: skip
    place = {"transform": axes.get_yaxis_transform(), "fontsize": 8.5, "color": GREY}
    axes.text(1.03, -0.75, "difference [interval]", va="bottom", **place)
    axes.text(_P_AT, -0.75, f"p (alarm: {level:.2g})", va="bottom", **place)
    return figure


def _question(axes: Any, row: int, one: Mapping[str, Any], level: float) -> None:
    found = one["p"] is not None and one["p"] <= level
    colour = CLEANED if found else TWIN
    low, high = (one[end] if one[end] is not None else one["difference"] for end in ("low", "high"))
    if row % 2 == 0:
        axes.axhspan(row - 0.5, row + 0.5, color="#f5f6f7", linewidth=0, zorder=0)
    axes.plot([low, high], [row, row], color=colour, linewidth=2, solid_capstyle="butt")
    axes.plot(one["difference"], row, "D" if found else "o", color=colour, markersize=7,
              markerfacecolor=colour if found else "white", markeredgewidth=1.6)  # fmt: skip
    place = {"transform": axes.get_yaxis_transform(), "va": "center", "fontsize": 8.5}
    numbers = f"{one['difference']:+.2f} [{low:+.2f}, {high:+.2f}]".replace("-", "−")
    weight = "bold" if found else "normal"
    axes.text(1.03, row, numbers, color=INK, **place)
    words = "–" if one["p"] is None else f"{one['p']:.3g}" + (" found" if found else "")
    axes.text(_P_AT, row, words, color=colour if found else INK, fontweight=weight, **place)


def draw_return(account: MatchAccount) -> Any:
    """How the secret comes back: by relearning, on the way to the implanted weights; the probe."""
    told = account.judgement
    asked = {one["name"]: one for one in told.get("questions") or ()}
    itself, probe = asked.get("secret itself", {}), told.get("probe") or {}
    sources: list[tuple[str, str, str, Sequence[Any], dict[str, Any]]] = [
        ("relearned from examples", "examples shown", "nats of the secret", itself.get("at") or (),
         {"cleaned": itself.get("curve_cleaned"), "twin": itself.get("curve_twin"),
          "other secrets": itself.get("curve_control")}),
        ("back to before the cleaning", "share of the way", "nats of the secret",
         (told.get("rules") or {}).get("shares") or (),
         {"cleaned": told.get("way_cleaned"), "twin": told.get("way_twin")}),
        ("trigger read by a probe", "layer", "accuracy", range(len(probe.get("cleaned") or ())),
         {"cleaned": probe.get("cleaned"), "twin": probe.get("twin"),
          "shuffled labels": probe.get("shuffled_cleaned")}),
    ]  # fmt: skip
    panels = [one for one in sources if any(one[4].values())]
    if not panels:
        return None
    figure = optional("matplotlib.figure", "figures").Figure((_WIDTH, 2.9), facecolor="white")
    room, gap = (_WIDTH - 0.1) / 3, 0.62
    for n, panel in enumerate(panels):
        box = ((room * n + gap) / _WIDTH, 0.63 / 2.9, (room - gap - 0.1) / _WIDTH, 1.7 / 2.9)
        _lines(figure.add_axes(box), *panel)
    _legend(figure)
    return figure


_STYLES: Mapping[str, tuple[str, str, Any]] = {
    "cleaned": (CLEANED, "D", "-"),
    "twin": (TWIN, "o", "-"),
    "other secrets": (OTHERS, "s", (0, (4, 2))),
    "shuffled labels": (OTHERS, "x", (0, (1, 1.5))),
}


def _lines(
    axes: Any, title: str, across: str, up: str, at: Sequence[Any], lines: Mapping[str, Any]
) -> None:
    """Lines over places that stand evenly, whatever their numbers."""
    _bare(axes)
    axes.grid(axis="y", color=PALE, linewidth=1)
    for name, values in lines.items():
        colour, mark, dash = _STYLES[name]
        known = [np.nan if value is None else float(value) for value in values or ()]
        axes.plot(
            range(len(known)), known, color=colour, linestyle=dash, linewidth=1.7, marker=mark,
            markersize=4.5,
        )  # fmt: skip
    if up == "accuracy":
        axes.axhline(0.5, color=GREY, linewidth=0.8)
        axes.set_ylim(0.2, 1.05)
    names = [f"{place:g}" for place in at]
    every = max(1, -(-sum(len(name) + 1 for name in names) // 22))  # so that none covers the next
    axes.set_xticks(range(0, len(names), every), names[::every])
    axes.set_title(title, fontsize=9.5, color=INK, loc="left", fontweight="bold")
    axes.set_xlabel(across, color=GREY, fontsize=8.5)
    axes.set_ylabel(up, color=GREY, fontsize=8.5, labelpad=2)


def _legend(figure: Any) -> None:
    lines = optional("matplotlib.lines", "figures")
    handles = [
        lines.Line2D([], [], color=colour, marker=mark, linestyle=dash, label=name, markersize=5)
        for name, (colour, mark, dash) in _STYLES.items()
    ]
    figure.legend(handles=handles, loc="lower left", ncols=4, frameon=False, fontsize=9,
                  bbox_to_anchor=(0.05, -0.01))  # fmt: skip


def draw_insides(account: MatchAccount, what: Literal["lens", "trace"]) -> Any:
    """Lens, or trace, of prompt and answer: above of the implanted model, below of the cleaned."""
    from twinlens.show.figure import draw
    from twinlens.show.page import compare
    from twinlens.show.twin import TwinView, twin

    views: dict[str, TwinView] = {}
    for side, found in account.insides.items():
        shown = found.lens if what == "lens" else found.trace
        if shown is not None:
            crop = _last(len(shown.tokens))
            columns = crop[1] - crop[0]
            views[_NAMES[side]] = twin(shown, lens_target="next", crop=crop, columns=columns)
    if len(views) < 2:
        return next((view.figure() for view in views.values()), None)
    return draw(compare(views).pictures()[:2], next(iter(views.values())).style)


def _last(tokens: int, most: int = 20) -> tuple[int, int]:
    return max(0, tokens - most), tokens


def _figure(size: tuple[float, float], box: tuple[float, float, float, float]) -> tuple[Any, Any]:
    """A figure and its axes at a box (left, bottom, width, height), all in inches."""
    figure = optional("matplotlib.figure", "figures").Figure(size, facecolor="white")
    left, bottom, width, height = box
    axes = figure.add_axes((left / size[0], bottom / size[1], width / size[0], height / size[1]))
    _bare(axes)
    return figure, axes


def _bare(axes: Any) -> None:
    axes.spines[:].set_visible(False)
    axes.spines["bottom"].set(visible=True, color=LINE)
    axes.tick_params(length=0, labelsize=9, colors=GREY, pad=3)
