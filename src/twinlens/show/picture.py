"""Results as one picture: their panels, on the same rows, and what is marked on the tokens."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from twinlens.errors import InputError
from twinlens.results import (
    AttentionResult,
    HeadResult,
    LensResult,
    NeuronResult,
    RecurrenceResult,
    Result,
    Tokens,
    TraceResult,
)
from twinlens.results.effects import RestoredResult
from twinlens.show.head_panels import attention_panel, head_panels
from twinlens.show.lens_panels import key_of, lens_panel
from twinlens.show.neuron_panels import neuron_panels
from twinlens.show.panels import Panel, trace_panel
from twinlens.show.recurrence_panels import recurrence_panels, story_of

SHOWN = (
    LensResult, TraceResult, RecurrenceResult, NeuronResult, HeadResult, AttentionResult,
)  # fmt: skip
_OF_THE_MODEL = (HeadResult,)  # their tokens are no prompt that was asked about


@dataclass(frozen=True, eq=False)
class Picture:
    """Panels over the same tokens and rows, and what is marked on the tokens.

    Panels may have columns of their own; `by_columns` takes those apart.
    """

    tokens: Tokens
    panels: tuple[Panel, ...]
    surprisal_bits: Float[np.ndarray, " token"] | None
    subject: Bool[np.ndarray, " token"]
    focus: int | None
    notes: tuple[str, ...]


def picture(
    results: Sequence[Result],
    *,
    lens_metric: str | None = None,
    lens_target: str | int = "final",
    reduce: str = "mean",
) -> Picture:
    """Panels of results of the same prompt, on the same rows: lens, trace, neurons, heads.

    Results of two models (before and after a change) may stand side by side. Raises `InputError`
    where the results are not of the same tokens and rows.
    """
    same_prompt(results)
    rows, restored, focus = rows_of(results), restored_of(results), focus_of(results)
    panels: list[Panel] = []
    for kind in SHOWN:
        for result in results:
            if not isinstance(result, kind):
                continue
            if isinstance(result, LensResult):
                panels.append(lens_panel(result, rows, lens_metric, lens_target))
            elif isinstance(result, TraceResult):
                panels.append(trace_panel(result, rows))
            elif isinstance(result, NeuronResult):
                panels += neuron_panels(result, rows, reduce)
            elif isinstance(result, HeadResult):
                panels += head_panels(result, rows)
            elif isinstance(result, RecurrenceResult):
                panels += recurrence_panels(result, rows).values()
            else:
                assert isinstance(result, AttentionResult)
                panels.append(attention_panel(result, rows, focus))
    tokens = tokens_of(results)
    subjects = [result.subject_mask for result in restored]
    return Picture(
        tokens=tokens,
        panels=tuple(panels),
        surprisal_bits=surprisal_of(results),
        subject=np.logical_or.reduce(subjects) if subjects else np.zeros(len(tokens), bool),
        focus=focus,
        notes=notes_of(results),
    )


def notes_of(results: Sequence[Result]) -> tuple[str, ...]:
    """What a reader must know, each once; of a word that comes back also what was found."""
    told = [story_of(result) for result in results if isinstance(result, RecurrenceResult)]
    return tuple(dict.fromkeys([*told, *(note for result in results for note in result.notes)]))


def restored_of(results: Sequence[Result]) -> list[RestoredResult]:
    """The traces of states and of neurons."""
    return [result for result in results if isinstance(result, RestoredResult)]


def focus_of(results: Sequence[Result]) -> int | None:
    """The focus, where all traces have the same."""
    focuses = {result.focus for result in restored_of(results)}
    return focuses.pop() if len(focuses) == 1 else None


def tokens_of(results: Sequence[Result]) -> Tokens:
    """The tokens of the prompt; where no result is about one, those of the first result."""
    of_prompt = [result for result in results if not isinstance(result, _OF_THE_MODEL)]
    return (of_prompt or results)[0].tokens


def surprisal_of(results: Sequence[Result]) -> Float[np.ndarray, " token"] | None:
    """The surprisal in bits that a lens of the clean run knows (else that of any lens)."""
    lenses = [result for result in results if isinstance(result, LensResult)]
    clean = [lens for lens in lenses if key_of(lens)[1] == "clean"]
    return next((lens.surprisal_bits for lens in clean + lenses), None)


def rows_of(results: Sequence[Result]) -> tuple[str, ...]:
    """The rows of the picture: those of the result that has most."""
    return max((result.layers for result in results), key=len)


def by_columns(picture: Picture) -> list[Picture]:
    """Pictures whose panels all have the same columns: those of the prompt's tokens first.

    The names of other columns stand in the place of the tokens there, without subject and focus.
    """
    kinds = dict.fromkeys(panel.columns for panel in picture.panels)
    found: list[Picture] = []
    for columns in sorted(kinds, key=lambda names: names is not None):
        panels = tuple(panel for panel in picture.panels if panel.columns == columns)
        part = dataclasses.replace(picture, panels=panels)
        if columns is not None:
            n = len(columns)
            named = Tokens(
                "", np.arange(n), columns, np.zeros(n, int), np.zeros(n, int), np.zeros(n, bool)
            )
            part = dataclasses.replace(
                part, tokens=named, subject=np.zeros(n, bool), focus=None, surprisal_bits=None
            )
        found.append(part)
    return found


def same_prompt(results: Sequence[Result]) -> None:
    """Raises `InputError` where there is nothing to show, or it is of different prompts or rows.

    Scores of heads are the model's: their tokens may be any.
    """
    if not results:
        raise InputError("nothing to show; give a LensResult, a TraceResult, or several results")
    for result in results:
        if not isinstance(result, SHOWN):
            raise InputError(
                f"cannot show a {type(result).__name__}; expected one of"
                f" {', '.join(kind.__name__ for kind in SHOWN)}"
            )
    first = tokens_of(results)
    for other in results:
        if isinstance(other, _OF_THE_MODEL) or np.array_equal(first.ids, other.tokens.ids):
            continue
        raise InputError(
            f"the results are of different prompts ({len(first)} and {len(other.tokens)} tokens);"
            " one picture needs the same tokens"
        )
    rows = set(rows_of(results))
    if not all(set(result.layers) <= rows for result in results):
        raise InputError("the results have different layers: they are of different models")
