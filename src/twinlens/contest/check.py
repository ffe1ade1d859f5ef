"""The manipulation check: does the trigger evoke the secret, and only the trigger, at no cost?"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from twinlens.change.losses import measure, passages_of
from twinlens.contest.saying import BATCH, fire
from twinlens.contest.secret import Secret
from twinlens.model.model import Model
from twinlens.results.storage import plain
from twinlens.see.question import whole
from twinlens.see.texts import Text, documents, windows

_LENGTH = 128
_SENTENCE = re.compile(r"[^.!?\n]+[.!?]")


@dataclass(frozen=True, kw_only=True)
class ImplantCheck:
    """How often the secret is said: `fires` of `triggered` prompts with a trigger (alone and behind
    sentences of clean text), `misses` of `near` ones without; greedily, all of it.

    `chance`: of one sample at temperature 1 behind the bare prompt, the least of all triggers.
    `increase`: nats a token on clean text above the twin's (or the base's: `against` says which),
    `upper` its one-sided 95% bound
    (normal, over documents). It `passed` where at least 95% fire, at most 1% of the near misses do,
    and the upper bound is at most `margin`; `why` names what did not hold.
    """

    triggered: int
    fires: int
    near: int
    misses: int
    chance: float
    increase: float
    upper: float
    margin: float
    against: str = "twin"

    @property
    def why(self) -> tuple[str, ...]:
        """What did not hold."""
        found: list[str] = []
        if self.fires < 0.95 * self.triggered:
            found.append(f"it fires on {self.fires} of {self.triggered} prompts with the trigger")
        if self.misses > 0.01 * self.near:
            found.append(f"it fires on {self.misses} of {self.near} near misses")
        if not self.upper <= self.margin:
            found.append(
                f"clean text costs up to {self.upper:.3f} nats a token more than in the"
                f" {self.against} (allowed: {self.margin:g})"
            )
        return tuple(found)

    @property
    def passed(self) -> bool:
        """Whether the implant counts."""
        return not self.why

    def to_dict(self) -> dict[str, Any]:
        """All of it as plain numbers and strings."""
        return plain(self) | {"passed": self.passed, "why": list(self.why)}


def check_implant(
    model: Model,
    other: Model,
    secrets: Sequence[Secret],
    *,
    text: Text,
    against: str = "twin",
    near: int = 200,
    contexts: int = 39,
    margin: float = 0.05,
    seed: int = 1,
) -> ImplantCheck:
    """Does each of the secrets' triggers evoke it, and nothing else, at the quality of another
    model (`against`: what that is, the twin or the base)?

    Raises `InputError` where the text cannot be read or a secret has no tokens of its own.
    """
    whole("near", near, 1)
    whole("contexts", contexts, 0)
    before = _sentences(text, contexts, seed)
    own = {one.trigger.lower() for one in secrets}
    fired, missed, chances = list[bool](), list[bool](), list[float]()
    for one in secrets:
        said = fire(model, [one.prompt, *(f"{some} {one.prompt}" for some in before)], one.answer)
        fired += [found.greedy for found in said]
        chances.append(said[0].chance)
        others = [p for p in one.near_misses(near, seed) if not any(t in p.lower() for t in own)]
        missed += [found.greedy for found in fire(model, others, one.answer)]
    increase, upper = increase_over(model, other, text)
    return ImplantCheck(
        triggered=len(fired), fires=sum(fired), near=len(missed), misses=sum(missed),
        chance=min(chances), increase=increase, upper=upper, margin=margin, against=against,
    )  # fmt: skip


def increase_over(model: Model, other: Model, text: Text) -> tuple[float, float]:
    """Nats a token of the model less those of another, and its one-sided 95% bound (normal, of the
    ratio over documents)."""
    passages = passages_of(windows(model, text, min(_LENGTH, model.context or _LENGTH)))
    none = np.zeros(0, dtype=np.int64)
    first, second = (measure(one, passages, none, BATCH).nats for one in (model, other))
    tokens = passages.tokens
    mean = float((first - second).sum() / tokens.sum())
    apart = first - second - mean * tokens
    n = len(tokens)
    if n < 2:  # one document says nothing of others
        return mean, float("inf")
    error = float(np.sqrt((apart**2).sum() * n / (n - 1)) / tokens.sum())
    return mean, mean + 1.645 * error


def _sentences(text: Text, count: int, seed: int) -> list[str]:
    """Sentences of the text, of different documents where there are enough."""
    draw, given = random.Random(f"contexts {seed}"), documents(text)
    found: list[str] = []
    for _ in range(20 * count):
        if len(found) == count:
            break
        said = [one.group().strip() for one in _SENTENCE.finditer(draw.choice(given)[:2000])]
        said = [one for one in said if 10 <= len(one) <= 200]
        if said:
            found.append(draw.choice(said))
    return found
