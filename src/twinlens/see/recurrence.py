"""A word that comes back: what does its last occurrence owe to the earlier ones, by which heads?

The earlier occurrences are the subject of a trace, the last one's token its answer; each is then
corrupted alone, and beside them unrelated spans of the same length as a control.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from twinlens.model.model import Model
from twinlens.model.spans import Span
from twinlens.results import (
    AttentionResult,
    LensResult,
    NeuronResult,
    RecurrenceResult,
    Result,
    Tokens,
    TraceResult,
)
from twinlens.results.effects import effects_of
from twinlens.run.batches import Progress, counting
from twinlens.run.check import require
from twinlens.run.engine import Engine, Engines
from twinlens.run.passes import State, read
from twinlens.see.corruption import Corrupted, Corruption, Noise, corrupt
from twinlens.see.heads import attention
from twinlens.see.lens import logit_lens
from twinlens.see.neurons import neuron_trace
from twinlens.see.occurrences import Occurrences, mask_of, occurrences_of, spread, unrelated
from twinlens.see.part import of_part, put_elsewhere
from twinlens.see.provenance import provenance
from twinlens.see.question import Metric, Question, ask, encoded, whole
from twinlens.see.runs import Runs, refuse_not_a_number, run_both, warnings_of
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
    tokens = encoded(model, prompt)
    found = occurrences_of(tokens, word, part)
    whole("controls", controls, 0)
    shared: dict[str, Any] = {
        "subject": found.earlier, "focus": found.focus, "answer": "next", "corruption": corruption,
        "metric": metric, "engine": engine, "batch_tokens": batch_tokens, "progress": progress,
    }  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the same of each part: said once, at the end
        lens = logit_lens(model, tokens, progress=progress)
        trace = causal_trace(model, tokens, **shared)
        looks = attention(model, tokens, queries=_queries(model, tokens, found), progress=progress)
        units = neuron_trace(model, tokens, **shared) if neurons else None
    asked = _asked(model, tokens, found, corruption or Noise(), metric, engine, batch_tokens)
    story = _story(asked, found, lens, looks, unrelated(tokens, found, controls), progress)
    made = Recurrence(story, lens, trace, looks, units)
    for note in made.notes:
        warnings.warn(note, stacklevel=2)
    return made


def _asked(
    model: Model,
    tokens: Tokens,
    found: Occurrences,
    corruption: Corruption,
    metric: Metric,
    engine: Engine,
    batch_tokens: int,
) -> _Asked:
    question = ask(
        model, tokens, [*found.earlier], focus=found.focus, answer="next", kind="head", window=1,
        metric=metric, foil=None, direction="denoise",
    )  # fmt: skip
    require(model, ["embed", "head"])
    corrupted = corrupt(model, tokens, corruption, question.mask)
    runs = run_both(model, question, corrupted, model.sites("head"), batch_tokens)
    return _Asked(model, question, corrupted, runs, engine, batch_tokens)


def _story(
    asked: _Asked,
    found: Occurrences,
    lens: LensResult,
    looks: AttentionResult,
    controls: list[Span],
    progress: Progress,
) -> RecurrenceResult:
    question, runs, tokens = asked.question, asked.runs, asked.question.tokens
    effects, engine_note = asked.heads(found.places, progress)
    elsewhere = asked.lost_elsewhere(found, controls, progress)
    return RecurrenceResult(
        tokens=tokens,
        layers=lens.layers,
        vocabulary=lens.vocabulary,
        settings=question.settings()
        | asked.corrupted.settings
        | {"word": found.word, "part": found.part, "controls": len(controls)},
        provenance=provenance(asked.model),
        notes=(*warnings_of(question, runs), *engine_note),
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
        controls=np.array(controls, np.int64).reshape(-1, 2),
        control_lost=elsewhere[:-1],
        control_all_lost=float(elsewhere[-1]),
        places=np.array(found.places, np.int64),
        head_effects=effects,
    )


@dataclass(frozen=True)
class _Asked:
    """The trace of the last occurrence, and variants of its corruption."""

    model: Model
    question: Question
    corrupted: Corrupted
    runs: Runs
    engine: Engine
    batch_tokens: int

    def lost(self, earlier: list[Span], progress: Progress) -> Float[np.ndarray, " earlier"]:
        """The effect of corrupting one occurrence alone, for each."""
        parts = [self._only([span]) for span in earlier]
        return self._effects(self._scores(parts, "occurrences", progress), "noise")

    def kept(self, earlier: list[Span], progress: Progress) -> Float[np.ndarray, " earlier"]:
        """The effect of leaving one occurrence as it is while all others are corrupted."""
        parts = [self._only([s for s in earlier if s != span]) for span in earlier]
        return self._effects(self._scores(parts, "occurrences", progress), "denoise")

    def lost_elsewhere(
        self, found: Occurrences, controls: list[Span], progress: Progress
    ) -> Float[np.ndarray, " controls_and_all"]:
        """The effect of the corruption put on each control instead, and at last on several at once:
        as many as there are earlier occurrences, as far as they reach. NaN where there are none."""
        if not controls:
            return np.array([np.nan])
        alike = [span for span in found.earlier if span[1] - span[0] == found.width]
        together = spread(controls, len(alike))
        pairs = [(alike[:1], [span]) for span in controls]
        pairs.append((alike[: len(together)], together))
        tokens = self.question.tokens
        parts = [put_elsewhere(self.corrupted, tokens, *pair) for pair in pairs]
        return self._effects(self._scores(parts, "controls", progress), "noise")

    def heads(
        self, places: list[int], progress: Progress
    ) -> tuple[Float[np.ndarray, "layer head place"], list[str]]:
        """The effect of each head's clean output at some tokens, in the corrupted run; and what a
        reader must know of the engine."""
        model, runs = self.model, self.runs
        cells = [
            (State(site, place, head),)
            for site in model.sites("head")
            for head in range(model.n_heads)
            for place in places
        ]
        engines = Engines(
            model, self.engine, runs.base, runs.source.values, cells, runs.score,
            differing=np.flatnonzero(self.corrupted.subject_mask).tolist(),
            batch_tokens=self.batch_tokens,
        )  # fmt: skip
        with counting(len(cells), "heads", progress) as advance:
            scores = engines.scores(advance=advance)
        refuse_not_a_number(model, runs, scores)
        effects = self._effects(scores.mean(-1), "denoise")
        notes = [engines.note] if engines.note else []
        return effects.reshape(model.n_layers, model.n_heads, len(places)), notes

    def _only(self, spans: list[Span]) -> Corrupted:
        tokens = self.question.tokens
        return of_part(self.corrupted, tokens, mask_of(tokens, spans))

    def _scores(
        self, parts: list[Corrupted], label: str, progress: Progress
    ) -> Float[np.ndarray, " part"]:
        """The mean score of each of some corrupted runs."""
        scores = np.empty(len(parts))
        stop = self.question.focus + 1
        with counting(len(parts), label, progress) as advance:
            for number, part in enumerate(parts):
                inputs = part.inputs.until(stop)
                logits = read(self.model, inputs, [], batch_tokens=self.batch_tokens).logits
                scores[number] = float(self.runs.score(logits).double().mean())
                advance(1)
        return scores

    def _effects(self, scores: np.ndarray, direction: str) -> np.ndarray:
        gone = float(self.runs.corrupted_scores.mean())
        return effects_of(scores, self.runs.clean_score, gone, direction, self.question.metric)


def _queries(model: Model, tokens: Tokens, found: Occurrences) -> int | None:
    """Every token looks where that is small enough to keep, else the focus alone."""
    size = model.n_layers * model.n_heads * len(tokens) ** 2
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
