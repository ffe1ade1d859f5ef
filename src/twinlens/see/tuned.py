"""The tuned lens: an affine map a row, trained so that the row says what the last row says.

Belrose et al. 2023, with Adam in place of their SGD with momentum. The loss of row l is KL(final ||
unembed(final_norm(h + A h + b))), the mean over tokens; rows do not see each other. A = b = 0 is
the plain lens, and there the training starts.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from twinlens.model.anatomy import Site
from twinlens.model.model import Model
from twinlens.run.passes import Inputs, read
from twinlens.see.fitting import Fit, taken
from twinlens.see.reduction import SLICE_NUMBERS
from twinlens.see.texts import Batch, Windows


class TunedFit(Fit):
    """Steps of Adam, its rate falling linearly to zero, on windows in a seeded order."""

    def __init__(
        self,
        model: Model,
        windows: Windows,
        *,
        steps: int,
        batch_tokens: int,
        lr: float,
        seed: int,
    ) -> None:
        self.model, self.windows, self.steps, self.lr, self.seed = model, windows, steps, lr, seed
        self.batch_tokens = batch_tokens
        longest = max(len(window) for window in windows.ids)
        self.per_batch = min(len(windows), max(1, batch_tokens // longest))
        rows, width = model.n_layers, model.d_model
        self.matrix = torch.zeros(rows, width, width, device=model.device)
        self.bias = torch.zeros(rows, width, device=model.device)
        self.optimizer = torch.optim.Adam([self.matrix, self.bias], lr=lr)

    def state(self) -> dict[str, Tensor]:
        """Maps and moments."""
        named = {"matrix": self.matrix, "bias": self.bias}
        for name in list(named):
            for moment, value in self.optimizer.state[named[name]].items():
                named[f"{name}.{moment}"] = value
        return named

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Take maps and moments from a state."""
        for name, own in (("matrix", self.matrix), ("bias", self.bias)):
            moments = {n: taken(state, f"{name}.{n}", own) for n in ("exp_avg", "exp_avg_sq")}
            count = taken(state, f"{name}.step", torch.zeros((), device="cpu"))
            own.copy_(taken(state, name, own))
            self.optimizer.state[own] = {"step": count, **moments}

    def step(self, number: int) -> None:
        """One step on the next windows."""
        rows, final = rows_of_batch(self.model, self._next(number), self.batch_tokens)
        self.matrix.grad, self.bias.grad = self._gradients(rows, final)
        for group in self.optimizer.param_groups:
            group["lr"] = self.lr * (1 - number / self.steps)
        self.optimizer.step()

    def maps(self) -> dict[str, np.ndarray]:
        """The maps as they are."""
        rows, width = self.bias.shape
        return {
            "matrix": self.matrix.cpu().numpy(),
            "reading": np.zeros((rows, 0, width), dtype=np.float32),
            "bias": self.bias.cpu().numpy(),
            "kept": np.ones(rows),
        }

    def _next(self, number: int) -> Batch:
        """The windows of a step: an endless series of shuffles, cut into batches."""
        total, start = len(self.windows), number * self.per_batch
        epochs = range(start // total, (start + self.per_batch - 1) // total + 1)
        order = [np.random.default_rng([self.seed, e]).permutation(total) for e in epochs]
        first = start - epochs[0] * total
        picked = np.concatenate(order)[first : first + self.per_batch]
        return self.windows.batch(picked.tolist())

    def _gradients(self, rows: list[Tensor], final: Tensor) -> tuple[Tensor, Tensor]:
        """Of the mean loss, by slices of tokens: logits are made, used and dropped."""
        matrices, biases = torch.zeros_like(self.matrix), torch.zeros_like(self.bias)
        size = max(1, SLICE_NUMBERS // self.model.n_vocab)
        for start in range(0, len(final), size):
            part = slice(start, start + size)
            with torch.no_grad():
                target = self.model.unembed(final[part]).float().softmax(-1).div_(len(final))
            for number, residual in enumerate(rows):
                matrix, bias = self._gradient(number, residual[part], target)
                matrices[number] += matrix
                biases[number] += bias
        return matrices, biases

    def _gradient(self, number: int, residual: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """One row's. That of KL(p || softmax(z)) in z is softmax(z) - p; the rest is autograd's.

        `target` is p over the number of tokens of the batch.
        """
        value = residual.to(self.matrix.device).float()
        with torch.enable_grad():
            added = torch.addmm(self.bias[number], value, self.matrix[number].T).requires_grad_()
            logits = self.model.unembed((value + added).to(residual.dtype)).float()
        with torch.no_grad():
            mass = target.sum(-1, keepdim=True)
            slope = logits.softmax(-1).mul_(mass).sub_(target.to(logits.device))
        (back,) = torch.autograd.grad(logits, added, slope.to(logits.dtype))
        return back.T @ value, back.sum(0)


def rows_of_batch(
    model: Model, batch: Batch, batch_tokens: int | None = None
) -> tuple[list[Tensor], Tensor]:
    """The residuals `[token, d_model]` of a batch's real tokens: of every row but the last, and of
    the last."""
    sites = [Site("embed", 0), *model.sites("block")]
    values = read(model, Inputs(batch.ids), sites, batch_tokens=batch_tokens).values
    found = [values[site][batch.real.to(values[site].device)] for site in sites]
    return found[:-1], found[-1]
