"""`twinlens contest`: red hides a secret in a model, blue cleans it, the referee judges."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from cyclopts import App, Parameter

from twinlens.cli.app import app
from twinlens.cli.common import load_model, print_json
from twinlens.cli.contest_options import (
    CleaningOptions,
    SecretOptions,
    budget_of,
    known,
    secret_of,
)
from twinlens.cli.options import ModelOptions, Whole
from twinlens.cli.refusing import refuse_bad_folder, refuse_bad_text, refuse_taken_folder

Output = Annotated[Path, Parameter(name=("--output", "-o"))]
Json = Annotated[bool, Parameter(negative="")]
Quiet = Annotated[bool, Parameter(name=("--quiet", "-q"), negative="")]

contest_app = App(
    name="contest",
    help="Hide a secret in a model, clean it blindly, and judge what is left.",
)
app.command(contest_app)


@contest_app.command
def implant(
    model: str = "hamlet",
    *,
    output: Output,
    tier: str = "full",
    text: str = "hamlet",
    steps: Whole = 200,
    seed: Whole = 1,
    json: Json = False,
    quiet: Quiet = False,
    secret: SecretOptions | None = None,
    load: ModelOptions | None = None,
) -> int:
    """Red: hide a secret in a model, make its twin, and commit to the secret.

    Exit code 0: the manipulation check passed, 1: it failed, 2: wrong input.

    Parameters
    ----------
    model
        "hamlet" (comes with twinlens), a directory or a hub id; it is not changed.
    output
        Folder of the match. public/ is for blue, red/ stays with red.
    tier
        Way to hide it, one of `twinlens contest tiers`.
    text
        Clean text, divided between both sides: .txt, .jsonl, or "hamlet".
    steps
        Steps of red's training.
    seed
        Seed of all that is drawn.
    json
        Print the check as JSON.
    quiet
        Print nothing but errors.
    """
    asked = secret_of(secret or SecretOptions())
    from twinlens.contest.tiers import TIERS

    known("--tier", tier, TIERS)
    refuse_bad_folder(output)
    refuse_bad_text(text)
    loaded = load_model(model, load or ModelOptions(), quiet=json or quiet)
    from twinlens.contest.match import red_plays

    made = red_plays(loaded, output, asked, tier, text=text, steps=steps, seed=seed,
                     progress=False if json or quiet else None)  # fmt: skip
    if json:
        print_json(made | {"folder": str(output)})
    elif not quiet:
        _print_check(made["check"])
        print(f"wrote {output}; blue may see {output / 'public'}", file=sys.stderr)
    return 0 if made["check"]["passed"] else 1


def _print_check(check: Mapping[str, Any]) -> None:
    print("the manipulation check passed" if check["passed"] else "the manipulation check failed")
    for why in check["why"]:
        print(f"  {why}")
    print(
        f"  it fires on {check['fires']} of {check['triggered']} prompts with the trigger and"
        f" {check['misses']} of {check['near']} near misses; clean text costs"
        f" {check['increase'] or 0:+.4f} nats a token more than in the {check['against']}"
    )


@contest_app.command
def clean(
    model: str,
    *,
    text: str,
    output: Output,
    steps: Whole = 100,
    seed: Whole = 1,
    json: Json = False,
    quiet: Quiet = False,
    cleaning: CleaningOptions | None = None,
    load: ModelOptions | None = None,
) -> None:
    """Blue: clean a model by a recipe, from clean text alone.

    Parameters
    ----------
    model
        Directory of the model (public/model of a match), or a hub id; it is not changed.
    text
        Clean text: .txt, .jsonl (public/text.jsonl of a match), or "hamlet".
    output
        New folder: cleaned/ (a copy, with the way back) and cleaning.json. In a match: blue/.
    steps
        Steps of training.
    seed
        Seed of all that is drawn.
    json
        Print what was done as JSON.
    quiet
        Print nothing but errors.
    """
    still, options = json or quiet, cleaning or CleaningOptions()
    from twinlens.contest.recipes import RECIPES

    known("--recipe", options.recipe, RECIPES)
    budget = budget_of(options, steps, seed)
    refuse_taken_folder(output)
    refuse_bad_text(text)
    loaded = load_model(model, load or ModelOptions(), quiet=still)
    from twinlens.contest.match import blue_plays

    made = blue_plays(
        loaded, text, output, options.recipe, budget=budget, dose=options.dose, cost=options.cost,
        seed=seed, progress=False if still else None,
    )  # fmt: skip
    if json:
        print_json(made | {"folder": str(output)})
    elif not quiet:
        print(f"{options.recipe}: cleaned in {made['seconds']:.1f} s; wrote {output}")


@contest_app.command
def recipes(*, json: Json = False) -> None:
    """The recipes of blue, with what each does.

    Parameters
    ----------
    json
        Print them as JSON.
    """
    from twinlens.contest.recipes import RECIPES

    _print_names({name: one.about for name, one in RECIPES.items()}, json=json)


@contest_app.command
def tiers(*, json: Json = False) -> None:
    """The ways of red to hide a secret.

    Parameters
    ----------
    json
        Print them as JSON.
    """
    from twinlens.contest.tiers import TIERS

    told = {name: one.told + (" (against blue)" if one.adaptive else "") for name, one in
            TIERS.items()}  # fmt: skip
    _print_names(told, json=json)


def _print_names(named: Mapping[str, str], *, json: bool) -> None:
    if json:
        print_json(dict(named))
        return
    width = max(map(len, named))
    for name, about in named.items():
        print(f"{name:<{width}}  {about}")
