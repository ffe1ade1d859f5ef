"""What a down-projection must give at a subject so that the model says something else.

Gradient steps on one vector that is added to its output at the subject's last token.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from twinlens.change.facts import Rows
from twinlens.change.forward import frozen, logits_at, projected
from twinlens.errors import ChangeError, InputError
from twinlens.model.model import Model


@dataclass(frozen=True)
class EditOptions:
    """The constants of ROME (Meng et al. 2022), as published for GPT-2.

    `steps` of Adam with rate `lr` at most, on d in v = v0 + d; the loss is that of the target (nats
    a token, mean over the prefixes) + `kl` x KL(edited || as it was) behind `kl_prompt` + `decay` x
    |d| / |v0|^2; it stops below `stop`, and |d| stays within `clamp` x |v0|. `prefixes`: pairs
    (tokens, how many) of the texts before the prompt, drawn by `seed`. `ridge`: see `Covariance`.
    """

    steps: int = 20
    lr: float = 0.5
    kl: float = 0.0625
    kl_prompt: str = "{} is a"
    decay: float = 0.5
    stop: float = 0.05
    clamp: float = 4.0
    prefixes: tuple[tuple[int, int], ...] = ((5, 10), (10, 10))
    ridge: float = 0.0
    seed: int = 1

    def __post_init__(self) -> None:
        for name, least in (("steps", 1), ("seed", 0)):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < least:
                raise InputError(f"{name}={value!r} must be a whole number of at least {least}")
        for name in ("lr", "kl", "decay", "stop", "clamp", "ridge"):
            value = getattr(self, name)
            positive = name in ("lr", "clamp")
            of = " above" if positive else " of at least"
            if not isinstance(value, int | float) or not (value > 0 if positive else value >= 0):
                raise InputError(f"{name}={value!r} must be a number{of} 0")
        if self.kl_prompt.count("{}") != 1:
            raise InputError(f"kl_prompt={self.kl_prompt!r} must have one {{}} for the subject")
        for pair in self.prefixes:
            if len(pair) != 2 or not all(isinstance(n, int) and n >= 1 for n in pair):
                raise InputError(f"prefixes: {pair!r} is no pair (tokens, how many)")


class Found(NamedTuple):
    """The vector that was found and the loss before each step."""

    delta: Float[Tensor, " d_model"]
    losses: tuple[float, ...]


def find_delta(
    model: Model,
    layer: int,
    rows: Rows,
    target: list[int],
    start: Float[Tensor, " d_model"],
    options: EditOptions,
) -> Found:
    """d by Adam, with v0 = `start`. The last of `rows` is the prompt of the KL, the others end in
    the target."""
    device = start.device
    delta = torch.zeros_like(start, dtype=torch.float32, requires_grad=True)
    norm = start.float().norm()
    optimizer = torch.optim.Adam([delta], lr=options.lr)
    losses: list[float] = []
    before: Tensor | None = None
    at = torch.zeros(rows.ids.shape, device=device)
    at[torch.arange(len(rows.at)), rows.at] = 1.0

    def add(_given: Tensor, made: Tensor) -> Tensor:
        return made + (at[..., None] * delta).to(made.dtype)

    with frozen(model), torch.enable_grad(), projected(model, layer, len(rows.ids), add):
        for _ in range(options.steps):
            log_probs = logits_at(model, rows.ids, rows.asked).log_softmax(-1)
            if before is None:
                before = log_probs[-1, -1].detach()
            loss = _loss(log_probs, before, target, delta, norm, options)
            losses.append(float(loss.detach()))
            if losses[-1] < options.stop:
                break
            (delta.grad,) = torch.autograd.grad(loss, [delta])
            if len(losses) == 1 and not bool(delta.grad.any()):
                raise ChangeError(
                    f"nothing that layer {layer} of {model.name} adds at the subject's last token"
                    " reaches the answer; choose an earlier layer"
                )
            optimizer.step()
            with torch.no_grad():
                delta.mul_((options.clamp * norm / delta.norm()).clamp(max=1.0))
    return Found(delta.detach(), tuple(losses))


def _loss(
    log_probs: Float[Tensor, "row answer vocab"],
    before: Float[Tensor, " vocab"],
    target: list[int],
    delta: Float[Tensor, " d_model"],
    norm: Float[Tensor, ""],
    options: EditOptions,
) -> Float[Tensor, ""]:
    ids = torch.tensor(target, device=log_probs.device).expand(len(log_probs) - 1, -1)
    said = log_probs[:-1].gather(-1, ids[..., None]).mean()
    now = log_probs[-1, -1]
    drift = (now.exp() * (now - before)).sum()
    size = (delta.norm() / norm**2).to(said.device)
    return -said + options.kl * drift + options.decay * size
