"""Decoders: how the residual of a row becomes logits."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from twinlens.model.model import Model
from twinlens.see.attribution import FrozenTail


class Decoder:
    """The plain lens: the model's own final norm and unembedding, whatever the row.

    Other decoders override `logits`. `name` is what a result's settings call it.
    """

    name = "final"
    of_contributions = False
    """Whether its logits are parts of the last row's, so that they have no probabilities."""

    def __init__(self, model: Model) -> None:
        self.model = model

    def logits(
        self, row: str, residual: Float[Tensor, "token d_model"], at: slice
    ) -> Float[Tensor, "token vocab"]:
        """The logits of a row (`embed`, "0", "1", ...) for its residuals at some tokens.

        `residual` holds the tokens of the slice `at` alone.
        """
        return self.model.unembed(residual)


class OfContributions(Decoder):
    """Direct logit attribution: what a part adds to the logits of a given last residual."""

    of_contributions = True

    def __init__(self, model: Model, final: Float[Tensor, "token d_model"]) -> None:
        super().__init__(model)
        self._tail = FrozenTail(model, final)

    def logits(
        self, row: str, residual: Float[Tensor, "token d_model"], at: slice
    ) -> Float[Tensor, "token vocab"]:
        """Logits that the part adds at the tokens of the slice."""
        return self._tail.logits(residual, at)
