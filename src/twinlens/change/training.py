"""Training: steps of AdamW on whatever loss is asked; the weights are a result, not a side effect.

The one idea: a loss says what is learned, the model is what it was afterwards, bit for bit.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from twinlens.change.change import forget
from twinlens.errors import ChangeError
from twinlens.model.model import Model
from twinlens.run.batches import Progress, counting

Loss = Callable[[int], Tensor]
"""The loss of a step (they count from 0), to be made smaller."""
Watch = Callable[[int], bool | None]
"""Is told how many steps were made, before each and after the last; True ends the training."""


@dataclass(frozen=True, eq=False)
class Trained:
    """The weights after training, by name, and the loss of each step before it was made."""

    tensors: dict[str, Tensor]
    losses: list[float]

    @property
    def told(self) -> dict[str, float]:
        """The mean loss of the first and of the last tenth of the steps."""
        tenth = max(1, len(self.losses) // 10)
        parts = {"loss_first": self.losses[:tenth], "loss_last": self.losses[-tenth:]}
        return {name: sum(part) / len(part) for name, part in parts.items() if part}


def trained(
    model: Model,
    loss: Loss,
    steps: int,
    lr: float,
    *,
    chosen: Callable[[str], bool] | None = None,
    steady: bool = False,
    watch: Watch | None = None,
    label: str = "training",
    progress: Progress = None,
) -> Trained:
    """The weights of a model after `steps` of AdamW on `loss`; the model itself stays as it is.

    Within `loss` and `watch` the model has the weights of that step. `chosen`: which parameters
    learn, by name (default: all). The rate rises over the first twentieth to `lr` and falls to
    nothing, or with `steady` is `lr` throughout. Gradients are clipped at norm 1. Numbers of the
    matrices that are zero (pruned) stay zero. Raises `ChangeError` where no parameter is chosen or
    the weights leave the finite numbers.
    """
    with learning(model, chosen) as parameters:
        if not parameters:
            raise ChangeError(f"{model.name}: no parameter is chosen to be trained")
        zero = {p: p.detach() == 0 for p in parameters.values() if p.dim() > 1}

        def keep_zero() -> None:
            for parameter, mask in zero.items():
                parameter.masked_fill_(mask, 0.0)
            forget(model)

        with counting(steps, label, progress) as advance:
            losses = minimise(
                list(parameters.values()), loss, steps, lr, steady=steady,
                after=keep_zero, watch=watch, advance=advance,
            )  # fmt: skip
        after = {name: p.detach().clone() for name, p in parameters.items()}
    if not all(bool(torch.isfinite(tensor).all()) for tensor in after.values()):
        raise ChangeError(f"the {label} of {model.name} left the finite numbers; take a lower lr")
    return Trained(after, losses)


def minimise(
    tensors: Sequence[Tensor],
    loss: Loss,
    steps: int,
    lr: float,
    *,
    steady: bool = False,
    after: Callable[[], None] | None = None,
    watch: Watch | None = None,
    advance: Callable[[int], None] = lambda _: None,
) -> list[float]:
    """Steps of AdamW (no weight decay) on leaf tensors, in place; the loss of each step.

    `after` is called behind each step, without gradients. For the rest see `trained`.
    """
    optimizer = torch.optim.AdamW(tensors, lr=lr, betas=(0.9, 0.95), weight_decay=0.0)
    losses = list[float]()
    for number in range(steps):
        if watch is not None and watch(number):
            return losses
        for group in optimizer.param_groups:
            group["lr"] = lr * (1.0 if steady else _schedule(number, steps))
        with torch.enable_grad():
            now = loss(number)
            optimizer.zero_grad()
            now.backward()
        nn.utils.clip_grad_norm_(tensors, 1.0)
        optimizer.step()
        if after is not None:
            with torch.no_grad():
                after()
        losses.append(now.item())
        advance(1)
    if watch is not None:
        watch(steps)
    return losses


@contextmanager
def learning(
    model: Model, chosen: Callable[[str], bool] | None = None
) -> Generator[Mapping[str, nn.Parameter]]:
    """Within this context the chosen parameters take gradients and may be written; after it all
    are as they were, bit for bit, whatever happened."""
    every = dict(model.hf.named_parameters())
    mine = {name: p for name, p in every.items() if chosen is None or chosen(name)}
    before: dict[str, Any] = {name: p.detach().clone() for name, p in mine.items()}
    asked = {name: p.requires_grad for name, p in every.items()}
    try:
        for name, parameter in every.items():
            parameter.requires_grad_(name in mine)
        yield mine
    finally:
        with torch.no_grad():
            for name, parameter in mine.items():
                parameter.copy_(before[name])
        for name, parameter in every.items():
            parameter.requires_grad_(asked[name])
            parameter.grad = None
        forget(model)


def _schedule(number: int, steps: int) -> float:
    rise = max(1, steps // 20)
    return min((number + 1) / rise, (steps - number) / max(1, steps - rise))
