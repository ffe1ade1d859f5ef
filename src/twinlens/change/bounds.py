"""Bounds of an increase of the loss, from documents that were measured before and after.

The estimand is the ratio of sums: the increase of all nats over all tokens. Documents are the
clusters: tokens of one document go together. Increases are skewed (a few documents carry much of
the damage), and then the usual bounds are crossed too often. So three bounds are reckoned, at a
third of the level, and the one that lies farthest out counts; benchmarks/gate.py shows how often it
is crossed for increases of many shapes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from jaxtyping import Float

RESAMPLES = 10_000
GUARD = 3  # bounds are reckoned at the level over this
LEAST = 100  # documents below which no bound was found to hold (benchmarks/gate.py)
RARE = 0.05  # share of documents whose damage must not be missed
_POWER = 0.8  # chance with which the reckoned number of documents is to decide
_AT_ONCE = 500  # resamples held together
_MOST = 10**9  # beyond this, no text would do


@dataclass(frozen=True, eq=False)
class Paired:
    """The same documents before and after: `[set, document]` (one set, but for a simulation).

    `nats`: increase of the sum of a document's nats. `tokens`: tokens that were scored in it.
    """

    nats: Float[np.ndarray, "set document"]
    tokens: Float[np.ndarray, "set document"]

    @property
    def n(self) -> int:
        """Number of documents."""
        return self.nats.shape[1]

    @property
    def increase(self) -> Float[np.ndarray, " set"]:
        """The increase in nats a token: ratio of sums."""
        return self.nats.sum(1) / self.tokens.sum(1)

    @property
    def residual(self) -> Float[np.ndarray, "set document"]:
        """What each document's nats are above its tokens' share of the increase."""
        return self.nats - self.increase[:, None] * self.tokens

    @property
    def error(self) -> Float[np.ndarray, " set"]:
        """Standard error of the increase, by linearization (Cochran 1977, 6.3)."""
        spread = np.sqrt((self.residual**2).sum(1) * self.n / max(self.n - 1, 1))
        return spread / self.tokens.sum(1)

    def mirrored(self) -> Paired:
        """The same with decreases in the place of increases."""
        return Paired(-self.nats, self.tokens)


def upper_bound(pairs: Paired, level: float, seed: int = 1) -> Float[np.ndarray, " set"]:
    """One-sided upper bound of the increase in nats a token that holds with 1 - `level`.

    The largest, at a third of the level, of: the paired bootstrap over documents, studentised
    (Efron and Tibshirani 1993, 12.5; 10,000 resamples); the t statistic with Hall's correction for
    skewness (Hall 1992); Student's t. Infinite where resamples have no spread of their own. A bound
    for which every document counts as drawn alone from the texts that one wants to speak of.
    """
    return _outermost(pairs, level, _students(pairs, seed))


def lower_bound(pairs: Paired, level: float, seed: int = 1) -> Float[np.ndarray, " set"]:
    """One-sided lower bound, by the same rule."""
    return -_outermost(pairs.mirrored(), level, -_students(pairs, seed))


def both_bounds(
    pairs: Paired, lower_level: float, upper_level: float, seed: int = 1
) -> tuple[float, float]:
    """Lower and upper bound of one set, each at its level, from the same resamples."""
    students = _students(pairs, seed)
    lower = -_outermost(pairs.mirrored(), lower_level, -students)[0]
    return float(lower), float(_outermost(pairs, upper_level, students)[0])


def _outermost(
    pairs: Paired, level: float, students: Float[np.ndarray, "resample set"]
) -> Float[np.ndarray, " set"]:
    if pairs.n < 2:
        return np.full(len(pairs.nats), np.inf)
    low = np.quantile(students, level / GUARD, axis=0, method="lower")
    still = pairs.error == 0  # all documents by the same: nothing to bound
    drawn = pairs.increase - np.where(still, 0.0, low) * pairs.error
    return np.where(still, pairs.increase, np.maximum(formula_bound(pairs, level), drawn))


def formula_bound(pairs: Paired, level: float) -> Float[np.ndarray, " set"]:
    """The larger of the two upper bounds that need no resampling."""
    level /= GUARD
    student = pairs.increase + t_quantile(1 - level, pairs.n - 1) * pairs.error
    return np.maximum(student, _hall(pairs, level))


def level_of(look: int, alpha: float) -> float:
    """The level of one look: alpha 6 / (pi k)², whose sum over all looks is alpha."""
    return alpha * 6 / (math.pi * look) ** 2


def least_documents(level: float, rare: float = RARE) -> int:
    """How many documents there must be before anything is said.

    Damage in a share `rare` of all documents is missed by every one of them with a chance of at
    most half of the level; and never less than 100, below which skewed increases pass too often.
    """
    return max(LEAST, math.ceil(math.log(level / 2) / math.log1p(-rare)))


def documents_needed(
    pairs: Paired, bound: float, level: float, later: float, margin: float
) -> int | None:
    """How many documents would probably (0.8) decide, if they are like these.

    `bound`: the upper bound at `level` where the increase is below the margin, else the lower. The
    distance to it shrinks with the root of their number. `later`: the level at the next look.
    None where the increase is the margin itself.
    """
    increase, error = float(pairs.increase[0]), float(pairs.error[0])
    gap = abs(margin - increase)
    wider = t_quantile(1 - later / GUARD, pairs.n - 1) / t_quantile(1 - level / GUARD, pairs.n - 1)
    reach = abs(bound - increase) * wider + NormalDist().inv_cdf(_POWER) * error
    if not math.isfinite(reach) or gap == 0 or pairs.n * (reach / gap) ** 2 > _MOST:
        return None
    return math.ceil(pairs.n * (reach / gap) ** 2)


def t_quantile(probability: float, freedom: int) -> float:
    """Quantile of Student's t by its expansion around the normal one (Abramowitz and Stegun 1964,
    26.7.5); right to 1e-4 from 20 degrees of freedom on at 0.999."""
    z, v = NormalDist().inv_cdf(probability), max(freedom, 1)
    terms = (
        z,
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return sum(term / v**power for power, term in enumerate(terms))


def _hall(pairs: Paired, level: float) -> Float[np.ndarray, " set"]:
    """The bound of the t statistic made monotonely less skewed (Hall 1992)."""
    n, residual = pairs.n, pairs.residual
    second, third = (residual**2).mean(1), (residual**3).mean(1)
    with np.errstate(invalid="ignore", divide="ignore"):
        skewness = np.where(second > 0, third / second**1.5, 0.0)
        lean = skewness * math.sqrt(n * (n - 1)) / max(n - 2, 1) / math.sqrt(n)
        x = -t_quantile(1 - level, n - 1)
        turned = 3 / lean * (np.cbrt(1 + lean * (x - lean / 6)) - 1)
    turned = np.where(np.abs(lean) < 1e-6, x, turned)
    return pairs.increase - turned * pairs.error


def _students(pairs: Paired, seed: int) -> Float[np.ndarray, "resample set"]:
    """The t statistic of each resample: documents are drawn in pairs, with their tokens."""
    random, n = np.random.default_rng(seed), pairs.n
    if n < 2:
        return np.zeros((1, len(pairs.nats)))
    scale = np.abs(pairs.nats).max(1, keepdims=True)
    d, t = pairs.nats / np.where(scale > 0, scale, 1), pairs.tokens / pairs.tokens.mean()
    whole = d.sum(1) / t.sum(1)
    found: list[np.ndarray] = []
    for start in range(0, RESAMPLES, _AT_ONCE):
        times = min(_AT_ONCE, RESAMPLES - start)
        drawn = random.multinomial(n, np.full(n, 1 / n), size=times).astype(np.float64)
        tokens = drawn @ t.T
        ratio = (drawn @ d.T) / tokens
        squares, crossed, lengths = (drawn @ (a * b).T for a, b in ((d, d), (d, t), (t, t)))
        spread = np.maximum(squares - 2 * ratio * crossed + ratio**2 * lengths, 0)
        error, away = np.sqrt(spread * n / (n - 1)) / tokens, ratio - whole
        with np.errstate(invalid="ignore", divide="ignore"):
            student = np.where(error > 1e-9, away / error, np.sign(away) * np.inf)
        found.append(np.nan_to_num(student, nan=0.0, posinf=np.inf, neginf=-np.inf))
    return np.concatenate(found)
