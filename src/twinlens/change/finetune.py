"""Fine-tuning one down-projection on one fact: what an edit is compared with."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from twinlens.change.change import Assigned, changed
from twinlens.change.facts import Fact, Rows, answer_ids, rows_of
from twinlens.change.forward import down_projection, frozen, logits_at, projected
from twinlens.change.parts import Projection
from twinlens.errors import InputError
from twinlens.model.model import Model
from twinlens.run.check import require
from twinlens.see.question import whole


class _Training(NamedTuple):
    bound: float | None
    steps: int
    lr: float
    stop: float


def fine_tune(
    model: Model,
    prompt: str,
    subject: str,
    target: str,
    *,
    layer: int,
    bound: float | None = None,
    steps: int = 25,
    lr: float = 5e-4,
    stop: float = 0.01,
) -> Assigned:
    """The weight of one down-projection after steps of Adam on one fact, as a `Change`.

    The baseline of Meng et al. 2022 ("FT"): `steps` at most with rate `lr` on the mean negative
    log-probability (nats a token) of `target` behind `prompt`, until it is below `stop`. `bound`
    keeps each number within that of where it was, after every step ("FT+L", Zhu et al. 2020).

    Raises an `InputError` that names what does not fit, `ChangeError` where the model has no plain
    down-projection.
    """
    found = down_projection(model, layer)
    whole("steps", steps)
    for name, value in (("bound", bound), ("lr", lr), ("stop", stop)):
        if value is not None and not (isinstance(value, int | float) and 0 < value < math.inf):
            raise InputError(f"{name}={value!r} must be a positive number")
    require(model, ("neuron", "block"))
    fact = Fact(prompt, subject, target)
    ids = answer_ids(model, prompt, target)
    training = _Training(bound, steps, lr, stop)
    weight, loss = _steps(model, layer, found, rows_of(model, fact, [""], ids), ids, training)
    about = {"kind": "fine-tune", **fact.plain(), "layer": layer, **training._asdict()}
    about |= {"loss": loss, "weights": model.weights_hash()}
    return Assigned({found.weight_name: weight}, about)


def fine_tune_facts(
    model: Model, facts: Sequence[Fact], *, layer: int, **settings: Any
) -> list[Assigned]:
    """`fine_tune` on several facts, each on the model as the ones before it leave it."""
    made: list[Assigned] = []
    for fact in facts:
        with changed(model, *made[-1:]):
            asked = (fact.prompt, fact.subject, fact.target)
            made.append(fine_tune(model, *asked, layer=layer, **settings))
    return made


def _steps(
    model: Model,
    layer: int,
    found: Projection,
    rows: Rows,
    target: list[int],
    training: _Training,
) -> tuple[Tensor, float]:
    """The new weight as the model stores it, and the loss before the last step."""
    old = found.weight.float()
    new = old.clone().requires_grad_()
    optimizer = torch.optim.Adam([new], lr=training.lr)
    loss = torch.tensor(math.nan)

    def write(given: Tensor, _made: Tensor) -> Tensor:
        made = given.float() @ found.as_by_input(new)
        return made if found.bias is None else made + found.bias.float()

    with frozen(model), torch.enable_grad(), projected(model, layer, 1, write):
        for _ in range(training.steps):
            log_probs = logits_at(model, rows.ids, rows.asked).log_softmax(-1)[0]
            asked = torch.tensor(target, device=log_probs.device)[:, None]
            loss = -log_probs.gather(-1, asked).mean()
            if float(loss.detach()) < training.stop:
                break
            (new.grad,) = torch.autograd.grad(loss, [new])
            optimizer.step()
            if training.bound is not None:
                with torch.no_grad():
                    new.clamp_(old - training.bound, old + training.bound)
    return new.detach().to(found.weight.dtype), float(loss.detach())
