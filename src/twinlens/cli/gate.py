"""`twinlens gate`: did quality stay when a model was changed?"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Group, Parameter

from twinlens.cli.app import app
from twinlens.cli.common import (
    find_models,
    load_model,
    number,
    print_json,
    print_notes,
    say,
    table_of_numbers,
)
from twinlens.cli.options import ModelOptions, Whole
from twinlens.cli.refusing import refuse_bad_name, refuse_bad_result
from twinlens.cli.settings import refuse_idle
from twinlens.errors import InputError, OverlapError

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from rich.console import Console

    from twinlens.change.gate import Gate
    from twinlens.change.verdict import TaskVerdict, Verdict

_CODES = {"pass": 0, "fail": 1, "cannot tell": 3}
_STYLES = {"pass": "green", "fail": "bold red", "cannot tell": "yellow"}
_TEXTS = Group("Text", sort_key=3)
_RULE = Group("Rule", sort_key=4)
Repeated = Annotated[list[str], Parameter(negative="")]


@Parameter(name="*", group=_TEXTS)
@dataclass(frozen=True, kw_only=True)
class TextOptions:
    """What is judged on."""

    text: Annotated[str | None, Parameter(name=("--text", "-t"))] = None
    "Text to judge on: .txt or .jsonl (a document with \"text\" in each line), or 'hamlet'."
    domain: Repeated = field(default_factory=list)
    "NAME=FILE: a text with a name; each must pass. Repeat."
    final: Repeated = field(default_factory=list)
    "FILE or NAME=FILE: looked at once, after the other text passed. Repeat."
    chosen_on: Repeated = field(default_factory=list)
    "FILE or NAME=FILE that choices were made on: it may share nothing with the others. Repeat."
    drop_shared: Annotated[bool, Parameter(negative="")] = False
    "Leave out documents that share 13 words with another text, instead of refusing them."
    items: Path | None = None
    'Cloze items: .jsonl of objects with "prompt" and "answer" (its space included), or of facts.'


@Parameter(name="*", group=_RULE)
@dataclass(frozen=True, kw_only=True)
class RuleOptions:
    """By which rule."""

    margin: float = 0.01
    "Increase in nats a token that is still called the same quality."
    items_margin: float = 0.02
    "Loss in accuracy on the items that is still called the same."
    alpha: float = 0.05
    "Chance of a false pass, in all looks together."
    rare: float = 0.05
    "Share of the documents in which damage is to be seen: it says how many there must be."
    length: Whole = 128
    "Tokens of a window."
    sample: Whole = 512
    "Positions of each text at which KL is told."
    seed: Whole = 1
    "Seed of that sample and of the bootstrap."
    batch_tokens: Whole = 4096
    "Tokens of one pass."


@app.command
def gate(
    original: str,
    changed: str,
    *,
    look: Whole | None = None,
    again: Annotated[bool, Parameter(negative="")] = False,
    reference: Path | None = None,
    json: Annotated[bool, Parameter(negative="")] = False,
    texts: TextOptions | None = None,
    rule: RuleOptions | None = None,
    load: ModelOptions | None = None,
) -> int:
    """Did quality stay? Exit code 0: pass, 1: fail, 3: cannot tell, 2: wrong input.

    Parameters
    ----------
    original
        The model as it was: "hamlet", a directory or a hub id.
    changed
        The changed model.
    look
        Which look at the text this is (default: the next that the reference knows of).
    again
        Look at the final text once more; the verdict says so.
    reference
        File for the original's numbers, in .safetensors: made where there is none. The looks are
        kept beside it.
    json
        Print the verdicts as JSON.
    """
    if reference is not None:
        refuse_bad_result(reference, "the original's numbers")
    if look is not None and look < 1:
        raise InputError(f"--look {look} must be at least 1")
    asked, options = texts or TextOptions(), load or ModelOptions()
    if again and not asked.final:
        raise InputError("--again is about the final text; give --final FILE too")
    refuse_bad_name(original, options)
    refuse_bad_name(changed, options)
    with drop_shared_is_told():
        made = _gate(asked, rule or RuleOptions())
    for few in made.too_few() if not json else ():
        say(f"{few}: unless the weights are the same, the answer will be: cannot tell")
    find_models((original, changed), options)
    bar = False if json else None
    kept = made.of(load_model(original, options, quiet=json), file=reference, progress=bar)
    model = load_model(changed, options, quiet=json)
    verdicts = [kept.check(model, look=look, progress=bar)]
    if kept.final and verdicts[0].passed:
        verdicts.append(kept.check_final(model, again=again, progress=bar))
    if json:
        print_json({"final" if v.final else "gate": v.to_dict() for v in verdicts})
    else:
        _print(verdicts, bool(kept.final))
    return _CODES[verdicts[-1].verdict]


def _gate(texts: TextOptions, rule: RuleOptions) -> Gate:
    """The gate that the options mean."""
    if texts.items is None and rule.items_margin != RuleOptions().items_margin:
        refuse_idle("--items-margin", "is about cloze items; give --items FILE too")
    named = named_texts(texts.domain, "--domain")
    if texts.text is not None:
        named = {"text": texts.text} | named
    if not named:
        raise InputError("give a text to judge on: --text FILE or --domain NAME=FILE")
    final, chosen_on = (
        named_texts(texts.final, "--final"),
        named_texts(texts.chosen_on, "--chosen-on"),
    )
    from twinlens.change.cloze import read_items
    from twinlens.change.gate import Gate

    return Gate(
        named,
        final=final or None,
        chosen_on=chosen_on or None,
        shared="drop" if texts.drop_shared else "refuse",
        items=None if texts.items is None else read_items(texts.items),
        **asdict(rule),
    )


@contextmanager
def drop_shared_is_told() -> Generator[None]:
    """Where texts share documents, the error says which option leaves those out."""
    try:
        yield
    except OverlapError as error:
        raise InputError(f"{error}, or give --drop-shared") from error


def named_texts(given: Sequence[str], option: str) -> dict[str, str]:
    """NAME=FILE by name; a FILE without a name is called text."""
    named: dict[str, str] = {}
    for one in given:
        name, sign, file = one.partition("=")
        name, file = (name, file) if sign else ("text", one)
        if not name or not file or (not sign and option == "--domain"):
            raise InputError(f"{option} {one!r} is no NAME=FILE")
        if name in named:
            raise InputError(f"{option}: two texts are called {name!r}; give NAME=FILE")
        named[name] = file
    return named


def _print(verdicts: Sequence[Verdict], has_final: bool) -> None:
    from rich.console import Console

    console = Console(highlight=False, soft_wrap=True)
    for verdict in verdicts:
        _print_one(console, verdict)
    if has_final and len(verdicts) == 1:
        console.print("the final text was not looked at: the other did not pass", style="dim")
    print_notes(console, list(dict.fromkeys(n for v in verdicts for n in v.notes)))


def _print_one(console: Console, verdict: Verdict) -> None:
    where = "the final text" if verdict.final else "the gate text"
    console.print(
        f"{verdict.verdict}: {where}, look {verdict.look}, level {verdict.level:.3g}, margin"
        f" {verdict.margin:g} nats a token",
        style=_STYLES[verdict.verdict],
        markup=False,
    )
    table = table_of_numbers(
        "domain", "increase", "lower", "upper", "before", "KL", "flips", "docs", "verdict"
    )
    for column in table.columns[1:]:
        column.no_wrap = True
    for d in verdict.domains:
        numbers = (number(x, "+.4f") for x in (d.increase, d.lower, d.upper))
        table.add_row(
            d.name, *numbers, number(d.before, ".4f"), number(d.kl, ".4f"), number(d.flips, ".1%"),
            f"{d.documents:,}", d.verdict,
        )  # fmt: skip
    console.print(table)
    for d in verdict.domains:
        if d.why:
            console.print(f"{d.name}: {d.why}", markup=False)
    if verdict.task is not None:
        _print_task(console, verdict.task)


def _print_task(console: Console, task: TaskVerdict) -> None:
    console.print(
        f"items: {task.verdict}; {task.before:.1%} right before, {task.after:.1%} after, of"
        f" {task.items:,}; loss {task.loss:+.1%}, bounds {task.lower:+.1%} to {task.upper:+.1%},"
        f" margin {task.margin:.1%}",
        markup=False,
    )
    if task.why:
        console.print(f"items: {task.why}", markup=False)
