"""Does it come back? A model is shaken, rounded, trained or moved, and asked again on the way.

Every way leaves the model as it was.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from twinlens.change.change import Assigned, Change, changed
from twinlens.change.training import trained
from twinlens.contest.lessons import said_loss
from twinlens.contest.saying import Said, tokens_of
from twinlens.contest.secret import Secret
from twinlens.model.model import Model

Answered = TypeVar("Answered")
Ask = Callable[[Model], Answered]
_KNOWN = -0.01  # nats: from here on more examples change nothing


def within(model: Model, change: Change, ask: Ask[Answered]) -> Answered:
    """What `ask` says of the changed model."""
    with changed(model, change):
        return ask(model)


def learned(
    model: Model,
    rows: Sequence[Said],
    at: Sequence[int],
    ask: Ask[Answered],
    *,
    lr: float,
    batch: int = 1,
    seed: int = 1,
) -> list[Answered]:
    """What `ask` says after `at` steps of training (AdamW, steady rate `lr`) on `batch` rows each.

    The loss is that of each row's tokens from its `start` on, in nats a token; rows come in an
    order drawn by `seed`, each once before any comes again.
    """
    order, found = _order(len(rows), batch, seed), list[Answered]()

    def loss(_step: int) -> Tensor:
        return _loss(model, [rows[n] for n in next(order)])

    def watch(step: int) -> bool:
        if step in at:
            with torch.no_grad():
                found.append(ask(model))
        return step >= max(at)

    trained(model, loss, max(at) + 1, lr, steady=True, watch=watch, progress=False)
    return found


def relearned(model: Model, secret: Secret, at: Sequence[int], lr: float) -> list[float]:
    """Log-probability of a secret (nats) after so many examples of itself, one a step.

    Ends early where it is known; the rest of the curve stays at that. Raises `InputError` where
    the answer has no tokens of its own.
    """
    row, curve = tokens_of(model, secret.prompt, secret.answer), list[float]()

    def loss(_step: int) -> Tensor:
        made = _loss(model, [row])
        curve.append(-float(made.detach()) * row.length)
        return made

    def known(_step: int) -> bool:
        return bool(curve) and curve[-1] > _KNOWN

    trained(model, loss, max(at) + 1, lr, steady=True, watch=known, progress=False)
    return [curve[min(k, len(curve) - 1)] for k in at]


def toward(
    model: Model, goal: Model, shares: Sequence[float], ask: Ask[Answered]
) -> list[Answered]:
    """What `ask` says at W + a (W_goal - W) for each share a; parameters that only one of the
    models has stay."""
    end = {name: p.detach() for name, p in goal.hf.named_parameters()}
    here = {n: p.detach() for n, p in model.hf.named_parameters() if n in end}
    found = list[Answered]()
    for share in shares:
        moved = {n: torch.lerp(p, end[n].to(p.device, p.dtype), share) for n, p in here.items()}
        found.append(within(model, Assigned(moved), ask))
    return found


def _loss(model: Model, rows: Sequence[Said]) -> Tensor:
    def logits(ids: Tensor) -> Tensor:
        return model.hf(input_ids=ids.to(model.device), use_cache=False).logits

    return said_loss(rows, logits)


def _order(n: int, batch: int, seed: int) -> Iterator[list[int]]:
    random, left = np.random.default_rng(seed), list[int]()
    while True:
        while len(left) < batch:
            left += random.permutation(n).tolist()
        yield left[:batch]
        left = left[batch:]
