"""`twinlens contest run` and `board`: a tournament, and how the recipes did in it."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twinlens.cli.common import number, print_json, print_notes, table_of_numbers
from twinlens.cli.contest import Json, Output, Quiet, contest_app
from twinlens.cli.options import ModelOptions, Whole
from twinlens.cli.refusing import refuse_bad_folder
from twinlens.cli.workers import WorkerOptions, able
from twinlens.errors import InputError
from twinlens.paths import expanded

if TYPE_CHECKING:
    from rich.table import Table

    from twinlens.contest.board import Board, Difference, Standing


@contest_app.command
def run(
    tournament: Path,
    *,
    output: Output,
    model: str = "hamlet",
    limit: Whole | None = None,
    json: Json = False,
    quiet: Quiet = False,
    load: ModelOptions | None = None,
    workers: WorkerOptions | None = None,
) -> None:
    """A tournament: every tier with every recipe on many implants. The same command goes on.

    Several processes may play one folder, and so may the workers of a cluster that share it.

    Parameters
    ----------
    tournament
        What is played, in TOML: tiers, recipes (names) or [[recipe]] tables, seeds, text, steps,
        [budget], [rules].
    output
        Folder of the tournament.
    model
        "hamlet" (comes with twinlens), a directory or a hub id; it is not changed.
    limit
        Play so many seeds at most; the rest can be played later.
    json
        Print the leaderboard as JSON.
    quiet
        Print nothing but errors.
    """
    from dataclasses import replace

    if limit is not None and limit < 1:
        raise InputError(f"--limit {limit} must be at least 1")
    refuse_bad_folder(output)
    from twinlens.contest.board import leaderboard
    from twinlens.contest.tournament import run_tournament, tournament_of

    still, asked = json or quiet, tournament_of(tournament)
    if limit is not None:
        asked = replace(asked, seeds=min(limit, asked.seeds))
    loaded = able(model, load or ModelOptions(), workers or WorkerOptions(), quiet=still)
    if not still:
        print(f"{asked.cells} cells; those that are done are not played again", file=sys.stderr)
    run_tournament(loaded, asked, output, told=None if still else _tell)
    _tell_board(leaderboard(output), json=json, quiet=quiet)
    _page(output, quiet=still)


@contest_app.command
def board(folder: Path, *, markdown: Json = False, json: Json = False) -> None:
    """How the recipes did in a tournament, as far as it was played; its page is written anew.

    Parameters
    ----------
    folder
        Folder of the tournament.
    markdown
        Print the tables as Markdown.
    json
        Print them as JSON.
    """
    from twinlens.contest.board import leaderboard

    found = leaderboard(folder)
    _page(folder, quiet=json or markdown)
    if markdown and not json:
        print(found.markdown(), end="")
    else:
        _tell_board(found, json=json, quiet=False)


def _page(folder: Path, *, quiet: bool) -> None:
    """The page of a tournament, in its folder."""
    from twinlens.results.writing import replacing
    from twinlens.show.tournament_report import tournament_page

    page = expanded(folder) / "report.html"
    with replacing(page) as temporary:
        temporary.write_text(tournament_page(folder), encoding="utf-8")
    if not quiet:
        print(f"wrote {page}", file=sys.stderr)


def _tell(cell: Mapping[str, Any]) -> None:
    rose = "-" if cell["increase"] is None else f"{cell['increase']:+.4f} nats a token"
    void = "" if cell["counts"] else " (the implant failed its check and does not count)"
    print(
        f"{cell['tier']} {cell['seed']} {cell['recipe']}: {cell['verdict']}, {rose}{void}",
        file=sys.stderr, flush=True,
    )  # fmt: skip


def _tell_board(found: Board, *, json: bool, quiet: bool) -> None:
    if json:
        print_json(found.to_dict())
    elif not quiet:
        _print(found)


def _print(found: Board) -> None:
    from rich.console import Console

    console = Console(highlight=False)
    console.print(f"{found.counted} of {found.implants} implants passed their check and count")
    if found.standings:
        console.print(_table(found.standings, "all tiers"))
        console.print(
            "deleted: share [95%]; ≤0.01: how many of them at a bound of 0.01 nats a token; nats:"
            " what clean text costs more, mean; most: the largest bound; s: of cleaning",
            style="dim",
        )  # fmt: skip
    tiers = dict.fromkeys(one.tier for one in found.by_tier)
    if len(tiers) > 1:
        for tier in tiers:
            some = [one for one in found.by_tier if one.tier == tier]
            console.print(_table(some, f"tier {tier}"))
    if found.differences:
        console.print(_differences(found.differences))
    print_notes(console, found.notes)


def _table(standings: Sequence[Standing], title: str) -> Table:
    from twinlens.contest.board import percent

    table = table_of_numbers(
        "recipe", "n", "deleted", "≤0.01", "suppr.", "surv.", "broken", "nats", "most", "s",
        title=title,
    )  # fmt: skip
    for one in standings:
        counts = [
            round(share.mean * one.n)
            for share in (
                one.clean,
                *(one.shares[v] for v in ("suppressed", "surviving", "broken")),
            )
        ]
        table.add_row(
            one.recipe if one.blind else f"{one.recipe} (not blind)", str(one.n),
            percent(one.shares["deleted"]), *map(str, counts),
            *(number(x, "+.3f") for x in (one.increase.mean, one.upper)),
            number(one.seconds, ".0f"),
        )  # fmt: skip
    return table


def _differences(found: Sequence[Difference]) -> Table:
    table = table_of_numbers(
        "first - second", "n", "only first", "only second", "difference", "p",
        title="share deleted, on the same implants (McNemar)",
    )  # fmt: skip
    for one in found:
        table.add_row(
            f"{one.first} - {one.second}", str(one.n), str(one.only_first), str(one.only_second),
            number(one.difference, "+.2f"), number(one.p, ".3g"),
        )  # fmt: skip
    return table
