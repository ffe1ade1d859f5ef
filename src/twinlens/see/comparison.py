"""How well lenses read a model: divergence from its answer, agreement with it, and bias."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from twinlens.errors import InputError
from twinlens.model.model import Model
from twinlens.results import FittedLens, LensComparison
from twinlens.results.fitted import no_tokens
from twinlens.run.batches import Progress, counting
from twinlens.run.check import require
from twinlens.see.decoders import Decoder, decoder_of, rows_of
from twinlens.see.provenance import provenance
from twinlens.see.question import whole
from twinlens.see.reduction import SLICE_NUMBERS
from twinlens.see.texts import Text, Windows, joined, windows
from twinlens.see.tuned import rows_of_batch


def compare_lenses(
    model: Model,
    text: Text,
    lenses: Mapping[str, FittedLens | None],
    *,
    length: int = 128,
    batch_tokens: int = 2048,
    progress: Progress = None,
) -> LensComparison:
    """How well each lens reads the model on a text, row by row (Belrose et al. 2023).

    `lenses`: by name; None is the plain lens. `text`: as in `fit_lens`; all of it is read, in
    windows of `length` tokens, so give text that no lens was fitted to.

    Returns arrays `[lens, layer]` with the rows `embed`, "0", ...: mean KL(final || row) in nats a
    token, the share of tokens whose top-1 is the final row's, and the marginal bias, KL(mean final
    distribution || mean distribution of the row) in nats. Raises `InputError` for a text or lens
    that cannot be read, and `LensError` for a lens of another model.
    """
    if not isinstance(lenses, Mapping) or not lenses:
        raise InputError('lenses are a mapping of names to lenses, e.g. {"plain": None, ...}')
    whole("batch_tokens", batch_tokens)
    require(model, ("embed", "block"))
    decoders = [decoder_of(model, lens) for lens in lenses.values()]
    read = joined(windows(model, text, length))
    with torch.no_grad():
        found = measure(model, read, decoders, batch_tokens, progress)
    return LensComparison(
        tokens=no_tokens(),
        layers=rows_of(model),
        vocabulary={},
        settings={"length": length, "text": read.sha256},
        provenance=provenance(model),
        lenses=tuple(lenses),
        n_tokens=read.n_tokens,
        **found,  # pyright: ignore[reportArgumentType]
    )


def measure(
    model: Model,
    read: Windows,
    decoders: Sequence[Decoder],
    batch_tokens: int,
    progress: Progress = None,
) -> dict[str, Float[np.ndarray, "lens layer"]]:
    """`kl`, `agreement` and `bias` of decoders on windows (call it without gradients)."""
    sums = _Sums(model, decoders)
    size = max(1, SLICE_NUMBERS // model.n_vocab)
    with counting(read.n_tokens, "lenses", progress) as advance:
        for batch in read.batches(batch_tokens):
            rows, final = rows_of_batch(model, batch, batch_tokens)
            for start in range(0, len(final), size):
                sums.add([row[start : start + size] for row in rows], final[start : start + size])
            advance(len(final))
    return sums.means(read.n_tokens)


class _Sums:
    """Sums over tokens for each lens and row; the last row of every lens is the final one."""

    def __init__(self, model: Model, decoders: Sequence[Decoder]) -> None:
        self.model, self.decoders, self.rows = model, decoders, rows_of(model)[:-1]
        shape = len(decoders), len(self.rows)
        self.kl, self.agreement = np.zeros(shape), np.zeros(shape)
        self.final = torch.zeros(model.n_vocab, dtype=torch.float64, device="cpu")
        self.marginal = self.final.repeat(*shape, 1)

    def add(self, rows: Sequence[Tensor], final: Tensor) -> None:
        """Take in some tokens."""
        logits = self.model.unembed(final).float()
        best, target = logits.argmax(-1), logits.log_softmax(-1)
        mass = target.exp()
        self.final += _sum(mass)
        for number, (name, residual) in enumerate(zip(self.rows, rows, strict=True)):
            for lens, decoder in enumerate(self.decoders):
                made = decoder.logits(name, residual, slice(0, len(residual))).float()
                made = made.to(logits.device)
                self.agreement[lens, number] += float((made.argmax(-1) == best).sum())
                log_probs = made.log_softmax(-1)
                apart = torch.linalg.vecdot(mass, target - log_probs)
                self.kl[lens, number] += float(apart.double().sum())
                self.marginal[lens, number] += _sum(log_probs.exp_())

    def means(self, n_tokens: int) -> dict[str, Float[np.ndarray, "lens layer"]]:
        """The sums as means, with the last row beside the others."""
        final = self.final / self.final.sum()
        others = self.marginal / self.marginal.sum(-1, keepdim=True)
        bias = torch.special.xlogy(final, final / others).nan_to_num(0.0).sum(-1).numpy()
        last = np.zeros((len(self.decoders), 1))
        return {
            "kl": np.hstack([np.maximum(self.kl / n_tokens, 0), last]),
            "agreement": np.hstack([self.agreement / n_tokens, last + 1]),
            "bias": np.hstack([np.maximum(bias, 0), last]),
        }


def _sum(probs: Float[Tensor, "token vocab"]) -> Float[Tensor, " vocab"]:
    return probs.sum(0, dtype=torch.float64).cpu()
