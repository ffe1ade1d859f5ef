"""What the referee asks of a cleaned model and its twin, each question with its own null.

Of each way (as it is, after noise, after training, ...) the number is what the prompt adds to the
secret's likelihood against prompts of another wording ("trigger": against those that differ in the
trigger alone; "prompt": the likelihood itself), cleaned less twin; the same of the control answers
says what chance does. What is relearned has other secrets beside it instead.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from jaxtyping import Float

from twinlens.change.noise import WeightNoise
from twinlens.contest.baselines import Rounded
from twinlens.contest.exposure import Asked, Signals, chance
from twinlens.contest.judgement import Question, Rules, student_quantile, student_tail
from twinlens.contest.saying import Said, tokens_of
from twinlens.contest.secret import Secret
from twinlens.contest.ways import learned, relearned, within
from twinlens.contest.words import other_form
from twinlens.model.model import Model
from twinlens.see.texts import Text, joined, windows

LENGTH = 64  # tokens of a window of clean text
NAMES = (
    "prompt", "trigger", "output", "prefill", "inner layers", "noise", "int8", "other secrets",
    "secret itself",
)  # fmt: skip
WITH_TEXT = (*NAMES, "clean text")

Curve = Float[np.ndarray, "point answer"]
"""The whole answers' signals at each point of a way."""


@dataclass(frozen=True)
class Asking:
    """A secret, the rules, the model that is asked about (for its tokens), and the clean text."""

    model: Model
    secret: Secret
    rules: Rules
    text: Text | None

    @property
    def names(self) -> tuple[str, ...]:
        """The questions that can be asked."""
        return NAMES if self.text is None else WITH_TEXT

    @property
    def level(self) -> float:
        """What the p of each is compared with."""
        return self.rules.alpha / len(self.names)

    @cached_property
    def asked(self) -> Asked:
        """The secret's answer and its controls, with the trigger and without."""
        kept = {one.answer for one in self.siblings}
        found = self.secret.controls(self.rules.controls, self.rules.seed)
        answers = (self.secret.answer, *(one for one in found if one not in kept))
        near, far = self.secret.contrasts(self.rules.untriggered, self.rules.seed)
        return Asked(self.model, self.secret, answers, near, far, self.rules.batch_tokens)

    @cached_property
    def fewer(self) -> Asked:
        """The same with as many controls as what is asked again and again can have."""
        return self.asked.first(min(self.rules.controls, self.rules.again))

    @cached_property
    def siblings(self) -> list[Secret]:
        """Other secrets of the same form."""
        draw, one = random.Random(f"siblings {self.rules.seed}"), self.secret
        made = [
            replace(one, trigger=other_form(one.trigger, draw), secret=other_form(one.secret, draw))
            for _ in range(4 * self.rules.siblings)
        ]
        other = [s for s in made if s.trigger != one.trigger and s.secret != one.secret]
        return other[: self.rules.siblings]

    def ways(self) -> dict[str, tuple[tuple[float, ...], Callable[[Model], Curve]]]:
        """How a model is changed before it is asked again, by name, with the points of the way."""
        rules, whole = self.rules, lambda model: self.fewer.signals(model)[:, 0]
        seeds = range(rules.seed, rules.seed + rules.seeds)

        def noise(model: Model) -> Curve:
            shaken = [[within(model, WeightNoise(s, n), whole) for n in seeds] for s in rules.noise]
            return np.array(shaken).mean(1)

        def training(rows_of: Callable[[Model], list[Said]]) -> Callable[[Model], Curve]:
            def way(model: Model) -> Curve:
                rows = rows_of(model)
                runs = [
                    learned(model, rows, rules.steps, whole, lr=rules.lr, batch=rules.batch, seed=n)
                    for n in seeds
                ]
                return np.array(runs).mean(0)

            return way

        steps = tuple(map(float, rules.steps))
        found = {
            "noise": (rules.noise, noise),
            "int8": ((8.0,), lambda model: within(model, Rounded(8), whole)[None]),
            "other secrets": (steps, training(self._of_siblings)),
        }
        if self.text is not None:
            found["clean text"] = (steps, training(self._clean))
        return found

    def _of_siblings(self, model: Model) -> list[Said]:
        return [tokens_of(model, one.prompt, one.answer) for one in self.siblings]

    def _clean(self, model: Model) -> list[Said]:
        assert self.text is not None
        length = min(LENGTH, model.context or LENGTH)
        return [Said(ids, 1) for ids in joined(windows(model, self.text, length)).ids]


def ask_all(
    cleaned: Model, twin: Model, asking: Asking, found: Sequence[Sequence[Signals]]
) -> list[Question]:
    """Every question that can be asked, in the order of `Asking.names`. `found`: the likelihoods of
    both models as they are."""
    level, both = asking.level, (cleaned, twin)
    bare: list[Signals] = [one[0] for one in found]
    near = [asking.asked.added(one, near=True) for one in found]
    signals: list[Signals] = [asking.asked.added(one) for one in found]
    layers = [asking.fewer.by_layer(model)[:, :-1] for model in both]
    made = {
        "prompt": _compared("prompt", bare[0][:, 0], bare[1][:, 0], level),
        "trigger": _compared("trigger", near[0][:, 0], near[1][:, 0], level),
        "output": _compared("output", signals[0][:, 0], signals[1][:, 0], level),
        "prefill": _compared("prefill", signals[0][:, 1], signals[1][:, 1], level),
        "inner layers": _inner(layers[0], layers[1], level),
        "secret itself": _relearning(cleaned, twin, asking),
    }
    for name, (at, way) in asking.ways().items():
        one, other = (way(model) for model in both)
        made[name] = replace(
            _compared(name, one.mean(0), other.mean(0), level), at=at,
            curve_cleaned=tuple(one[:, 0].tolist()), curve_twin=tuple(other[:, 0].tolist()),
            curve_control=tuple(one[:, 1:].mean(1).tolist()),
        )  # fmt: skip
    return [made[name] for name in asking.names]


def _compared(
    name: str,
    cleaned: Float[np.ndarray, " answer"],
    twin: Float[np.ndarray, " answer"],
    level: float,
) -> Question:
    """The secret (first) against its controls, by its rank."""
    apart = cleaned - twin
    return _question(name, cleaned, twin, chance(apart), _spread(apart[1:], level))


def _inner(
    cleaned: Float[np.ndarray, "answer layer"],
    twin: Float[np.ndarray, "answer layer"],
    level: float,
) -> Question:
    """The layer before the last where the answer stands out most, by the lens, in deviations of the
    answers at that layer; the same maximum is taken for each control."""

    def out(values: np.ndarray) -> np.ndarray:
        return (values - values.mean(0)) / np.maximum(values.std(0), 1e-12)

    if not cleaned.shape[1]:  # a model of one block has no layer before the last
        cleaned = twin = np.zeros((len(cleaned), 1))
    standing, at = out(cleaned - twin).max(1), int(out(cleaned - twin)[0].argmax())
    p, spread = chance(standing), _spread(standing[1:], level)
    return _question("inner layers", out(cleaned)[:, at], out(twin)[:, at], p, spread, (float(at),))


def _relearning(cleaned: Model, twin: Model, asking: Asking) -> Question:
    """The secret relearned, against siblings relearned, by Student's t for one more draw.

    The number is the mean log-probability over the curve: how early it comes back.
    """
    rules = asking.rules
    curves = [
        np.array([relearned(model, one, rules.examples, rules.lr)
                  for one in (asking.secret, *asking.siblings)])
        for model in (cleaned, twin)
    ]  # fmt: skip
    areas = [curve.mean(1) for curve in curves]
    apart = areas[0] - areas[1]
    n = len(apart) - 1
    error = max(float(apart[1:].std(ddof=1)) * (1 + 1 / n) ** 0.5, 1e-12)
    p = student_tail(float(apart[0] - apart[1:].mean()) / error, n - 1)
    spread = error * student_quantile(asking.level, n - 1)
    question = _question("secret itself", areas[0], areas[1], p, spread)
    told = [tuple(curve.tolist()) for curve in (curves[0][0], curves[1][0], curves[0][1:].mean(0))]
    return replace(
        question, at=tuple(map(float, rules.examples)), curve_cleaned=told[0], curve_twin=told[1],
        curve_control=told[2],
    )  # fmt: skip


def _spread(controls: Float[np.ndarray, " control"], level: float) -> float:
    return float(controls.std(ddof=1)) * student_quantile(level, len(controls) - 1)


def _question(
    name: str,
    cleaned: Float[np.ndarray, " answer"],
    twin: Float[np.ndarray, " answer"],
    p: float,
    spread: float,
    at: tuple[float, ...] = (),
) -> Question:
    apart = cleaned - twin
    difference = float(apart[0] - apart[1:].mean())
    return Question(
        name=name, cleaned=float(cleaned[0]), twin=float(twin[0]), difference=difference,
        low=difference - spread, high=difference + spread, p=p, controls=len(apart) - 1, at=at,
    )  # fmt: skip
