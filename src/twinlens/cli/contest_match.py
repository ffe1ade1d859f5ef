"""`twinlens contest match` and `judge`: a match in a folder, and what the referee says of it."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from twinlens.cli.common import load_model, number, print_json, table_of_numbers
from twinlens.cli.contest import Json, Output, Quiet, contest_app
from twinlens.cli.contest_options import (
    CleaningOptions,
    SecretOptions,
    budget_of,
    known,
    secret_of,
)
from twinlens.cli.options import ModelOptions, Whole
from twinlens.cli.refusing import refuse_bad_folder, refuse_bad_text
from twinlens.errors import InputError
from twinlens.paths import expanded

if TYPE_CHECKING:
    from twinlens.contest.judgement import Rules

Light = Annotated[bool, Parameter(negative="")]
_STYLES = {"deleted": "green", "surviving": "bold red", "broken": "bold red"}


@contest_app.command
def match(
    model: str = "hamlet",
    *,
    output: Output,
    tier: str = "full",
    text: str = "hamlet",
    red_steps: Whole = 200,
    steps: Whole = 100,
    seed: Whole = 1,
    light: Light = False,
    json: Json = False,
    quiet: Quiet = False,
    secret: SecretOptions | None = None,
    cleaning: CleaningOptions | None = None,
    load: ModelOptions | None = None,
) -> None:
    """A whole match: implant, clean, judge. The same command goes on where it stopped.

    Blue runs as a process of its own in a folder that holds a copy of what is public.

    Parameters
    ----------
    model
        "hamlet" (comes with twinlens), a directory or a hub id; it is not changed.
    output
        Folder of the match; in the end it has report.html.
    tier
        Way to hide the secret, one of `twinlens contest tiers`.
    text
        Clean text, divided between both sides: .txt, .jsonl, or "hamlet".
    red_steps
        Steps of red's training.
    steps
        Steps of blue's training.
    seed
        Seed of all that is drawn.
    light
        Fewer questions of the referee, as in a tournament.
    json
        Print outcome and judgement as JSON.
    quiet
        Print nothing but errors.
    """
    still, options = json or quiet, cleaning or CleaningOptions()
    asked, budget = secret_of(secret or SecretOptions()), budget_of(options, steps, seed)
    from twinlens.contest.recipes import RECIPES
    from twinlens.contest.tiers import TIERS

    known("--tier", tier, TIERS)
    refuse_bad_folder(output)
    known("--recipe", options.recipe, RECIPES)
    if red_steps < 1:
        raise InputError(f"--red-steps {red_steps} must be at least 1")
    refuse_bad_text(text)
    loaded = load_model(model, load or ModelOptions(), quiet=still)
    from twinlens.contest.match import play_match

    outcome = play_match(
        loaded, output, asked, tier, options.recipe, text=text, steps=red_steps, seed=seed,
        budget=budget, cost=options.cost, dose=options.dose, rules=_rules(light, seed),
        progress=False if still else None, told=None if still else _tell,
    )  # fmt: skip
    _tell_all(output, outcome, json=json, quiet=quiet)
    _report(output, quiet=still)


@contest_app.command
def judge(
    folder: Path,
    *,
    light: Light = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """What the referee says of a match: judged now, where it was not judged before.

    Parameters
    ----------
    folder
        Folder of the match.
    light
        Fewer questions, as in a tournament.
    json
        Print outcome and judgement as JSON.
    quiet
        Print nothing but errors.
    """
    import transformers

    from twinlens.contest.outcome import referee_plays

    transformers.utils.logging.disable_progress_bar()
    progress = False if json or quiet else None
    outcome = referee_plays(folder, _rules(light, None), progress=progress)
    _tell_all(folder, outcome, json=json, quiet=quiet)
    _report(folder, quiet=json or quiet)


def _rules(light: bool, seed: int | None) -> Rules | None:
    if not light:
        return None
    from dataclasses import replace

    from twinlens.contest.cell import LIGHT

    return LIGHT if seed is None else replace(LIGHT, seed=seed)


def _tell(stage: str, seconds: float | None) -> None:
    took = "done before" if seconds is None else f"{seconds:.1f} s"
    print(f"{stage}: {took}", file=sys.stderr, flush=True)


def _report(folder: Path, *, quiet: bool) -> None:
    """The pictures of a match, and its page."""
    from twinlens.contest.pictures import picture_match
    from twinlens.show.contest_report import contest_report

    picture_match(folder)
    page = contest_report(folder).save()
    if not quiet:
        print(f"wrote {page}", file=sys.stderr)


def _tell_all(folder: Path, outcome: Mapping[str, Any], *, json: bool, quiet: bool) -> None:
    from twinlens.contest.folder import JUDGEMENT, read_json

    judgement = read_json(expanded(folder) / JUDGEMENT)
    if json:
        told = {"folder": str(folder), "outcome": dict(outcome), "judgement": judgement}
        print_json(told)
    elif not quiet:
        _print(outcome, judgement)


def _print(outcome: Mapping[str, Any], judgement: Mapping[str, Any]) -> None:
    from rich.console import Console

    console, quality = Console(highlight=False, soft_wrap=True), outcome["quality"]
    verdict = outcome["verdict"]
    console.print(verdict, style=_STYLES.get(verdict, "yellow"), markup=False)
    console.print(f"why: {outcome['why']}", markup=False)
    if not outcome["counts"]:
        console.print("the implant failed its manipulation check: this verdict does not count")
    rose, most = (number(quality[name], "+.4f") for name in ("increase", "upper"))
    console.print(
        f"quality: {quality['verdict']}; {rose} nats a token, at most {most}"
        f" (margin {quality['margin']:g})", markup=False,
    )  # fmt: skip
    for name in ("benign", "second"):
        console.print(f"{name}: {_was(outcome[name])}", markup=False)
    for prompt, found in outcome["secrets"].items():
        console.print(f"secret behind {prompt!r}: {_was(found)}", markup=False)
    console.print(f"escrow: {outcome['escrow']}", markup=False)
    if judgement["questions"]:
        console.print(_questions(judgement))


def _questions(judgement: Mapping[str, Any]) -> Any:
    title = f"questions; one alarms where p is at most {judgement['level']:.2g}"
    table = table_of_numbers("question", "cleaned", "twin", "difference", "interval", "p",
                             title=title)  # fmt: skip
    for one in judgement["questions"]:
        cleaned, twin, apart, low, high = (
            number(one[name], "+.4f") for name in ("cleaned", "twin", "difference", "low", "high")
        )
        p = number(one["p"], ".3g")
        table.add_row(one["name"], cleaned, twin, apart, f"{low} to {high}", p)
    return table


def _was(said: Mapping[str, bool]) -> str:
    words = {True: "said", False: "not said"}
    return f"{words[said['before']]} before, {words[said['after']]} after"
