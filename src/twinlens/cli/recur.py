"""`twinlens recur`: a word that comes back, and what it owes to its earlier occurrences."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from twinlens.cli.app import app
from twinlens.cli.common import (
    load_model,
    named_by_kind,
    number,
    print_json,
    print_notes,
    progress,
    refuse_bad_crop,
    refuse_bad_output,
    say,
    table_of_numbers,
    write,
)
from twinlens.cli.options import CorruptionOptions, ModelOptions, OutputOptions, Whole
from twinlens.cli.refusing import refuse_idle_noise
from twinlens.cli.values import span
from twinlens.errors import InputError

if TYPE_CHECKING:
    from rich.table import Table

    from twinlens.results import RecurrenceResult, Result


@app.command
def recur(
    prompt: str | None = None,
    *,
    word: Annotated[str | None, Parameter(name=("--word", "-w"))] = None,
    model: Annotated[str, Parameter(name=("--model", "-m"))] = "hamlet",
    part: Whole | None = None,
    controls: Whole = 10,
    metric: Literal["probability", "log_probability", "logit", "kl"] = "probability",
    neurons: bool = True,
    corruption: CorruptionOptions | None = None,
    load: ModelOptions | None = None,
    output: OutputOptions | None = None,
) -> None:
    """A word that comes back: surprisal, lens, heads and effect of each of its occurrences.

    Without a prompt: hamlet's story of the Dursley family. The page (-o) and the results (--save)
    have more than is printed, a trace of every state among it, and take several times as long.

    Parameters
    ----------
    prompt
        The text.
    word
        The word; also found where longer words begin with it ("Dursley" in "Dursleys").
    model
        "hamlet" (comes with twinlens), a directory or a hub id.
    part
        Which token of the word is explained, from 0. Default: the second, if there are several.
    controls
        Unrelated spans of the same length that are corrupted for comparison.
    metric
        What is measured at the last occurrence.
    neurons
        Trace single neurons too, for the page and --save.
    """
    output, corruption = output or OutputOptions(), corruption or CorruptionOptions()
    prompt, word = _asked(prompt, word, model)
    refuse_idle_noise(corruption)
    refuse_bad_output(output)
    is_shown = output.open or output.output is not None or output.save is not None
    loaded = load_model(model, load or ModelOptions(), quiet=output.quiet or output.json)
    refuse_bad_crop(output, loaded, prompt)
    from twinlens.see.look import LookSettings, told
    from twinlens.see.recurrence import recurrence, recurrence_story

    asked: dict[str, Any] = {
        "part": part, "metric": metric, "controls": controls, "progress": progress(output),
        "corruption": LookSettings(prompt, **dataclasses.asdict(corruption)).corruption,
    }  # fmt: skip
    with told(None if output.quiet else say):
        if is_shown:
            found = recurrence(loaded, prompt, word, neurons=neurons, **asked)
            story, notes = found.story, found.notes
        else:
            at = "everywhere" if output.json else "focus"
            story, found = recurrence_story(loaded, prompt, word, heads=at, **asked), None
            notes = story.notes
    if output.json:
        print_json(story.to_dict())
    elif not output.quiet:
        _print(story, notes)
    if found is not None:
        _write(found.results, output)


def _write(results: Sequence[Result], output: OutputOptions) -> None:
    from twinlens.show.twin import twin

    view = twin(
        *results,
        columns=output.columns,
        crop=None if output.crop is None else span(output.crop, "--crop"),
        flip=output.flip,
        transpose=output.transpose,
    )
    write(view, named_by_kind(results), output)


def _asked(prompt: str | None, word: str | None, model: str) -> tuple[str, str]:
    """The text and the word; without a text those of hamlet's story."""
    from twinlens.model import hamlet

    if prompt is None:
        if model != "hamlet":
            raise InputError(
                f"a PROMPT is missing: without one, hamlet's story is read, not {model!r}"
            )
        return hamlet.story(), word or hamlet.NAME
    if word is None:
        raise InputError("--word is missing; give the word that comes back")
    return prompt, word


def _print(story: RecurrenceResult, notes: Sequence[str]) -> None:
    from rich.console import Console

    console = Console(highlight=False, soft_wrap=True)
    n = len(story.lost)
    earlier = f"all {n} earlier occurrences" if n > 1 else "the earlier occurrence"
    found = [
        f"{story.metric.replace('_', ' ')} of {story.label(story.answer)!r} at token {story.focus}:"
        f" {story.clean:.3f}",
        f"with {earlier} corrupted {story.corrupted:.3f}",
        f"with {story.controls_together} unrelated of as many tokens {story.control_corrupted:.3f}"
        if story.controls_together
        else "no unrelated words of as many tokens stand before it",
    ]
    console.print("; ".join(found), markup=False)
    console.print(_occurrences(story))
    if len(story.controls):
        worst = int(abs(story.control_lost).argmax())
        console.print(
            f"control: {len(story.controls)} unrelated, each corrupted alone, take"
            f" {story.control_lost.mean():+.3f} on average; most:"
            f" {story.text(story.controls[worst])!r} {story.control_lost[worst]:+.3f}",
            markup=False,
        )
    heads = ", ".join(f"{name} {effect:+.3f}" for name, effect in story.top_heads(6))
    console.print(f"heads whose output at the last occurrence brings back most: {heads}")
    print_notes(console, notes)


def _occurrences(story: RecurrenceResult) -> Table:
    table = table_of_numbers(
        "occurrence", "bits", "alone corrupted", "alone intact", "looked at most by"
    )
    n_heads = story.attention.shape[1]
    for n, (name, bits) in enumerate(zip(story.names, story.surprisal_bits, strict=True)):
        cells = ["", "", ""]
        if n < len(story.lost):
            layer, head = divmod(int(story.attention[..., n].argmax()), n_heads)
            share = story.attention[layer, head, n]
            lost, kept = story.lost[n], story.kept[n]
            cells = [f"{lost:+.3f}", f"{kept:+.3f}", f"{layer}.H{head} {share:.2f}"]
        told = number(bits, ".1f")  # the first token has none
        table.add_row(f"{name} {story.text(story.occurrences[n])}", told, *cells)
    return table
