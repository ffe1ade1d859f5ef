"""What others do to a model without looking for a trigger: fine-tuning, pruning, rounding.

Each is as its paper has it where that makes sense for a language model; what differs is said.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from torch import Tensor

from twinlens.change.change import Assigned, Change, Values
from twinlens.change.noise import WeightNoise, matrices
from twinlens.change.weights import By, zero_weights
from twinlens.contest.blue import Blue
from twinlens.contest.chain import in_a_row, lowest_first, ranks_within, silenced
from twinlens.contest.cleaning import use_of
from twinlens.contest.learn import fine_tuning, recovering
from twinlens.errors import InputError
from twinlens.model.model import Model, find_module
from twinlens.see.question import whole

_FEW, _NEARLY_ALL = 1e-3, 0.99  # shares of the weights


def fine_tuned(blue: Blue) -> Assigned:
    """Plain training on the next tokens of the clean text, within the budget."""
    return in_a_row(blue, [fine_tuning], {"kind": "cleaning", "recipe": "fine-tune"})


def pruned_weights(blue: Blue, by: By) -> Assigned:
    """Single weights set to zero by a rule of `tl.zero_weights` ("random", "magnitude", "wanda"):
    as large a share as costs at most `blue.cost` nats a token.

    Raises `InputError` for an unknown rule.
    """
    first = zero_weights(
        blue.model, _FEW, by=by, text=blue.shown if by == "wanda" else None,
        length=blue.budget.length, batch_tokens=blue.budget.batch_tokens, seed=blue.seed,
        progress=blue.progress,
    )  # fmt: skip

    def prune(now: Blue) -> Change:
        return now.strongest(
            lambda share: replace(first, share=share), _FEW, _NEARLY_ALL, now.cost
        )[1]

    told = {"kind": "cleaning", "recipe": f"{by} weights", "within": blue.cost}
    return in_a_row(blue, [prune], told)


def fine_pruned(blue: Blue) -> Assigned:
    """Neurons that are hardly active on clean text set to zero, as many as cost `blue.dose` nats a
    token, then plain training, in which they stay zero.

    Fine-pruning (Liu, Dolan-Gavitt & Garg 2018). There it is the channels of the last convolution;
    here the neurons of all MLPs, by mean |activation|, those of each layer in turn, since the sizes
    of activations differ between layers.
    """

    def prune(now: Blue) -> Change:
        used = use_of(now, now.shown)
        lengths = used.score("magnitude")
        active = np.divide(used.score("use"), lengths, out=0 * lengths, where=lengths > 0)
        order = lowest_first(ranks_within(active).astype(np.float64))
        return silenced(now, order, now.dose, {"by": "activation"})

    told = {"kind": "cleaning", "recipe": "fine-pruning", "within": blue.dose}
    return in_a_row(blue, [prune, fine_tuning], told)


def rounded(blue: Blue, bits: int) -> Assigned:
    """Every matrix rounded to `bits` bits and back (`Rounded`): what a quantised copy says."""
    step = Rounded(bits)
    return in_a_row(blue, [lambda _: step], {"kind": "cleaning", "recipe": f"int{bits}"})


def shrunk_and_perturbed(blue: Blue, shrink: float = 0.8, noise: float = 0.2) -> Assigned:
    """Every matrix shrunk, with noise on it (`ShrinkPerturb`), then trained towards what the model
    was, within the budget.

    Shrink and perturb (Ash & Adams 2020), who train on labels afterwards.
    """
    step = ShrinkPerturb(shrink, noise, blue.seed)
    told = {"kind": "cleaning", "recipe": "shrink-perturb"}
    return in_a_row(blue, [lambda _: step, recovering(blue)], told)


@dataclass(frozen=True)
class Rounded:
    """Every matrix rounded to whole multiples of a scale and back (a `Change`).

    Symmetric, to the nearest: each output (each token of an embedding) has a scale of its own, its
    largest |weight| divided by 2^(bits - 1) - 1. Zero stays zero. Raises `InputError` for `bits`
    that are not 2 to 16.
    """

    bits: int

    def __post_init__(self) -> None:
        whole("bits", self.bits, 2)
        if self.bits > 16:
            raise InputError(f"bits={self.bits} must be from 2 to 16")

    def values(self, model: Model) -> Values:
        """The matrices, rounded."""
        return {
            name: self._rounded(tensor, _inputs_axis(model, name))
            for name, tensor in matrices(model).items()
        }

    def plain(self) -> dict[str, Any]:
        """The number of bits."""
        return {"kind": "rounding", "bits": self.bits}

    def _rounded(self, tensor: Tensor, axis: int) -> Tensor:
        plain = tensor.float()
        scale = plain.abs().amax(axis, keepdim=True) / (2 ** (self.bits - 1) - 1)
        scale = scale.where(scale > 0, 1.0)
        return ((plain / scale).round() * scale).to(tensor.dtype)


@dataclass(frozen=True)
class ShrinkPerturb:
    """shrink W + noise std(W) N(0, 1) for every matrix (a `Change`); norms and biases stay.

    Zeros stay zero. Raises `InputError` for a `shrink` that is not between 0 and 1, and for what
    `WeightNoise` refuses.
    """

    shrink: float
    noise: float
    seed: int = 1

    def __post_init__(self) -> None:
        if not isinstance(self.shrink, int | float) or not 0 < self.shrink <= 1:
            raise InputError(f"shrink={self.shrink!r} must be more than 0 and at most 1")
        if not isinstance(self.noise, int | float) or not 0 < self.noise < math.inf:
            raise InputError(f"noise={self.noise!r} must be a positive number")
        whole("seed", self.seed, 0)

    def values(self, model: Model) -> Values:
        """The matrices, smaller and noisy."""
        noise = WeightNoise(self.noise / self.shrink, self.seed)
        return {name: self.shrink * tensor for name, tensor in noise.values(model).items()}

    def plain(self) -> dict[str, Any]:
        """Factor, scale and seed."""
        told = {"shrink": self.shrink, "noise": self.noise, "seed": self.seed}
        return {"kind": "shrink-perturb", **told}


def _inputs_axis(model: Model, name: str) -> int:
    """Along which axis a matrix holds the weights of one output."""
    module = find_module(model.hf, name.rpartition(".")[0])
    return 0 if type(module).__name__ == "Conv1D" else -1
