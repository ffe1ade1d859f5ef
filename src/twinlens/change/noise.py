"""Noise on weights: each matrix gets Gaussian noise of a fraction of its own deviation."""

from __future__ import annotations

import hashlib
import math
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from twinlens.change.change import Values
from twinlens.errors import InputError
from twinlens.model.model import Model
from twinlens.see.question import whole


@dataclass(frozen=True)
class WeightNoise:
    """W + scale std(W) N(0, 1) for every matrix (a `Change`).

    Norms and biases stay, and so do numbers that are zero: they were pruned. `scale` is relative:
    0.01 is subtle, 0.1 is not. Drawn tensor by tensor from `seed` and the tensor's name, added in
    float32 and rounded to the stored type. `k` steps of `scale` in a row are one step of `scale`
    sqrt(k). Raises `InputError` for another scale or seed.
    """

    scale: float
    seed: int = 1

    def __post_init__(self) -> None:
        if not isinstance(self.scale, int | float) or not 0 < self.scale < math.inf:
            raise InputError(f"scale={self.scale!r} must be a positive number")
        whole("seed", self.seed, 0)

    def values(self, model: Model) -> Values:
        """The matrices with noise on them."""
        return {name: self._noised(name, tensor) for name, tensor in matrices(model).items()}

    def plain(self) -> dict[str, Any]:
        """Scale and seed."""
        return {"kind": "noise", "scale": self.scale, "seed": self.seed}

    def _noised(self, name: str, tensor: Tensor) -> Tensor:
        digest = hashlib.sha256(f"{self.seed} {name}".encode()).digest()
        random = torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))
        drawn = torch.randn(tensor.shape, generator=random).to(tensor.device)
        plain = tensor.float()
        return (plain + self.scale * plain.std() * drawn * (plain != 0)).to(tensor.dtype)


def matrices(model: Model) -> dict[str, Tensor]:
    """The parameters that are matrices (or stacks of them), each once."""
    return {
        name: parameter.detach()
        for name, parameter in model.hf.named_parameters()
        if parameter.dim() > 1 and parameter.is_floating_point()
    }


@dataclass(frozen=True)
class Rounding:
    """What the stored type leaves of a change: its size relative to the weights as asked, as
    stored, and the share of the weights that did not move."""

    asked: float
    stored: float
    lost: float


def told_rounding(model: Model, change: object) -> dict[str, Any]:
    """What a ledger says of the rounding of a noise in a coarser type than float32."""
    if not isinstance(change, WeightNoise) or model.dtype in (torch.float32, torch.float64):
        return {}
    return {"rounding": asdict(rounding(model, change))}


def rounding(model: Model, noise: WeightNoise) -> Rounding:
    """How much of a noise arrives in the model's number type (bfloat16 swallows what is subtle).

    Both sizes are root mean squares over the matrices' deviations, the mean over matrices weighted
    by their elements.
    """
    asked = stored = lost = total = 0.0
    for name, tensor in matrices(model).items():
        moved = noise._noised(name, tensor).double() - tensor.double()
        n, deviation = tensor.numel(), float(tensor.float().std())
        total += n
        asked += n * noise.scale**2
        stored += float((moved**2).sum()) / max(deviation, 1e-30) ** 2
        lost += float((moved == 0).sum())
    return Rounding((asked / total) ** 0.5, (stored / total) ** 0.5, lost / total)
