"""What results about restored states share: two runs, their scores, and effects made of these."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float

from twinlens.results.base import Result


def effects_of(
    scores: Float[np.ndarray, "*any"], clean: float, corrupted: float, direction: str, metric: str
) -> Float[np.ndarray, "*any"]:
    """Denoise: score - corrupted; noise: clean - score; turned round for a KL divergence.

    A KL divergence is a distance from the clean run; positive always means that the state matters.
    """
    effects = clean - scores if direction == "noise" else scores - corrupted
    return -effects if metric == "kl" else effects


@dataclass(frozen=True, eq=False, kw_only=True)
class RestoredResult(Result):
    """A result about states put from one run into another.

    `clean` and `corrupted` are the metric at the focus with nothing restored.
    """

    direction: Literal["denoise", "noise"]
    metric: str
    clean: float
    corrupted: float
    corrupted_samples: Float[np.ndarray, " sample"]
    subject_mask: Bool[np.ndarray, " token"]
    focus: int
    answer: int

    @property
    def total_effect(self) -> float:
        """clean - corrupted: what the corruption took away (for KL: the distance it made)."""
        return (self.clean - self.corrupted) * (-1 if self.metric == "kl" else 1)

    def _effects(self, scores: Float[np.ndarray, "*any"]) -> Float[np.ndarray, "*any"]:
        return effects_of(scores, self.clean, self.corrupted, self.direction, self.metric)
