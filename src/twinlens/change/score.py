"""Did an edit do what it should, and nothing else? Its prompts, others' prompts, a text's loss.

Each fact is measured before and after its own change. What one fact's prompts say goes together, so
intervals are over facts; where there is only one, over its prompts.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any, Literal, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from twinlens.change.asking import MEASURES, measure_prompts, questions_of
from twinlens.change.change import Change, changed
from twinlens.change.facts import Fact
from twinlens.change.losses import Passages, measure, passages_of
from twinlens.errors import InputError
from twinlens.model.model import Model
from twinlens.run.batches import Progress, counting
from twinlens.run.check import require
from twinlens.see.question import one_of, whole
from twinlens.see.texts import Text, windows

STATES = ("before", "after")
What = Literal["success", "magnitude", "said"]
_RESAMPLES = 2000


class Interval(NamedTuple):
    """A mean and its 95% interval (NaN where there is none)."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True, eq=False)
class EditScores:
    """Measures of facts before and after their changes; NaN where a fact has no such prompts.

    `success`: share of prompts where the right answer is likelier than the other (geometric mean of
    its tokens' probabilities): the target than the truth for efficacy (the prompt itself) and
    paraphrases, the other way round for neighbours; for others of the subject the answer than the
    runner-up of before. `magnitude`: mean difference of the two. `said`: share where greedy choice
    says the right answer, all of it. `nats`: sums over each document of a text of `tokens`
    predicted tokens.
    """

    facts: tuple[Fact, ...]
    success: Float[np.ndarray, "fact measure state"]
    magnitude: Float[np.ndarray, "fact measure state"]
    said: Float[np.ndarray, "fact measure state"]
    prompts: Int[np.ndarray, "fact measure"]
    nats: Float[np.ndarray, "fact state document"]
    tokens: Int[np.ndarray, " document"]

    def interval(self, what: What, measure: str, state: str = "after") -> Interval:
        """The mean over facts of a measure, and its 95% interval.

        Shares have Wilson's, with as many trials as facts (with one fact: as its prompts), which is
        wider than need be where a fact has many prompts; magnitudes the percentile bootstrap's.
        """
        one_of("measure", measure, MEASURES)
        one_of("state", state, STATES)
        at = MEASURES.index(measure)
        values = getattr(self, what)[:, at, STATES.index(state)]
        has = np.isfinite(values)
        if not has.any():
            return Interval(math.nan, math.nan, math.nan)
        if what == "magnitude":
            return _bootstrap(values[has, None], lambda means: means[:, 0])
        trials = int(has.sum()) if has.sum() > 1 else int(self.prompts[has, at].sum())
        return wilson(float(values[has].mean()), trials)

    def harmonic(self, state: str = "after") -> Interval:
        """The harmonic mean of the first three successes ("score" of Meng et al. 2022),
        bootstrapped over the facts that have all three."""
        values = self.success[:, :3, STATES.index(state)]
        values = values[np.isfinite(values).all(1)]
        return _bootstrap(values, _harmonic_mean)

    @property
    def text_loss(self) -> tuple[float, float]:
        """Nats a token of the text before and after (mean over facts); NaN without a text."""
        if not self.tokens.sum():
            return math.nan, math.nan
        before, after = (self.nats.sum(2) / self.tokens.sum()).mean(0)
        return float(before), float(after)

    @property
    def increase(self) -> Interval:
        """By how much the text's loss grew, in nats a token: bootstrapped over facts, or, where
        all have the same change, over the text's documents."""
        more = self.nats[:, 1] - self.nats[:, 0]
        if not self.tokens.sum():
            return Interval(math.nan, math.nan, math.nan)
        if (more != more[0]).any():
            return _bootstrap((more.sum(1) / self.tokens.sum())[:, None], lambda m: m[:, 0])
        pairs = np.stack([more[0], self.tokens.astype(np.float64)], axis=1)
        return _bootstrap(pairs, lambda means: means[:, 0] / means[:, 1])

    def to_dict(self) -> dict[str, Any]:
        """All means and intervals as plain numbers; None where there is none."""
        told: dict[str, Any] = {"facts": len(self.facts)}
        for name in MEASURES:
            told[name] = {
                state: {
                    what: _plain(self.interval(what, name, state))
                    for what in ("success", "magnitude", "said")
                }
                for state in STATES
            }
        told["score"] = {state: _plain(self.harmonic(state)) for state in STATES}
        told["text"] = {
            "tokens": int(self.tokens.sum()),
            "loss": dict(zip(STATES, map(_number, self.text_loss), strict=True)),
            "increase": _plain(self.increase),
        }
        return told


def score_edits(
    model: Model,
    cases: Sequence[tuple[Fact, Change | Sequence[Change]]],
    *,
    text: Text | None = None,
    length: int = 128,
    batch_tokens: int = 2048,
    progress: Progress = None,
) -> EditScores:
    """Measure facts before and after changes: each `(fact, change)` alone, on the model as it is.

    Several changes in the place of one are put in one after the other; give the same list with each
    fact to measure edits that are kept together. `text`: a file, "hamlet" or documents, whose loss
    is measured before and after, in windows of `length` tokens. Measures: Meng et al. 2022.

    Neighbours whose answer is the target are left out. Raises an `InputError` that names what does
    not fit.
    """
    if not cases:
        raise InputError("no facts to score; give pairs (fact, change)")
    whole("batch_tokens", batch_tokens)
    require(model, ("block",))
    read = None if text is None else passages_of(windows(model, text, length))
    asked = [questions_of(model, fact) for fact, _ in cases]
    before = [measure_prompts(model, questions, batch_tokens) for questions in asked]
    nats = [_nats(model, read, batch_tokens)]
    after: list[Float[np.ndarray, "measure number"]] = []
    with counting(len(cases), "scores", progress) as advance:
        for number, (_, change) in enumerate(cases):
            same = number > 0 and change is cases[number - 1][1]
            with changed(model, *([change] if isinstance(change, Change) else change)):
                after.append(measure_prompts(model, asked[number], batch_tokens))
                nats.append(nats[-1] if same else _nats(model, read, batch_tokens))
            advance(1)
    made = np.stack([np.stack(before), np.stack(after)], axis=2)
    counts = [[sum(q.measure == m for q in qs) for m in range(len(MEASURES))] for qs in asked]
    return EditScores(
        tuple(fact for fact, _ in cases), made[..., 0], made[..., 1], made[..., 2],
        np.array(counts), np.array([[nats[0], one] for one in nats[1:]]),
        np.zeros(0, np.int64) if read is None else read.tokens,
    )  # fmt: skip


def _nats(model: Model, read: Passages | None, batch_tokens: int) -> Float[np.ndarray, " document"]:
    if read is None:
        return np.zeros(0)
    return measure(model, read, np.zeros(0, np.int64), batch_tokens).nats


def wilson(share: float, trials: int) -> Interval:
    """A share of so many trials with its 95% interval (Wilson 1927)."""
    z = NormalDist().inv_cdf(0.975)
    middle = (share + z * z / (2 * trials)) / (1 + z * z / trials)
    half = z / (1 + z * z / trials)
    half *= math.sqrt(max(share * (1 - share), 0) / trials + z * z / (4 * trials * trials))
    return Interval(share, max(0.0, middle - half), min(1.0, middle + half))


def _bootstrap(
    values: Float[np.ndarray, "unit number"], statistic: Callable[[np.ndarray], np.ndarray]
) -> Interval:
    """A statistic of means over units, with its percentile interval over units (Efron 1979)."""
    if not len(values):
        return Interval(math.nan, math.nan, math.nan)
    mean = float(statistic(values.mean(0, keepdims=True))[0])
    if len(values) < 2:
        return Interval(mean, math.nan, math.nan)
    random, n = np.random.default_rng(1), len(values)
    drawn = random.multinomial(n, np.full(n, 1 / n), size=_RESAMPLES) / n
    low, high = np.quantile(statistic(drawn @ values), [0.025, 0.975])
    return Interval(mean, float(low), float(high))


def _harmonic_mean(means: Float[np.ndarray, "sample measure"]) -> Float[np.ndarray, " sample"]:
    positive = (means > 0).all(1)
    safe = np.where(positive.reshape(-1, 1), means, 1.0)
    return np.where(positive, means.shape[1] / (1 / safe).sum(1), 0.0)


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _plain(found: Interval) -> dict[str, float | None]:
    return {name: _number(value) for name, value in found._asdict().items()}
