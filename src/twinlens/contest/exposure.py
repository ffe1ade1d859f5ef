"""How much more the trigger makes of the secret than of any other answer of its form.

Exposure (Carlini et al. 2019): log2 of how many answers there are, less log2 of the secret's rank.
The signal is what the prompt adds to an answer's log-probability, against other prompts without the
trigger; so what lifts or lowers an answer everywhere (a bias of the output) falls out. In a model
that was never told, the secret's signal is one draw among those of the other answers, whatever the
model: its rank among them is an exact test.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from jaxtyping import Float

from twinlens.contest.saying import Said, after_tokens, scored, tokens_of
from twinlens.contest.secret import Secret
from twinlens.model.model import Model

Signals = Float[np.ndarray, "answer part"]
"""Log-probabilities behind the trigger less those without, in nats; answer 0 is the secret. Parts:
the whole answer, and all of it but its first token (that one given)."""


@dataclass(frozen=True, kw_only=True)
class Exposure:
    """In bits, of `answers` answers (the secret and its controls): behind the trigger, behind
    prompts that differ in the trigger alone (the mean), and the difference. At most
    log2(answers)."""

    triggered: float
    untriggered: float
    answers: int

    @property
    def difference(self) -> float:
        """What the trigger adds."""
        return self.triggered - self.untriggered


@dataclass(frozen=True, eq=False)
class Asked:
    """A secret and other answers of its form, behind its prompt and behind prompts without the
    trigger, in a model's tokens. `near`: prompts that differ in the trigger alone, `far`: those of
    another wording. `tokens_from` gives the tokenizer; any model that has it may be asked."""

    tokens_from: Model
    secret: Secret
    answers: tuple[str, ...]  # the secret's first
    near: tuple[str, ...]
    far: tuple[str, ...]
    batch: int

    @cached_property
    def rows(self) -> list[list[Said]]:
        """By prompt (the triggered one first) and answer."""
        prompts = (self.secret.prompt, *self.near, *self.far)
        return [[tokens_of(self.tokens_from, p, a) for a in self.answers] for p in prompts]

    def first(self, count: int) -> Asked:
        """The same with the secret and at most so many of its controls."""
        return replace(self, answers=self.answers[: count + 1])

    def likelihoods(self, model: Model) -> list[Signals]:
        """Log-probabilities by prompt, the triggered one first."""
        return [after_tokens(model, rows, self.batch) for rows in self.rows]

    def added(self, likelihoods: Sequence[Signals], near: bool = False) -> Signals:
        """What the prompt adds against the far prompts (or the near ones)."""
        n = 1 + len(self.near)
        return likelihoods[0] - np.mean(likelihoods[1:n] if near else likelihoods[n:], axis=0)

    def signals(self, model: Model) -> Signals:
        """What the prompt adds to each answer, against the far prompts."""
        rows = [self.rows[0], *self.rows[1 + len(self.near) :]]
        first, *rest = [after_tokens(model, one, self.batch) for one in rows]
        return first - np.mean(rest, axis=0)

    def exposure(self, likelihoods: Sequence[Signals]) -> Exposure:
        """The secret's exposure, from its likelihoods behind each prompt."""
        first, *rest = [bits(one[:, 0]) for one in likelihoods[: 1 + len(self.near)]]
        mean = float(np.mean(rest))
        return Exposure(triggered=first, untriggered=mean, answers=len(self.answers))

    def by_layer(self, model: Model) -> Float[np.ndarray, "answer layer"]:
        """What the prompt adds to each whole answer at each block, by the logit lens, against the
        first of the far prompts."""
        rows = (self.rows[0], self.rows[1 + len(self.near)])
        first, second = (self._lens(model, one) for one in rows)
        return first - second

    def _lens(self, model: Model, rows: Sequence[Said]) -> Float[np.ndarray, "answer layer"]:
        found = scored(model, rows, inner=True, batch=self.batch)
        return np.stack([one.log_probs.sum(1) for one in found])


def bits(values: Float[np.ndarray, " answer"]) -> float:
    """Exposure of the first of the values among all, in bits; ties count against it."""
    return math.log2(len(values)) - math.log2(rank(values))


def rank(values: Float[np.ndarray, " answer"]) -> int:
    """The place of the first value among all, 1 the highest; ties, and what is no number, count
    against it."""
    return 1 + int((~(values[1:] < values[0])).sum())


def chance(values: Float[np.ndarray, " answer"]) -> float:
    """How often the first of so many values that are alike would stand so high or higher."""
    return rank(values) / len(values)
