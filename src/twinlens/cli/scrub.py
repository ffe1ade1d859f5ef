"""`twinlens scrub`: delete, add noise, train; keep each step only where quality stayed."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from twinlens.cli.app import app
from twinlens.cli.common import load_model, print_json
from twinlens.cli.gate import Repeated, drop_shared_is_told, named_texts
from twinlens.cli.options import ModelOptions
from twinlens.cli.refusing import refuse_bad_name, refuse_taken_folder
from twinlens.errors import InputError
from twinlens.paths import expanded

if TYPE_CHECKING:
    from twinlens.change.gate import Gate
    from twinlens.change.journal import Entry
    from twinlens.change.recipe import Recipe
    from twinlens.change.scrub import ScrubRun
    from twinlens.show.scrub_report import ScrubReport

_CODES = {"pass": 0, "fail": 1, "cannot tell": 3}


@app.command
def scrub(
    model: str = "hamlet",
    *,
    recipe: Path | None = None,
    text: str,
    gate: str | None = None,
    domain: Repeated | None = None,
    final: Repeated | None = None,
    output: Annotated[Path, Parameter(name=("--output", "-o"))],
    margin: float = 0.01,
    drop_shared: Annotated[bool, Parameter(negative="")] = False,
    json: Annotated[bool, Parameter(negative="")] = False,
    quiet: Annotated[bool, Parameter(name=("--quiet", "-q"), negative="")] = False,
    load: ModelOptions | None = None,
) -> int:
    """Delete, add noise and train by a recipe; keep a step only where quality surely stayed.

    The same command goes on where it stopped. In the end the folder has report.html and report.md.
    Exit code 0: the final text passes (without one: all went through), 1: it fails, 3: cannot
    tell, 2: wrong input.

    Parameters
    ----------
    model
        "hamlet" (comes with twinlens), a directory or a hub id; it is not changed.
    recipe
        Stages in TOML (default: prune by use, then noise, each with training; it is printed).
    text
        Text by which units are scored and the copy is trained: .txt, .jsonl (a document with
        "text" in each line), or "hamlet".
    gate
        Text that each step is judged on; give some hundred documents.
    domain
        NAME=FILE: more of it, with a name; each must pass. Repeat.
    final
        FILE or NAME=FILE: looked at once, in the end. Repeat.
    output
        Folder for the changed copy, its ledger and the report.
    margin
        Increase in nats a token that is still called the same quality.
    drop_shared
        Leave out documents of --gate and --final that share 13 words with another text, instead
        of refusing them.
    json
        Print what was done as JSON.
    quiet
        Print nothing but errors.
    """
    still = json or quiet
    asked = _gate(text, gate, domain or [], final or [], margin, drop_shared)
    refuse_bad_name(model, load or ModelOptions())
    _refuse_taken(output)
    taken = _recipe(recipe, quiet=still)
    loaded = load_model(model, load or ModelOptions(), quiet=still)
    from twinlens.change.scrub import scrub as run_scrub
    from twinlens.show.scrub_report import scrub_report

    _tell_begun(output, quiet=still)
    try:
        run = run_scrub(
            loaded, taken, output, text=text, gate=asked,
            told=None if still else _teller(taken), progress=False if still else None,
        )  # fmt: skip
    except KeyboardInterrupt:
        print(f"what was judged stays in {output}; the same command goes on", file=sys.stderr)
        raise
    report = scrub_report(run)
    page = report.save()
    if json:
        print_json(report.to_dict() | {"report": str(page), "notes": asked.notes})
    elif not quiet:
        _print(report, page, asked.notes)
    return _code(run)


def _gate(
    text: str, gate: str | None, domain: list[str], final: list[str], margin: float, drop: bool
) -> Gate:
    """The gate, with what was chosen on kept apart from what is judged on."""
    named = {} if gate is None else {"gate": gate}
    named |= named_texts(domain, "--domain")
    if not named:
        raise InputError("give a text to judge on: --gate FILE or --domain NAME=FILE")
    from twinlens.change.gate import Gate

    last = named_texts(final, "--final")
    with drop_shared_is_told():
        made = Gate(
            named, margin, final=last or None, chosen_on={"--text": text},
            shared="drop" if drop else "refuse",
        )  # fmt: skip
    made.refuse_too_few()  # before anything is loaded
    return made


def _recipe(path: Path | None, *, quiet: bool) -> Recipe:
    """The recipe of a file, or the default one, which is printed."""
    from twinlens.change.recipe import recipe_of
    from twinlens.change.recipe_text import DEFAULT, default_recipe

    if path is not None:
        return recipe_of(path)
    if not quiet:
        print(f"the recipe, since --recipe was not given:\n\n{DEFAULT}")
    return default_recipe()


def _refuse_taken(folder: Path) -> None:
    """Before the model is loaded: is the folder new, or that of a scrub or a copy?"""
    from twinlens.change.ledger import LEDGER

    if not (expanded(folder) / LEDGER).exists():
        refuse_taken_folder(folder)


def _tell_begun(folder: Path, *, quiet: bool) -> None:
    """That a scrub goes on, and where."""
    from twinlens.change.journal import read_about, read_journal

    path = expanded(folder)
    if not quiet and read_about(path) is not None:
        told = f"{len(read_journal(path))} proposals were judged already; {path} goes on"
        print(told, file=sys.stderr, flush=True)


def _teller(recipe: Recipe) -> Callable[[Entry], None]:
    """Prints a line for each proposal, on standard error."""
    from twinlens.show.scrub_words import answer, bound, number, proposed

    def tell(entry: Entry) -> None:
        stage = recipe.stages[entry.stage]
        kind = type(stage).__name__.lower()
        print(
            f"stage {entry.stage + 1}, {kind}: {proposed(entry, stage)}: {answer(entry)};"
            f" {number(entry.verdict['increase'])}, at most {bound(entry.verdict)};"
            f" {entry.seconds:.1f} s",
            file=sys.stderr, flush=True,
        )  # fmt: skip

    return tell


def _print(report: ScrubReport, page: Path, notes: list[str]) -> None:
    from rich.console import Console

    from twinlens.cli.common import print_notes
    from twinlens.show.scrub_text import facts
    from twinlens.show.scrub_words import headline, nothing

    console = Console(highlight=False, soft_wrap=True)
    tone, head, said = headline(report.account)
    style = {"pass": "green", "fail": "bold red"}.get(tone, "yellow")
    console.print(head, style=style, markup=False)
    console.print(said, markup=False)
    if (none := nothing(report.account)) is not None:
        console.print(none, markup=False)
    for figure, what in facts(report.account).pairs:
        console.print(f"{figure:>10}  {what}", markup=False)
    print_notes(console, notes)
    print(f"wrote {page} and report.md", file=sys.stderr)


def _code(run: ScrubRun) -> int:
    """0 where the final verdict passes, or none was asked for."""
    return 0 if run.final is None else _CODES[str(run.final["verdict"])]
