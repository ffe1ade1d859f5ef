"""A fitted lens: for every row the affine map that goes before final norm and unembedding."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from jaxtyping import Float, Float32

from twinlens.errors import LensError
from twinlens.results.base import Provenance, Result, Tokens

LensKind = Literal["tuned", "jacobian"]
UNKNOWN = "unknown"


@dataclass(frozen=True, eq=False, kw_only=True)
class FittedLens(Result):
    """A lens that was fitted to a model: what a row's residual h becomes before the unembedding.

    `kind` is `tuned`, h + A h + b (Belrose et al. 2023), or `jacobian`, J h. `layers` are the rows
    that have a map (`embed` and every block but the last, whose map is the identity).
    `matrix[layer]` is A or J; where `reading` has rows (a low rank), A or J is `matrix @ reading`.
    `kept` is the share of the squared singular values that the rank keeps (1 where it is full).

    `kl` and `kl_plain` are mean KL(final || row) in nats a token on held-out text, of this lens and
    of the plain one (NaN where it was not measured). `name` is what pictures call the lens.
    `tokens` is empty: a lens is about no prompt. `provenance` names the model it belongs to.
    """

    kind_of_result: ClassVar[str] = "fitted_lens"

    kind: LensKind
    name: str
    matrix: Float32[np.ndarray, "layer d_model inner"]
    reading: Float32[np.ndarray, "layer rank d_model"]
    bias: Float32[np.ndarray, "layer d_model"]
    kept: Float[np.ndarray, " layer"]
    kl: Float[np.ndarray, " layer"]
    kl_plain: Float[np.ndarray, " layer"]

    @property
    def rank(self) -> int | None:
        """The rank of the maps; None where it is full."""
        return self.reading.shape[1] or None

    def check(self, model: Provenance, layers: tuple[str, ...], d_model: int) -> None:
        """Raises `LensError` where the lens belongs to a model other than the given one.

        `layers` are the rows of the model's plain lens (`embed`, "0", ...), `d_model` its width.
        """
        mine, given = self.provenance, model
        known = mine.weights_hash != UNKNOWN
        if known and mine.weights_hash != given.weights_hash:
            raise LensError(
                f"the {self.name} lens was fitted to {mine.model} (weights"
                f" {mine.weights_hash[:12]}), not to {given.model} (weights"
                f" {given.weights_hash[:12]}); fit one to this model: twinlens lens fit"
            )
        if self.layers != layers[:-1] or self.bias.shape[1] != d_model:
            raise LensError(
                f"the {self.name} lens of {mine.model} has {len(self.layers)} rows of width"
                f" {self.bias.shape[1]}; {given.model} needs {len(layers) - 1} of width {d_model}"
            )

    def _variables(self) -> dict[str, tuple[tuple[str, ...], np.ndarray]]:
        return {
            "kl": (("layer",), self.kl),
            "kl_plain": (("layer",), self.kl_plain),
            "kept": (("layer",), self.kept),
            "bias": (("layer", "d_model"), self.bias),
            "matrix": (("layer", "d_model", "inner"), self.matrix),
            "reading": (("layer", "rank", "d_model"), self.reading),
        }

    def _columns(self) -> dict[str, object]:
        numbers = {"kl": self.kl, "kl_plain": self.kl_plain, "kept": self.kept}
        return {"layer": np.array(self.layers), **numbers}

    def _check(self) -> None:
        """Parts that belong together do so; raises `ValueError` (called when a file is opened)."""
        inner, rank, width = self.matrix.shape[2], self.reading.shape[1], self.bias.shape[1]
        if inner != (rank or width):
            raise ValueError(f"matrix is {self.matrix.shape}, reading {self.reading.shape}")
        if not all(np.isfinite(a).all() for a in (self.matrix, self.reading, self.bias)):
            raise ValueError("a map has numbers that are not finite")


@dataclass(frozen=True, eq=False, kw_only=True)
class LensComparison(Result):
    """How well several lenses read a model, `[lens, layer]`, as means over the tokens of a text.

    `kl`: KL(final || row) in nats a token. `agreement`: share of tokens whose top-1 is the final
    row's. `bias`: KL(mean final distribution || mean distribution of the row), in nats (Belrose et
    al. 2023, marginal bias). `n_tokens` were read. `tokens` is empty: it is about no prompt.
    """

    kind_of_result: ClassVar[str] = "lens_comparison"

    lenses: tuple[str, ...]
    kl: Float[np.ndarray, "lens layer"]
    agreement: Float[np.ndarray, "lens layer"]
    bias: Float[np.ndarray, "lens layer"]
    n_tokens: int

    def _variables(self) -> dict[str, tuple[tuple[str, ...], np.ndarray]]:
        cell = ("lens", "layer")
        named = {"kl": self.kl, "agreement": self.agreement, "bias": self.bias}
        return {name: (cell, values) for name, values in named.items()}

    def _columns(self) -> dict[str, object]:
        columns: dict[str, object] = {
            "lens": np.repeat(np.array(self.lenses), len(self.layers)),
            "layer": np.tile(np.array(self.layers), len(self.lenses)),
        }
        return columns | {name: array.ravel() for name, (_, array) in self._variables().items()}


def no_tokens() -> Tokens:
    """The tokens of what is about no prompt."""
    none = np.zeros(0, dtype=np.int64)
    return Tokens("", none, (), none, none, np.zeros(0, dtype=bool))
