"""Scores to effects: what a restored state brings back, or a corrupted one takes away."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float


def effects_of(
    scores: Float[np.ndarray, "*any"], clean: float, corrupted: float, direction: str, metric: str
) -> Float[np.ndarray, "*any"]:
    """Denoise: score - corrupted; noise: clean - score; turned round for a KL divergence.

    A KL divergence is a distance from the clean run; positive always means that the state matters.
    """
    effects = clean - scores if direction == "noise" else scores - corrupted
    return -effects if metric == "kl" else effects
