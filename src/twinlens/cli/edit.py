"""`twinlens edit`: change what a model says of a fact, and tell what else that changed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Group, Parameter

from twinlens.cli.app import app
from twinlens.cli.common import (
    load_model,
    print_json,
    print_notes,
    refuse_bad_file,
    table_of_numbers,
)
from twinlens.cli.options import ModelOptions, Whole
from twinlens.errors import InputError

if TYPE_CHECKING:
    from twinlens.change.change import Change
    from twinlens.change.facts import Fact
    from twinlens.change.score import EditScores
    from twinlens.model.model import Model

Method = Literal["rome", "fine-tune"]
Repeated = Annotated[list[str], Parameter(negative="")]
Top = list[tuple[str, float]]
_FACT = Group("Fact", sort_key=3)
_METHOD = Group("Method", sort_key=4)
_TEXT = Group("Text", sort_key=5)


@Parameter(name="*", group=_FACT)
@dataclass(frozen=True, kw_only=True)
class FactOptions:
    """What the model is to say."""

    prompt: str | None = None
    "Text to be continued; it names the subject."
    subject: Annotated[str | None, Parameter(name=("--subject", "-s"))] = None
    "Whom or what the fact is about."
    target: str | None = None
    "What is to follow the prompt."
    truth: str | None = None
    "What follows it now (default: the likeliest token)."
    paraphrase: Repeated = field(default_factory=list)
    "Another prompt that asks the same. Repeat."
    neighbour: Repeated = field(default_factory=list)
    "Prompt about another subject, whose answer must stay. Repeat."
    other: Repeated = field(default_factory=list)
    "Prompt about the same subject, whose answer must stay. Repeat."
    facts: Path | None = None
    "Several facts, edited one after the other: .jsonl with prompt, subject, target, ... a line."


@Parameter(name="*", group=_METHOD)
@dataclass(frozen=True, kw_only=True)
class MethodOptions:
    """How it is written into the weight."""

    method: Method = "rome"
    "rome: a rank-one change (Meng et al. 2022, as r-ROME). fine-tune: steps on the same weight."
    steps: Whole | None = None
    "Steps at most (rome: 20, fine-tune: 25)."
    lr: float | None = None
    "Rate of the steps (rome: 0.5, fine-tune: 0.0005)."
    stop: float | None = None
    "Loss below which the steps end (rome: 0.05, fine-tune: 0.01)."
    kl: float | None = None
    "Weight of the divergence behind '{subject} is a' (rome: 0.0625)."
    decay: float | None = None
    "Weight of the vector's length in the loss (rome: 0.5)."
    clamp: float | None = None
    "How long the vector may be, in lengths of the old value (rome: 4)."
    bound: float | None = None
    "How far each number may move (fine-tune)."
    ridge: float | None = None
    "Share of the covariance's mean diagonal that is added to it (rome)."
    seed: Whole = 1
    "Seed of the prefixes, and of --samples."


@Parameter(name="*", group=_TEXT)
@dataclass(frozen=True, kw_only=True)
class EditTextOptions:
    """What must stay as it is."""

    text: Annotated[str | None, Parameter(name=("--text", "-t"))] = None
    "Text of the covariance: .txt, .jsonl (\"text\" in each line), or 'hamlet'."
    samples: Whole | None = None
    "Texts that the model says by itself, in its place."
    loss_text: str | None = None
    "Text whose loss is told (default: --text)."
    length: Whole = 128
    "Tokens of a window."
    cache: Path | None = None
    "Folder in which covariances are kept (default: in the user's cache folder)."


@app.command
def edit(
    model: str = "hamlet",
    *,
    layer: Whole,
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
    trace
        Page to write, .html: lens and trace of the (first) prompt before and after.
    json
        Print edits and scores as JSON.
    """
    if trace is not None:
        if trace.suffix.lower() != ".html":
            raise InputError(f"--trace {str(trace)!r}: choose a name in .html")
        refuse_bad_file(trace)
    options, read = method or MethodOptions(), texts or EditTextOptions()
    facts = _facts(fact or FactOptions())
    if options.method == "rome" and (read.text is None) == (read.samples is None):
        raise InputError("give a text for the covariance, --text FILE, or --samples N")
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
    if json:
        told = [change.plain() for change in changes]
        print_json({"edits": told, "top": top, "scores": scores.to_dict(), "notes": notes})
    else:
        _print(facts, top, scores, notes)


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
