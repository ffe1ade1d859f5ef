"""Decoders: how the residual of a row becomes logits."""

from __future__ import annotations

import hashlib
from typing import cast

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from twinlens.errors import LensError
from twinlens.model.model import Model
from twinlens.results import FittedLens
from twinlens.see.attribution import FrozenTail
from twinlens.see.provenance import provenance


class Decoder:
    """The plain lens: the model's own final norm and unembedding, whatever the row.

    Other decoders override `logits`. `name` is what a result's settings call it.
    """

    name = "final"
    notes: tuple[str, ...] = ()
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


class Fitted(Decoder):
    """A fitted lens: each row goes through its own affine map first, the last row through none.

    Raises `LensError` where the lens belongs to another model.
    """

    def __init__(self, model: Model, lens: FittedLens) -> None:
        super().__init__(model)
        if not isinstance(lens, FittedLens):
            raise LensError(
                f"a lens is {type(lens).__name__}; expected what twinlens.fit_lens or"
                " twinlens.open_lens gives"
            )
        lens.check(provenance(model), rows_of(model), model.d_model)
        self.name, self.lens, self.notes = lens.name, lens, _doubts(model, lens)
        self._numbers = {row: number for number, row in enumerate(lens.layers)}
        self._maps: dict[str, tuple[Tensor, Tensor, Tensor]] = {}

    def logits(
        self, row: str, residual: Float[Tensor, "token d_model"], at: slice
    ) -> Float[Tensor, "token vocab"]:
        """The logits of a row after its map."""
        return self.model.unembed(self.mapped(row, residual))

    def mapped(
        self, row: str, residual: Float[Tensor, "token d_model"]
    ) -> Float[Tensor, "token d_model"]:
        """What the lens takes a row's residual for, as a last residual; reckoned in float32."""
        if row not in self._numbers:
            return residual
        matrix, reading, bias = self._on(row, residual.device)
        value = residual.float()
        inner = value @ reading.T if len(reading) else value
        made = torch.addmm(bias, inner, matrix.T)
        if self.lens.kind == "tuned":
            made += value
        return made.to(residual.dtype)

    def _on(self, row: str, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
        """The row's map on a device, where it stays."""
        if row not in self._maps:
            lens, number = self.lens, self._numbers[row]
            parts = (lens.matrix[number], lens.reading[number], lens.bias[number])
            matrix, reading, bias = (torch.tensor(part, device=device) for part in parts)
            self._maps[row] = matrix, reading, bias
        return self._maps[row]


def _doubts(model: Model, lens: FittedLens) -> tuple[str, ...]:
    """What speaks against a lens of the tuned-lens library, which names no weights but may have the
    library's hash of the unembedding."""
    told = lens.settings.get("unembed_hash")
    if told is None:
        return ()
    weight = cast(Tensor, model.module(model.anatomy.unembed).weight).detach().float().cpu()
    rounded = np.array_str(weight.numpy(), precision=1)
    if hashlib.sha256(rounded.encode()).hexdigest() == told:
        return ()
    return (
        f"the {lens.name} lens was saved for {lens.provenance.model}, with another unembedding than"
        f" {model.name} has",
    )


def rows_of(model: Model) -> tuple[str, ...]:
    """The rows of a model's lens: `embed`, "0", "1", ..."""
    return ("embed", *map(str, range(model.n_layers)))


def decoder_of(model: Model, lens: FittedLens | None) -> Decoder:
    """The decoder that a fitted lens is; None is the plain lens."""
    return Decoder(model) if lens is None else Fitted(model, lens)
