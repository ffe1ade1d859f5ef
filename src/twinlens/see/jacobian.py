"""The Jacobian lens: what a change of a residual does, on average, to the last residual.

    J_l = E[ sum over t >= s of d h_final(t) / d h_l(s) ]

h_l(s) is the residual of row l at position s, h_final(t) the last residual (before the final norm)
at position t; the sum is over all targets t from s to the end of the window, the mean E over the
sources s of all windows. What a state does to later tokens counts as what it does to its own
(`reach="later"`). With `reach="own"` only t = s counts. The lens reads
`unembed(final_norm(J_l h))`.

A vector-Jacobian product with one coordinate of every h_final(t) gives that row of J_l for all
sources and all rows l together; many coordinates go through one backward pass as a batch. For
`own`, the targets of a window carry random signs, and each source's gradient its own sign: what
later targets add then has a random sign and cancels in the mean, at no further cost (as in
Hutchinson's estimate of a trace, 1989). That mean is an estimate; the one for `later` is exact.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Float64, Int
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from twinlens.model.anatomy import Site
from twinlens.model.model import Model
from twinlens.run.hooks import Change, hooked
from twinlens.see.fitting import Fit, taken
from twinlens.see.texts import Windows

Reach = Literal["later", "own"]

_PRODUCTS = 4  # vector-Jacobian products of one backward pass, at least


class JacobianFit(Fit):
    """Sums of Jacobians over windows, a batch of windows a step."""

    def __init__(
        self,
        model: Model,
        windows: Windows,
        *,
        batch_tokens: int,
        rank: int | None = None,
        reach: Reach = "later",
        seed: int = 1,
    ) -> None:
        self.model, self.rank, self.reach, self.seed = model, rank, reach, seed
        self.batches = list(windows.batches(max(1, batch_tokens // _PRODUCTS)))
        self.batch_tokens, self.steps = batch_tokens, len(self.batches)
        width = model.d_model
        self.sum = torch.zeros(model.n_layers, width, width, dtype=torch.float64, device="cpu")
        self.n_tokens = windows.n_tokens

    def state(self) -> dict[str, Tensor]:
        """The sums so far."""
        return {"sum": self.sum}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Take the sums from a state."""
        self.sum = taken(state, "sum", self.sum)

    def step(self, number: int) -> None:
        """Add one batch of windows."""
        batch = self.batches[number]
        weights = batch.real.float()
        if self.reach == "own":
            weights *= _signs(batch.ids, self.seed, number)
        for at, rows in _coordinates(self.model, batch.ids, weights, self.batch_tokens):
            self.sum[:, at] += rows

    def maps(self) -> dict[str, np.ndarray]:
        """The mean, or its best approximation of the given rank (by singular values)."""
        mean = self.sum.numpy() / self.n_tokens
        rows, width, _ = mean.shape
        made = {"bias": np.zeros((rows, width), np.float32), "kept": np.ones(rows)}
        if self.rank is None:
            none = np.zeros((rows, 0, width), np.float32)
            return made | {"matrix": mean.astype(np.float32), "reading": none}
        return made | truncated(mean, self.rank)


def truncated(matrices: np.ndarray, rank: int) -> dict[str, np.ndarray]:
    """The nearest matrices of a rank (Eckart and Young 1936) as `matrix @ reading`, and in `kept`
    the share of the squared singular values that they keep."""
    left, values, right = np.linalg.svd(matrices.astype(np.float64), full_matrices=False)
    squared = values**2
    total = squared.sum(-1)
    return {
        "matrix": (left[:, :, :rank] * values[:, None, :rank]).astype(np.float32),
        "reading": np.ascontiguousarray(right[:, :rank]).astype(np.float32),
        "kept": squared[:, :rank].sum(-1) / np.where(total > 0, total, 1),
    }


def _signs(ids: Int[Tensor, "row token"], seed: int, number: int) -> Float[Tensor, "row token"]:
    """1 or -1 for each token of a batch."""
    drawn = np.random.default_rng([seed, number]).integers(0, 2, tuple(ids.shape))
    return torch.from_numpy(2.0 * drawn - 1).float()


def _coordinates(
    model: Model, ids: Int[Tensor, "row token"], weights: Float[Tensor, "row token"], at_once: int
) -> Iterator[tuple[slice, Tensor]]:
    """Rows of the Jacobians of a batch, summed over sources s and targets t, each pair weighted by
    `weights[s] * weights[t]`: pairs of a slice of coordinates of h_final and
    `[row, coordinate, d_model]`. `at_once`: tokens of one backward pass, over its products."""
    residuals, final = _graph(model, ids)
    weights = weights.to(final.device, final.dtype)
    size = max(1, at_once // ids.numel())
    for start in range(0, final.shape[-1], size):
        at = slice(start, min(start + size, final.shape[-1]))
        vectors = torch.eye(final.shape[-1], device=final.device, dtype=final.dtype)[at]
        seeds = vectors[:, None, None] * weights[:, :, None]
        slopes = torch.autograd.grad(
            final, residuals, seeds, retain_graph=at.stop < final.shape[-1], is_grads_batched=True
        )
        yield at, torch.stack([_weighted(slope, weights) for slope in slopes])


def _weighted(
    slope: Float[Tensor, "product row token d_model"], weights: Float[Tensor, "row token"]
) -> Float64[Tensor, "product d_model"]:
    weighted = slope * weights.to(slope.device)[:, :, None]
    return weighted.sum((1, 2), dtype=torch.float64).cpu()


def _graph(model: Model, ids: Tensor) -> tuple[list[Tensor], Tensor]:
    """The residuals `[row of the batch, token, d_model]` of each row of the lens but the last, and
    the last, as one graph of autograd that starts at the embedding row."""
    kept: list[Tensor] = []

    def first(value: Tensor) -> Tensor:
        kept.append(value.detach().requires_grad_())
        return kept[-1]

    def keep(value: Tensor) -> Tensor:
        kept.append(value)
        return value

    changes: dict[Site, Change] = {Site("embed", 0): first}
    changes |= dict.fromkeys(model.sites("block"), keep)
    plain = sdpa_kernel(SDPBackend.MATH)  # its backward pass takes a batch of products
    with torch.enable_grad(), plain, hooked(model, changes, len(ids)):
        model.hf(input_ids=ids.to(model.device), use_cache=False, **model.last_logits_only)
    return kept[:-1], kept[-1]
