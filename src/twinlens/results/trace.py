"""What a causal trace found: for every state, the score when it alone is restored."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from jaxtyping import Float

from twinlens.results.effects import RestoredResult


@dataclass(frozen=True, eq=False, kw_only=True)
class TraceResult(RestoredResult):
    """The causal trace of one answer at one focus (Meng et al. 2022).

    `scores[layer, token]` is the metric at the focus, averaged over the samples, when that state
    is restored (`direction="denoise"`: clean into corrupted; `"noise"`: corrupted into clean).
    For `kind="head"` every array has a head axis after the token axis. `clean` and `corrupted`
    are the same metric with nothing restored.
    """

    kind_of_result: ClassVar[str] = "trace"

    kind: Literal["block", "mlp", "attn", "head"]
    scores: Float[np.ndarray, "layer token *head"]
    samples: Float[np.ndarray, "layer token *head sample"]
    window: int

    def effects(self, normalise: bool = False) -> Float[np.ndarray, "layer token *head"]:
        """What each state brings back (denoise: score - corrupted) or takes away (noise: clean -
        score), in the metric's unit; `normalise=True` divides by the total effect.

        A KL divergence is a distance from the clean run, so its effects are turned round
        (corrupted - score, score - clean): positive always means that the state matters.
        Cells after the focus have no effect: the model is causal. NaN where the total effect is 0.
        """
        effects = self._effects(self.scores)
        if not normalise:
            return effects
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = effects / np.float64(self.total_effect)
        return np.where(np.isfinite(ratio), ratio, np.nan)

    def spread(self) -> Float[np.ndarray, "layer token *head"]:
        """Standard deviation of each score over the samples (NaN with a single sample)."""
        n = self.samples.shape[-1]
        if n < 2:
            return np.full(self.scores.shape, np.nan)
        return self.samples.std(axis=-1, ddof=1)

    def top(self, k: int = 10) -> list[tuple[str, int, float]]:
        """The `k` states with the largest effect: (row or row.head, token position, effect)."""
        effects = self.effects()
        best = np.argsort(-effects, axis=None, kind="stable")[:k]
        found: list[tuple[str, int, float]] = []
        for flat in best:
            row, token, *head = np.unravel_index(flat, effects.shape)
            name = ".".join([self.layers[int(row)], *(str(int(h)) for h in head)])
            found.append((name, int(token), float(effects.flat[flat])))
        return found

    def _variables(self) -> dict[str, tuple[tuple[str, ...], np.ndarray]]:
        cell = ("layer", "token", "head")[: self.scores.ndim]
        return {
            "score": (cell, self.scores),
            "effect": (cell, self.effects()),
            "spread": (cell, self.spread()),
            "samples": ((*cell, "sample"), self.samples),
            "subject": (("token",), self.subject_mask),
        }

    def _columns(self) -> dict[str, object]:
        if self.scores.ndim == 2:
            return super()._columns()
        layer, token, head = (axis.ravel() for axis in np.indices(self.scores.shape))
        columns: dict[str, object] = {
            "layer": np.array(self.layers)[layer],
            "token": token,
            "head": head,
            "token_id": self.tokens.ids[token],
            "label": np.array(self.tokens.labels)[token],
        }
        for name in ("score", "effect", "spread"):
            columns[name] = self._variables()[name][1].reshape(-1)
        return columns
