"""The page of a tournament: leaderboard, frontier, and what became of the implants."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from twinlens.contest.tournament import read_cells
from twinlens.errors import MissingExtraError
from twinlens.show.blocks import Block, Bullets, Paragraph, Picture, Section, Table, html_of
from twinlens.show.contest_page import page
from twinlens.show.contest_words import NOT_SHOWN
from twinlens.show.scrub_words import duration
from twinlens.show.tournament_figure import GOAL_RISE, GOAL_SHARE, mosaic, tournament_figure

_SHARES = ("deleted", "suppressed", "surviving", "broken", "cannot tell")
_POWER = (
    "“Deleted”.", "It means: not told from the twin by the referee's questions, at their power.",
)  # fmt: skip


def tournament_page(folder: str | Path) -> str:
    """A tournament for a person, as one HTML page without script: leaderboard, frontier, mosaic.

    No model is loaded. Raises `RunFolderError` where the folder is no tournament.
    """
    from twinlens.contest.board import leaderboard

    cells, board = read_cells(folder), leaderboard(folder).to_dict()
    pictures = _pictures(cells)
    sections = [
        Section("Leaderboard", _board(board)),
        Section("What is left, against what it costs", _frontier(pictures)),
        Section("What became of the implants", _mosaic(pictures)),
        Section("What this does not show", [Bullets([_POWER, *NOT_SHOWN[:1], *NOT_SHOWN[2:]])]),
    ]
    told = f"{board['counted']} of {board['implants']} implants passed their manipulation check."
    top = [html_of(Paragraph(f"{told} Only these count.")), html_of(Paragraph(_best(board), True))]
    return page("A tournament of hiding and cleaning", top, sections)


def _pictures(cells: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    try:
        return {"frontier": tournament_figure(cells), "mosaic": mosaic(cells)} if cells else {}
    except MissingExtraError:
        return {}


def _best(board: Mapping[str, Any]) -> str:
    """What the best recipe that knew nothing did."""
    best = next((one for one in board["standings"] if one["blind"]), None)
    if best is None:
        return "No recipe that is blind was played yet."
    share = best["shares"]["deleted"]
    goal = share["mean"] >= GOAL_SHARE and best["upper"] is not None and best["upper"] <= GOAL_RISE
    return (
        f"{best['recipe']} deleted most of all blind recipes: {_percent(share)} of {best['n']}"
        f" implants, at {_nats(best['increase'])} nats a token. The goal ({GOAL_SHARE:.0%} deleted,"
        f" no upper bound above {GOAL_RISE:g}) is {'reached' if goal else 'not reached'}."
    )


def _board(board: Mapping[str, Any]) -> list[Block]:
    head = ["recipe", "implants", *_SHARES, f"deleted, loss ≤ {GOAL_RISE:g}", "rise",
            "largest upper bound", "time"]  # fmt: skip
    made: list[Block] = [Table(head, [_row(one) for one in board["standings"]])]
    tiers = [[str(one["tier"]), *_row(one)] for one in board["by_tier"]]
    made.append(Table(["tier", *head], tiers, words=(0, 1), folded="By tier"))
    pairs = [
        [f"{one['first']} – {one['second']}", str(one["n"]), str(one["only_first"]),
         str(one["only_second"]), f"{one['p']:.3g}"]
        for one in board["differences"]
    ]  # fmt: skip
    if pairs:
        head = ["recipes", "implants", "only the first deletes", "only the second", "p (McNemar)"]
        made.append(Table(head, pairs, folded="Recipes in pairs"))
    told = (
        "Beside a share stands Wilson's 95% interval, beside the mean rise of the loss (nats a"
        " token on clean text) Student's. Recipes that are not blind (they know the trigger) stand"
        " last and do not compete."
    )
    return [*made, Paragraph(told), *(Paragraph(f"Note: {note}.") for note in board["notes"])]


def _row(one: Mapping[str, Any]) -> list[str]:
    name = one["recipe"] if one["blind"] else f"{one['recipe']} (not blind)"
    upper = "none" if one["upper"] is None else f"{one['upper']:+.4f}"
    first, *rest = (one["shares"][verdict] for verdict in _SHARES)
    shares = [_percent(first), *("–" if s["mean"] is None else f"{s['mean']:.0%}" for s in rest)]
    return [str(name), str(one["n"]), *shares, _percent(one["clean"]), _nats(one["increase"]),
            upper, duration(one["seconds"])]  # fmt: skip


def _frontier(pictures: Mapping[str, str]) -> list[Block]:
    if "frontier" not in pictures:
        return [_nothing()]
    caption = (
        "A mark a recipe and tier; lower and further left is better. Upright: Wilson's 95% interval"
        " of the share that is not deleted; level: to the largest upper bound of the rise. Hollow:"
        " the recipe knew the trigger. What lies beyond the picture stands at its edge."
    )
    alt = "The share of implants not deleted against the rise of the loss, by recipe and tier."
    return [Picture("report-frontier.svg", pictures["frontier"], alt, caption)]


def _mosaic(pictures: Mapping[str, str]) -> list[Block]:
    if "mosaic" not in pictures:
        return [_nothing()]
    caption = "Each field is filled by the shares of the verdicts; the numbers count implants."
    alt = "Recipes down, tiers across: the shares of the verdicts."
    return [Picture("report-mosaic.svg", pictures["mosaic"], alt, caption)]


def _nothing() -> Paragraph:
    return Paragraph("No picture: nothing is played yet, or matplotlib is not installed.")


def _percent(share: Mapping[str, Any]) -> str:
    """A share with its interval."""
    mean, low, high = (share[name] for name in ("mean", "low", "high"))
    if mean is None:
        return "–"
    if low is None or high is None:
        return f"{mean:.0%}"
    return f"{mean:.0%}\u00a0({100 * low:.0f}\u2060–\u2060{100 * high:.0f})"


def _nats(found: Mapping[str, Any]) -> str:
    """Nats with their interval."""
    mean, low, high = (found[name] for name in ("mean", "low", "high"))
    if mean is None:
        return "–"
    if low is None or high is None:
        return f"{mean:+.4f}"
    return f"{mean:+.4f} ±{(high - low) / 2:.4f}"
