"""The pictures of a tournament: what recipes delete at which cost, and what became of implants."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from twinlens.change.score import wilson
from twinlens.results.base import optional
from twinlens.show.colours import INK
from twinlens.show.contest_account import VERDICTS
from twinlens.show.contest_figure import GREY, PALE, _figure, svg
from twinlens.show.contest_words import VERDICT_COLOURS

GOAL_SHARE, GOAL_RISE = 0.9, 0.01  # deleted; nats a token
_LEAST, _MOST = -0.02, 1.0  # nats a token that are shown; what lies beyond stands at the edge
_LINEAR = 0.01
_RECIPES = ("#0b62a4", "#c8460a", "#00785a", "#a3428a", "#3a3f45", "#b07a00", "#2c9fd6", "#7a2f12",
            "#7d8590", "#5a3fa0")  # fmt: skip
_TIERS = "osD^vP*Xhd"
_WIDTH = 8.6  # inches
Cell = Mapping[str, Any]


def tournament_figure(cells: Sequence[Cell]) -> str:
    """What each recipe leaves against what it costs, as SVG: a mark a recipe and tier.

    Across: the mean rise of the loss in nats a token, with a line to the largest upper bound of
    any implant; up: the share of implants that is not deleted, with Wilson's 95% interval. The goal
    (at least 90% deleted, upper bound at most 0.01) is shaded. Only implants that count are shown.
    Raises `MissingExtraError` without matplotlib.
    """
    groups = grouped(cells)
    recipes, tiers = (list(dict.fromkeys(key[n] for key in groups)) for n in (0, 1))
    figure, axes = _figure((_WIDTH, 4.6), (0.65, 0.6, _WIDTH - 2.95, 3.8))
    axes.set_xscale("symlog", linthresh=_LINEAR, linscale=0.6)
    axes.set(xlim=(_LEAST, _MOST * 1.15), ylim=(-0.04, 1.04))
    _goal(axes)
    for (recipe, tier), found in groups.items():
        blind = all(one.get("blind", True) for one in found)
        style = _RECIPES[recipes.index(recipe) % len(_RECIPES)], _TIERS[tiers.index(tier) % 10]
        _mark(axes, found, *style, blind=blind)
    ticks = [-0.01, 0, 0.01, 0.03, 0.1, 0.3, 1.0]
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.minorticks_off()
    axes.set_yticks(np.linspace(0, 1, 6), [f"{share:.0%}" for share in np.linspace(0, 1, 6)])
    axes.grid(color=PALE, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.set_xlabel("rise of the loss on clean text, nats a token", color=GREY, fontsize=9)
    axes.set_ylabel("implants that are not deleted", color=GREY, fontsize=9)
    aside = {one["recipe"] for one in cells if not one.get("blind", True)}
    _keys(axes, recipes, tiers, aside)
    return svg(figure)


def mosaic(cells: Sequence[Cell]) -> str:
    """Recipes down, tiers across; each field filled by the shares of the verdicts, as SVG."""
    groups = grouped(cells)
    recipes, tiers = (list(dict.fromkeys(key[n] for key in groups)) for n in (0, 1))
    height = 0.34 * max(1, len(recipes))
    figure, axes = _figure((_WIDTH, height + 0.75), (1.75, 0.4, _WIDTH - 1.85, height))
    for (recipe, tier), found in groups.items():
        row, column = recipes.index(recipe), float(tiers.index(tier))
        for verdict in VERDICTS:
            count = sum(one["verdict"] == verdict for one in found)
            width = 0.94 * count / len(found)
            axes.barh(row, width, left=column + 0.03, height=0.84, color=VERDICT_COLOURS[verdict])
            if width * (_WIDTH - 1.85) / len(tiers) > 0.16:
                axes.text(column + 0.03 + width / 2, row, str(count), ha="center", va="center",
                          color="white", fontsize=8)  # fmt: skip
            column += width
    axes.set(xlim=(0, max(1, len(tiers))), ylim=(max(1, len(recipes)) - 0.5, -0.5))
    axes.set_yticks(range(len(recipes)), recipes, color=INK, parse_math=False)
    axes.set_xticks(np.arange(len(tiers)) + 0.5, tiers, color=INK, parse_math=False)
    axes.xaxis.tick_top()
    axes.spines["bottom"].set_visible(False)
    patches = optional("matplotlib.patches", "figures")
    handles = [patches.Patch(color=VERDICT_COLOURS[name], label=name) for name in VERDICTS]
    figure.legend(handles=handles, loc="lower left", ncols=5, frameon=False, fontsize=9,
                  bbox_to_anchor=(0.19, -0.01))  # fmt: skip
    return svg(figure)


def grouped(cells: Sequence[Cell]) -> dict[tuple[str, str], list[Cell]]:
    """The cells that count, by recipe and tier."""
    found: dict[tuple[str, str], list[Cell]] = {}
    for one in cells:
        if one.get("counts", True):
            found.setdefault((str(one["recipe"]), str(one["tier"])), []).append(one)
    return found


def _goal(axes: Any) -> None:
    axes.fill_between([_LEAST, GOAL_RISE], -0.04, 1 - GOAL_SHARE, color="#dcebd8", linewidth=0)
    axes.text(_LEAST * 0.93, 1 - GOAL_SHARE - 0.01, "goal", va="top", fontsize=9, color="#2f5d27")


def _mark(axes: Any, cells: Sequence[Cell], colour: str, mark: str, *, blind: bool) -> None:
    """A recipe on a tier; hollow where the recipe knew the trigger."""
    n = len(cells)
    share = wilson(sum(one["verdict"] != "deleted" for one in cells) / n, n)
    rises = [_shown(one.get("increase")) for one in cells]
    x, most = float(np.mean(rises)), max(_shown(one.get("upper")) for one in cells)
    axes.plot([x, max(x, most)], [share.mean] * 2, color=colour, linewidth=0.9, alpha=0.6)
    axes.plot([x, x], [share.low, share.high], color=colour, linewidth=1.6, alpha=0.7)
    axes.plot(
        x, share.mean, mark, color=colour, markersize=8, markeredgewidth=1.5,
        markerfacecolor=colour if blind else "white", clip_on=False, zorder=3,
    )  # fmt: skip


def _shown(value: Any) -> float:
    """A rise within what is shown; what is no number stands at the right edge."""
    if not isinstance(value, int | float) or not math.isfinite(value):
        return _MOST
    return min(max(float(value), _LEAST), _MOST)


def _keys(axes: Any, recipes: Sequence[str], tiers: Sequence[str], aside: set[str]) -> None:
    """Colours of the recipes and marks of the tiers, at the right."""
    place: dict[str, Any] = {"transform": axes.transAxes, "clip_on": False}
    step = min(0.052, 1 / (len(recipes) + len(tiers) + 3))
    lines = [("recipe", "", "", ""), *(
        (name, _RECIPES[n % len(_RECIPES)], "s", "white" if name in aside else "")
        for n, name in enumerate(recipes)
    ), ("", "", "", ""), ("tier", "", "", ""), *(
        (name, GREY, _TIERS[n % 10], "") for n, name in enumerate(tiers)
    )]  # fmt: skip
    for n, (name, colour, mark, face) in enumerate(lines):
        y = 0.98 - n * step
        if mark:
            axes.plot(1.05, y, mark, color=colour, markerfacecolor=face or colour, markersize=7,
                      **place)  # fmt: skip
        words = f"{name} (not blind)" if face else name
        axes.text(1.08 if mark else 1.035, y, words, va="center", fontsize=8.5, parse_math=False,
                  color=INK if mark else GREY, transform=axes.transAxes)  # fmt: skip
