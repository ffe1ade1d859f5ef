"""Means over facts with bootstrap intervals; a fact is drawn with all of its numbers."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

_AT_ONCE = 250  # resamples held together


def bootstrap(
    values: Float[np.ndarray, "fact number"],
    *,
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 1,
) -> tuple[
    Float[np.ndarray, " number"], Float[np.ndarray, " number"], Float[np.ndarray, " number"]
]:
    """Mean of each number over the facts that have it (NaN: has not), and its interval.

    The interval is the percentile bootstrap's over facts (Efron 1979); NaN with fewer than two.
    """
    has = np.isfinite(values)
    filled = np.where(has, values, 0.0)
    counts = has.sum(0)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = filled.sum(0) / counts
    random = np.random.default_rng(seed)
    n, means = len(values), list[np.ndarray]()
    for start in range(0, resamples, _AT_ONCE):
        times = min(_AT_ONCE, resamples - start)
        weights = random.multinomial(n, np.full(n, 1 / n), size=times).astype(np.float64)
        with np.errstate(invalid="ignore", divide="ignore"):
            means.append((weights @ filled) / (weights @ has))
    ends = np.full((2, values.shape[1]), np.nan)
    enough = counts > 1
    tails = [(1 - level) / 2, (1 + level) / 2]
    ends[:, enough] = np.nanquantile(np.concatenate(means)[:, enough], tails, axis=0)
    return mean, ends[0], ends[1]
