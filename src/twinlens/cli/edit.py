"""`twinlens edit`: change what a model says of a fact, and tell what else that changed."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from twinlens.cli.app import app
from twinlens.cli.common import (
    load_model,
    print_json,
    print_notes,
    table_of_numbers,
)
from twinlens.cli.edit_options import EditTextOptions, FactOptions, MethodOptions
from twinlens.cli.options import ModelOptions, Whole
from twinlens.cli.refusing import refuse_bad_file, refuse_bad_text, refuse_taken_folder
from twinlens.errors import InputError

if TYPE_CHECKING:
    from twinlens.change.change import Change
    from twinlens.change.facts import Fact
    from twinlens.change.score import EditScores
    from twinlens.model.model import Model

Top = list[tuple[str, float]]


@app.command
def edit(
    model: str = "hamlet",
    *,
    layer: Whole,
    output: Annotated[Path | None, Parameter(name=("--output", "-o"))] = None,
    trace: Path | None = None,
    json: Annotated[bool, Parameter(negative="")] = False,
    fact: FactOptions | None = None,
    method: MethodOptions | None = None,
    texts: EditTextOptions | None = None,
    load: ModelOptions | None = None,
) -> None:
    """Edit a fact in one layer. A trace's peak is no advice which one to take (Hase et al. 2023).

    Parameters
    ----------
    model
        "hamlet" (comes with twinlens), a directory or a hub id.
    layer
        Whose down-projection is changed.
    output
        Folder for the changed copy, with the way back; it must be new.
    trace
        Page to write, .html: lens and trace of the (first) prompt before and after.
    json
        Print edits and scores as JSON.
    """
    _refuse_bad_files(trace, output)
    options, read = method or MethodOptions(), texts or EditTextOptions()
    facts = _facts(fact or FactOptions())
    _constants(options)
    _refuse_bad_texts(options, read)
    loaded = load_model(model, load or ModelOptions(), quiet=json)
    from twinlens.change.asking import top_tokens
    from twinlens.change.change import changed

    changes, notes = _changes(loaded, facts, layer, options, read, quiet=json)
    top: dict[str, Top] = {"before": top_tokens(loaded, facts[0].prompt)}
    with changed(loaded, *changes):
        top["after"] = top_tokens(loaded, facts[0].prompt)
    scores = _scores(loaded, facts, changes, read, quiet=json)
    if trace is not None:
        _compare(loaded, facts[0], changes, trace)
    if output is not None:
        _save(loaded, changes, scores, output, quiet=json)
    if json:
        told = [change.plain() for change in changes]
        print_json({"edits": told, "top": top, "scores": scores.to_dict(), "notes": notes})
    else:
        _print(facts, top, scores, notes)


def _refuse_bad_files(trace: Path | None, output: Path | None) -> None:
    """Before anything is computed: can what was asked for be written?"""
    if trace is not None:
        if trace.suffix.lower() != ".html":
            raise InputError(f"--trace {str(trace)!r}: choose a name in .html")
        refuse_bad_file(trace)
    if output is not None:
        refuse_taken_folder(output)


def _refuse_bad_texts(options: MethodOptions, read: EditTextOptions) -> None:
    """Before the model is loaded: is there a text for the covariance, and can it be read?"""
    if options.method == "rome":
        if read.text is None and read.samples is None:
            raise InputError("give a text for the covariance, --text FILE, or --samples N")
        if read.text is not None and read.samples is not None:
            raise InputError("give --text or --samples, not both: the covariance is of one of them")
    else:
        idle = {"samples": read.samples, "cache": read.cache}
        if given := [name for name, value in idle.items() if value is not None]:
            raise InputError(f"--{given[0]} does not go with --method {options.method}")
    for text in (read.text, read.loss_text):
        if text is not None:
            refuse_bad_text(text)


def _save(
    model: Model, changes: Sequence[Change], scores: EditScores, folder: Path, *, quiet: bool
) -> None:
    """A copy of the model, with each change as a step; the last has the scores."""
    from twinlens.change.copy import Copy

    Copy.create(model, folder, changes, {"scores": scores.to_dict()})
    if not quiet:
        print(f"wrote {folder}", file=sys.stderr)


def _facts(given: FactOptions) -> list[Fact]:
    from twinlens.change.facts import Fact
    from twinlens.change.facts_file import read_edits

    one = (given.prompt, given.subject, given.target)
    if given.facts is not None:
        if any(part is not None for part in one):
            raise InputError("give --facts, or --prompt, --subject and --target")
        return read_edits(given.facts)
    if given.prompt is None or given.subject is None or given.target is None:
        raise InputError("give --prompt, --subject and --target, or --facts FILE")
    return [
        Fact(
            given.prompt, given.subject, given.target, given.truth, given.paraphrase,
            given.neighbour, given.other,
        )
    ]  # fmt: skip


def _constants(options: MethodOptions) -> dict[str, Any]:
    """The method's constants that were given; refuses those of the other method."""
    named = {n: v for n, v in asdict(options).items() if n not in ("method", "seed")}
    given = {name: value for name, value in named.items() if value is not None}
    both = {"steps", "lr", "stop"}
    own = both | ({"bound"} if options.method == "fine-tune" else {"kl", "decay", "clamp", "ridge"})
    if other := sorted(set(given) - own):
        raise InputError(f"--{other[0]} does not go with --method {options.method}")
    return given


def _changes(
    model: Model,
    facts: Sequence[Fact],
    layer: int,
    options: MethodOptions,
    read: EditTextOptions,
    *,
    quiet: bool,
) -> tuple[list[Change], list[str]]:
    """The changes one after the other, and what a reader must know of them."""
    from twinlens.change.covariance import key_covariance
    from twinlens.change.facts import answer_ids, subject_end
    from twinlens.change.finetune import fine_tune_facts
    from twinlens.change.rome import HASE, edit_facts
    from twinlens.change.value import EditOptions

    for fact in facts:  # before a text is read
        subject_end(model, fact.prompt, fact.subject)
        answer_ids(model, fact.prompt, fact.target)
    bar, given = False if quiet else None, _constants(options)
    if options.method == "fine-tune":
        return list(fine_tune_facts(model, facts, layer=layer, **given)), [HASE]
    rome = EditOptions(seed=options.seed, **given)
    _refuse_few(model, layer, rome.ridge, read)
    covariance = key_covariance(
        model, layer, read.text, samples=read.samples, length=read.length, seed=options.seed,
        cache="default" if read.cache is None else read.cache, progress=bar,
    )  # fmt: skip
    edits = edit_facts(model, facts, layer=layer, covariance=covariance, options=rome, progress=bar)
    notes = [note for edit in edits for note in edit.notes]
    if read.text is not None and read.loss_text in (None, read.text):
        notes.append(
            "the edit is made to disturb the text of --text least, and its loss is told;"
            " --loss-text tells that of another"
        )
    return list(edits), list(dict.fromkeys(notes))


def _refuse_few(model: Model, layer: int, ridge: float, read: EditTextOptions) -> None:
    """Before texts are sampled: are their tokens as many as the covariance's rows?"""
    from twinlens.change.parts import Part, projection, refuse_missing
    from twinlens.see.question import whole

    whole("length", read.length, 4)
    if read.samples is None or read.samples < 1 or ridge or layer < 0:
        return
    refuse_missing(model, [Part("mlp", layer, 0)])
    inputs, tokens = projection(model, "mlp", layer).by_input.shape[0], read.samples * read.length
    if tokens < inputs:
        raise InputError(
            f"--samples {read.samples} of {read.length} tokens are {tokens} tokens, fewer than the"
            f" {inputs} inputs of the weight: give --samples {-(-inputs // read.length)} at least,"
            " or --ridge 1e-4"
        )


def _scores(
    model: Model,
    facts: Sequence[Fact],
    changes: list[Change],
    read: EditTextOptions,
    *,
    quiet: bool,
) -> EditScores:
    from twinlens.change.score import score_edits

    text = read.loss_text or read.text
    cases = [(fact, changes) for fact in facts]
    return score_edits(
        model, cases, text=text, length=read.length, progress=False if quiet else None
    )


def _compare(model: Model, fact: Fact, changes: Sequence[Change], path: Path) -> None:
    """Lens and trace of the fact's prompt before and after, explaining the target, as one page."""
    import warnings

    from twinlens.change.change import changed
    from twinlens.change.facts import answer_ids
    from twinlens.see.lens import logit_lens
    from twinlens.see.trace import causal_trace
    from twinlens.show.page import compare
    from twinlens.show.twin import twin

    target = answer_ids(model, fact.prompt, fact.target)[0]
    views: dict[str, Any] = {}
    for name, put_in in (("before", ()), ("after", changes)):
        with changed(model, *put_in), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the page tells them
            lens = logit_lens(model, fact.prompt, targets=[target])
            views[name] = twin(lens, causal_trace(model, fact.prompt, fact.subject, answer=target))
    compare(views).save(path)


def _print(
    facts: Sequence[Fact], top: dict[str, Top], scores: EditScores, notes: Sequence[str]
) -> None:
    from rich.console import Console
    from rich.markup import escape

    console = Console(highlight=False, soft_wrap=True)
    console.print(f"{facts[0].prompt} …", markup=False)
    table = table_of_numbers("before", "", "after", "")
    for old, new in zip(top["before"], top["after"], strict=True):
        table.add_row(escape(old[0]), f"{old[1]:.3f}", escape(new[0]), f"{new[1]:.3f}")
    console.print(table)
    _print_scores(console, scores)
    print_notes(console, notes)


def _print_scores(console: Any, scores: EditScores) -> None:
    import math

    from twinlens.change.asking import MEASURES

    table = table_of_numbers("", "prompts", "before", "after", "95% interval", "difference", "said")
    for measure in MEASURES:
        before, after = (scores.interval("success", measure, s) for s in ("before", "after"))
        if math.isnan(after.mean):
            continue
        number = MEASURES.index(measure)
        apart, said = (scores.interval(w, measure).mean for w in ("magnitude", "said"))
        table.add_row(
            measure, str(int(scores.prompts[:, number].sum())), f"{before.mean:.0%}",
            f"{after.mean:.0%}", f"{after.low:.0%}–{after.high:.0%}", f"{apart:+.3f}",
            f"{said:.0%}",
        )  # fmt: skip
    console.print(table)
    if not math.isnan(score := scores.harmonic().mean):
        console.print(f"score (harmonic mean of the first three): {score:.0%}")
    before, after = scores.text_loss
    if not math.isnan(before):
        more = scores.increase
        console.print(
            f"text: {before:.4f} before, {after:.4f} after, {more.mean:+.4f}"
            f" ({more.low:+.4f} to {more.high:+.4f}) nats a token over"
            f" {int(scores.tokens.sum()):,} tokens"
        )
