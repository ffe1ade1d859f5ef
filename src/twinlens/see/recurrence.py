"""A word that comes back: what does its last occurrence owe to the earlier ones, by which heads?

The earlier occurrences are the subject of a trace, the last one's token its answer; each is then
corrupted alone, and beside them unrelated spans of the same length as a control.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from twinlens.errors import SubjectError
from twinlens.model.model import Model
from twinlens.model.spans import Span, word_starts
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
from twinlens.see.part import of_part, put_elsewhere
from twinlens.see.provenance import provenance
from twinlens.see.question import Metric, Question, ask, encoded
from twinlens.see.runs import Runs, run_both, warnings_of
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
    spans, part = _occurrences(tokens, word, part)
    explained = [min(start + part, stop - 1) for start, stop in spans]
    earlier, focus = spans[:-1], explained[-1] - 1
    question = ask(
        model, tokens, [*earlier], focus=focus, answer="next", kind="head", window=1,
        metric=metric, foil=None, direction="denoise",
    )  # fmt: skip
    require(model, ["embed", "head"])
    corrupted = corrupt(model, tokens, corruption or Noise(), question.mask)
    shared: dict[str, Any] = {
        "subject": [*earlier], "focus": focus, "answer": "next", "corruption": corruption,
        "metric": metric, "engine": engine, "batch_tokens": batch_tokens, "progress": progress,
    }  # fmt: skip
    lens = logit_lens(model, tokens, progress=progress)
    trace = causal_trace(model, tokens, **shared)
    looks = attention(model, tokens, queries=_queries(model, tokens, focus), progress=progress)
    units = neuron_trace(model, tokens, **shared) if neurons else None
    runs = run_both(model, question, corrupted, model.sites("head"), batch_tokens)
    places = _places(earlier, focus)
    asked = Asked(model, question, corrupted, runs, engine, batch_tokens)
    control = _controls(tokens, spans, focus, controls)
    elsewhere = asked.lost_elsewhere(earlier, control, progress)
    story = RecurrenceResult(
        tokens=tokens,
        layers=lens.layers,
        vocabulary=lens.vocabulary,
        settings=question.settings()
        | corrupted.settings
        | {"word": word, "part": part, "controls": controls},
        provenance=provenance(model),
        notes=tuple(warnings_of(question, runs)),
        word=word,
        metric=metric,
        focus=focus,
        answer=runs.answer,
        clean=runs.clean_score,
        corrupted=float(runs.corrupted_scores.mean()),
        occurrences=np.array(spans, np.int64),
        explained=np.array(explained, np.int64),
        surprisal_bits=np.array([lens.surprisal_bits[start:stop].sum() for start, stop in spans]),
        lens=_read_by_lens(lens, explained),
        attention=_attended(looks, earlier, focus),
        lost=asked.lost([_mask(tokens, [span]) for span in earlier], progress),
        kept=asked.kept(earlier, progress),
        controls=np.array(control, np.int64).reshape(-1, 2),
        control_lost=elsewhere[:-1],
        control_all_lost=float(elsewhere[-1]),
        places=np.array(places, np.int64),
        head_effects=asked.heads(places, progress),
    )
    return Recurrence(story, lens, trace, looks, units)


@dataclass(frozen=True)
class Asked:
    """The trace of the last occurrence, and variants of its corruption."""

    model: Model
    question: Question
    corrupted: Corrupted
    runs: Runs
    engine: Engine
    batch_tokens: int

    def lost(
        self, masks: list[Bool[np.ndarray, " token"]], progress: Progress
    ) -> Float[np.ndarray, " mask"]:
        """The effect of corrupting only some tokens of the subject, for each mask."""
        parts = [of_part(self.corrupted, self.question.tokens, mask) for mask in masks]
        return self._effects(self._scores(parts, "occurrences", progress), "noise")

    def kept(self, earlier: list[Span], progress: Progress) -> Float[np.ndarray, " earlier"]:
        """The effect of leaving one occurrence as it is while all others are corrupted."""
        tokens = self.question.tokens
        masks = [_mask(tokens, [s for s in earlier if s != span]) for span in earlier]
        parts = [of_part(self.corrupted, tokens, mask) for mask in masks]
        return self._effects(self._scores(parts, "occurrences", progress), "denoise")

    def lost_elsewhere(
        self, earlier: list[Span], controls: list[Span], progress: Progress
    ) -> Float[np.ndarray, " controls_and_all"]:
        """The effect of the corruption put on each control instead, and at last on several at once:
        as many as there are earlier occurrences, as far as they reach."""
        width = earlier[0][1] - earlier[0][0]
        alike = [span for span in earlier if span[1] - span[0] == width]
        if not controls:
            return np.array([np.nan])
        together = _spread(controls, len(alike))
        pairs = [(alike[:1], [span]) for span in controls]
        pairs.append((alike[: len(together)], together))
        tokens = self.question.tokens
        parts = [put_elsewhere(self.corrupted, tokens, *pair) for pair in pairs]
        return self._effects(self._scores(parts, "controls", progress), "noise")

    def heads(self, places: list[int], progress: Progress) -> Float[np.ndarray, "layer head place"]:
        """The effect of each head's clean output at some tokens, in the corrupted run."""
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
        scores = np.empty(len(cells))
        with counting(len(cells), "heads", progress) as advance:
            for numbers, made in engines.run():
                scores[numbers] = made.double().mean(-1).cpu().numpy()
                advance(len(numbers))
        effects = self._effects(scores, "denoise")
        return effects.reshape(model.n_layers, model.n_heads, len(places))

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


def _occurrences(tokens: Tokens, word: str, part: int | None) -> tuple[list[Span], int]:
    """The occurrences that have something before them, and which token of the word is explained."""
    spans = word_starts(tokens, word)
    if len(spans) < 2:
        count = "is not" if not spans else "stands only once"
        raise SubjectError(f"word {word!r} {count} in the prompt; it must come back")
    width = spans[-1][1] - spans[-1][0]
    if part is None:
        part = 1 if width > 1 else 0
    if not 0 <= part < width:
        raise SubjectError(
            f"part={part!r}: the last {word!r} has {width} tokens, so expected 0 to {width - 1}"
        )
    return spans, part


def _queries(model: Model, tokens: Tokens, focus: int) -> int | None:
    """Every token looks where that is small enough to keep, else the focus alone."""
    size = model.n_layers * model.n_heads * len(tokens) ** 2
    return None if size <= MOST_PATTERNS else focus


def _places(earlier: list[Span], focus: int) -> list[int]:
    """The tokens of the earlier occurrences, the one just after each, and the focus at the end."""
    inside = {at for start, stop in earlier for at in range(start, stop + 1) if at < focus}
    return [*sorted(inside), focus]


def _read_by_lens(lens: LensResult, explained: list[int]) -> Float[np.ndarray, "row occurrence"]:
    """What the lens gives the true token at the position before each explained one."""
    probabilities = lens.metric("probability", "next")
    columns = [
        probabilities[:, at - 1] if at > 0 else np.full(len(lens.layers), np.nan)
        for at in explained
    ]
    return np.stack(columns, axis=1).astype(np.float64)


def _attended(
    looks: AttentionResult, earlier: list[Span], focus: int
) -> Float[np.ndarray, "layer head earlier"]:
    """The share of each head's attention from the focus that falls on each occurrence."""
    row = looks.queries.tolist().index(focus)
    n_layers, n_heads = (int(n) + 1 for n in looks.heads.max(axis=0))
    shares = np.stack([looks.patterns[:, row, a:b].sum(-1) for a, b in earlier], axis=-1)
    return shares.reshape(n_layers, n_heads, len(earlier)).astype(np.float64)


def _mask(tokens: Tokens, spans: list[Span]) -> Bool[np.ndarray, " token"]:
    mask = np.zeros(len(tokens), bool)
    for start, stop in spans:
        mask[start:stop] = True
    return mask


def _controls(tokens: Tokens, spans: list[Span], focus: int, most: int) -> list[Span]:
    """Spans of whole words as long as the first occurrence, away from all occurrences."""
    width = spans[0][1] - spans[0][0]
    taken = _mask(tokens, [(max(0, a - 1), b + 1) for a, b in spans])
    begins, ends = _word_edges(tokens)
    found = [
        (at, at + width)
        for at in range(1, focus - width + 1)
        if begins[at] and ends[at + width - 1] and not taken[at : at + width].any()
    ]
    apart: list[Span] = []
    for span in found:
        if not apart or span[0] >= apart[-1][1]:
            apart.append(span)
    return _spread(apart, most)


def _spread(spans: list[Span], most: int) -> list[Span]:
    """At most so many of the spans, evenly spread."""
    picks = np.linspace(0, len(spans) - 1, min(most, len(spans))).round().astype(int)
    return [spans[n] for n in dict.fromkeys(picks.tolist())]


def _word_edges(tokens: Tokens) -> tuple[Bool[np.ndarray, " token"], Bool[np.ndarray, " token"]]:
    """Which tokens begin and which end a word of letters or digits."""
    pieces = [tokens.text[a:b] for a, b in zip(tokens.starts, tokens.ends, strict=True)]
    wordy = np.array([piece.strip().isalnum() for piece in pieces])
    before = np.array([tokens.text[max(0, a - 1) : a] for a in tokens.starts])
    after = np.array([tokens.text[b : b + 1] for b in tokens.ends])
    opens = [p[:1].isspace() or not b.isalnum() for p, b in zip(pieces, before, strict=True)]
    closes = [not str(a).isalnum() for a in after]
    return wordy & np.array(opens), wordy & np.array(closes)
