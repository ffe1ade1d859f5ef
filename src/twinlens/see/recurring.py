"""The trace of a word's last occurrence: what it loses when earlier ones are corrupted, alone or
not, or unrelated spans in their place; and what single heads bring back."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from twinlens.model.model import Model
from twinlens.model.spans import Span
from twinlens.results.effects import effects_of
from twinlens.run.batches import Progress, counting
from twinlens.run.check import require
from twinlens.run.engine import Engine, Engines
from twinlens.run.passes import State, read
from twinlens.see.corruption import Corrupted, Corruption, corrupt
from twinlens.see.occurrences import Occurrences, mask_of, spread
from twinlens.see.part import of_part, put_elsewhere
from twinlens.see.question import Metric, Question, ask
from twinlens.see.runs import Runs, refuse_not_a_number, run_both


def asked_of(
    model: Model,
    found: Occurrences,
    corruption: Corruption,
    metric: Metric,
    engine: Engine,
    batch_tokens: int,
) -> Asked:
    """The runs with no and with all earlier occurrences corrupted."""
    question = ask(
        model, found.tokens, [*found.earlier], focus=found.focus, answer="next", kind="head",
        window=1, metric=metric, foil=None, direction="denoise",
    )  # fmt: skip
    require(model, ["embed", "head"])
    corrupted = corrupt(model, found.tokens, corruption, question.mask)
    runs = run_both(model, question, corrupted, model.sites("head"), batch_tokens)
    return Asked(model, question, corrupted, runs, engine, batch_tokens)


@dataclass(frozen=True)
class Asked:
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
        self, found: Occurrences, progress: Progress
    ) -> Float[np.ndarray, " controls_and_all"]:
        """The effect of the corruption put on each control instead, and at last on several at once:
        as many as there are earlier occurrences, as far as they reach. NaN where there are none."""
        controls = found.controls
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
