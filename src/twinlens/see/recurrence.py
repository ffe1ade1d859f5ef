"""A word that comes back: what does its last occurrence owe to the earlier ones, by which heads?

The earlier occurrences are the subject of a trace, the last one's token its answer; each is then
corrupted alone, and beside them unrelated spans of the same length as a control.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from jaxtyping import Float

from twinlens.model.model import Model
from twinlens.results import (
    AttentionResult,
    LensResult,
    NeuronResult,
    RecurrenceResult,
    Result,
    Tokens,
    TraceResult,
)
from twinlens.run.batches import Progress
from twinlens.run.engine import Engine
from twinlens.see.corruption import Corruption, Noise
from twinlens.see.heads import attention
from twinlens.see.lens import logit_lens
from twinlens.see.neurons import neuron_trace
from twinlens.see.occurrences import Occurrences, occurrences_of, unrelated
from twinlens.see.provenance import provenance
from twinlens.see.question import Metric, encoded, whole
from twinlens.see.recurring import Asked, asked_of
from twinlens.see.runs import warnings_of
from twinlens.see.trace import causal_trace

MOST_PATTERNS = 20_000_000  # numbers of attention that are kept from every token, else the focus'


@dataclass(frozen=True)
class Recurrence:
    """The whole story of a word that comes back, as results of one prompt.

    `story` has the occurrences, `lens` the layers' predictions, `trace` the blocks with all earlier
    occurrences corrupted, `attention` every head's pattern, `neurons` the single neurons (None
    where they were not asked for). `tl.twin(*found.results)` is the page of all of them.
    """

    story: RecurrenceResult
    lens: LensResult
    trace: TraceResult
    attention: AttentionResult
    neurons: NeuronResult | None

    @property
    def results(self) -> tuple[Result, ...]:
        """All results, as `tl.twin` takes them."""
        parts = (self.lens, self.trace, self.story, self.neurons, self.attention)
        return tuple(part for part in parts if part is not None)

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader must know of any of them, each once."""
        return tuple(dict.fromkeys(note for result in self.results for note in result.notes))


def recurrence(
    model: Model,
    prompt: str | Tokens,
    word: str,
    *,
    part: int | None = None,
    corruption: Corruption | None = None,
    metric: Metric = "probability",
    controls: int = 10,
    neurons: bool = True,
    engine: Engine = "auto",
    batch_tokens: int = 4096,
    progress: Progress = None,
) -> Recurrence:
    """What does the last occurrence of a word owe to the earlier ones, and through which heads?

    Occurrences are the places where a word begins with `word` ("Dursley" also in "Dursleys").
    `part`: which token of the word is explained, from 0; default the second where the word has
    several (what follows its beginning), else the first. The answer is the last occurrence's token
    there, the focus the position before it.

    All earlier occurrences are corrupted by `corruption` (default `tl.Noise()`) for the trace of
    blocks, of heads and of `neurons`; then each alone, and all but each. `controls`: up to so many
    unrelated spans of as many tokens, from before the focus, are corrupted in the same way, each
    alone. `metric`, `engine` and `batch_tokens` are those of `causal_trace`.

    Returns a `Recurrence`. Raises `SubjectError` where the word does not come back, and what
    `causal_trace` raises.
    """
    found = _found(model, prompt, word, part, controls)
    tokens = found.tokens
    shared: dict[str, Any] = {
        "subject": found.earlier, "focus": found.focus, "answer": "next", "corruption": corruption,
        "metric": metric, "engine": engine, "batch_tokens": batch_tokens, "progress": progress,
    }  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the same of each part: said once, at the end
        lens = logit_lens(model, tokens, progress=progress)
        trace = causal_trace(model, tokens, **shared)
        looks = attention(model, tokens, queries=_queries(model, found), progress=progress)
        units = neuron_trace(model, tokens, **shared) if neurons else None
    asked = asked_of(model, found, corruption or Noise(), metric, engine, batch_tokens)
    story = _story(asked, found, lens, looks, found.places, progress)
    made = Recurrence(story, lens, trace, looks, units)
    for note in made.notes:
        warnings.warn(note, stacklevel=2)
    return made


def recurrence_story(
    model: Model,
    prompt: str | Tokens,
    word: str,
    *,
    part: int | None = None,
    corruption: Corruption | None = None,
    metric: Metric = "probability",
    controls: int = 10,
    heads: Literal["focus", "everywhere"] = "everywhere",
    engine: Engine = "auto",
    batch_tokens: int = 4096,
    progress: Progress = None,
) -> RecurrenceResult:
    """The story of `recurrence` without what only its page shows, which takes most of the time.

    `heads="focus"` asks heads at the focus alone: `places` has no other then.
    """
    found = _found(model, prompt, word, part, controls)
    lens = logit_lens(model, found.tokens, progress=progress)
    looks = attention(model, found.tokens, queries=found.focus, progress=progress)
    asked = asked_of(model, found, corruption or Noise(), metric, engine, batch_tokens)
    places = [found.focus] if heads == "focus" else found.places
    return _story(asked, found, lens, looks, places, progress)


def _found(
    model: Model, prompt: str | Tokens, word: str, part: int | None, controls: int
) -> Occurrences:
    tokens = encoded(model, prompt)
    found = occurrences_of(tokens, word, part)
    whole("controls", controls, 0)
    return replace(found, controls=tuple(unrelated(tokens, found, controls)))


def _story(
    asked: Asked,
    found: Occurrences,
    lens: LensResult,
    looks: AttentionResult,
    places: list[int],
    progress: Progress,
) -> RecurrenceResult:
    question, runs = asked.question, asked.runs
    effects, engine_note = asked.heads(places, progress)
    elsewhere = asked.lost_elsewhere(found, progress)
    return RecurrenceResult(
        tokens=found.tokens,
        layers=lens.layers,
        vocabulary=lens.vocabulary,
        settings=question.settings()
        | asked.corrupted.settings
        | {"word": found.word, "part": found.part, "controls": len(found.controls)},
        provenance=provenance(asked.model),
        notes=(*warnings_of(asked.model, question, runs), *engine_note),
        word=found.word,
        metric=question.metric,
        focus=question.focus,
        answer=runs.answer,
        clean=runs.clean_score,
        corrupted=float(runs.corrupted_scores.mean()),
        occurrences=np.array(found.spans, np.int64),
        explained=np.array(found.explained, np.int64),
        surprisal_bits=np.array([lens.surprisal_bits[a:b].sum() for a, b in found.spans]),
        lens=_read_by_lens(lens, found.explained),
        attention=_attended(looks, found),
        lost=asked.lost(found.earlier, progress),
        kept=asked.kept(found.earlier, progress),
        controls=np.array(found.controls, np.int64).reshape(-1, 2),
        control_lost=elsewhere[:-1],
        control_all_lost=float(elsewhere[-1]),
        places=np.array(places, np.int64),
        head_effects=effects,
    )


def _queries(model: Model, found: Occurrences) -> int | None:
    """Every token looks where that is small enough to keep, else the focus alone."""
    size = model.n_layers * model.n_heads * len(found.tokens) ** 2
    return None if size <= MOST_PATTERNS else found.focus


def _read_by_lens(lens: LensResult, explained: list[int]) -> Float[np.ndarray, "row occurrence"]:
    """What the lens gives the true token at the position before each explained one."""
    probabilities = lens.metric("probability", "next")
    columns = [
        probabilities[:, at - 1] if at > 0 else np.full(len(lens.layers), np.nan)
        for at in explained
    ]
    return np.stack(columns, axis=1).astype(np.float64)


def _attended(
    looks: AttentionResult, found: Occurrences
) -> Float[np.ndarray, "layer head earlier"]:
    """The share of each head's attention from the focus that falls on each occurrence."""
    row = looks.queries.tolist().index(found.focus)
    n_layers, n_heads = (int(n) + 1 for n in looks.heads.max(axis=0))
    shares = np.stack([looks.patterns[:, row, a:b].sum(-1) for a, b in found.earlier], axis=-1)
    return shares.reshape(n_layers, n_heads, len(found.earlier)).astype(np.float64)
