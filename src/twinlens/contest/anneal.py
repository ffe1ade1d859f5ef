"""Annealing: subtle noise again and again, and a pull towards nothing, while the model learns from
its former self on text that this one writes.

What the text asks for is held by the training; what it never asks for has nothing to hold it, so
that it wanders off and fades. Every window is new, so that what is known is asked for widely
(steps of stochastic gradient Langevin dynamics, Welling & Teh 2011, with distillation as the loss).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict

import numpy as np
import torch
from torch import Tensor

from twinlens.change.change import Assigned
from twinlens.change.recover import divergence_from
from twinlens.change.training import trained
from twinlens.contest.blue import Blue
from twinlens.errors import InputError
from twinlens.model.model import Model, duplicate
from twinlens.run.sampling import sampled
from twinlens.see.texts import Batch, Windows, joined, windows

_SHAKEN = 0.5  # of the steps; then the model cools
_AHEAD = 32  # steps whose text is written at once


def annealed(blue: Blue, noise: float = 0.01, decay: float = 0.002) -> Assigned:
    """The weights after distillation from the model itself while every step adds `noise` (in
    deviations of each matrix as it was) and takes away the share `decay` of each matrix, for the
    first half of the budget's steps. Then the model cools.

    The budget's `own` share of the windows is written anew by the model. Raises `InputError` for
    numbers that cannot be, `ChangeError` where training leaves the finite numbers.
    """
    for name, value in (("noise", noise), ("decay", decay)):
        if not isinstance(value, int | float) or not 0 <= value < 1:
            raise InputError(f"{name}={value!r} must be from 0 to less than 1")
    model, budget = blue.model, blue.budget
    former = duplicate(model)
    read, random = _read(former, blue), torch.Generator().manual_seed(blue.seed)
    seen = 0

    def loss(step: int) -> Tensor:
        nonlocal seen
        if step < _SHAKEN * budget.steps:
            _shake(model, former, noise, decay, random)
        batch = next(read)
        seen += int(batch.real.sum())
        return divergence_from(former, model, batch)

    made = trained(model, loss, budget.steps, budget.lr, label="annealing", progress=blue.progress)
    step = {"kind": "annealing", "noise": noise, "decay": decay, **asdict(budget), "tokens": seen}
    step |= {name.replace("loss", "kl"): value for name, value in made.told.items()}
    about = {"kind": "cleaning", "recipe": "anneal", "seed": blue.seed, "steps": [step]}
    return Assigned(made.tensors, about)


def _shake(
    model: Model, former: Model, noise: float, decay: float, random: torch.Generator
) -> None:
    before = dict(former.hf.named_parameters())
    with torch.no_grad():
        for name, p in model.hf.named_parameters():
            if p.dim() < 2:
                continue
            drawn = torch.randn(p.shape, generator=random).to(p.device, p.dtype)
            p.mul_(1 - decay).add_(drawn * (p != 0), alpha=noise * float(before[name].std()))


def _read(former: Model, blue: Blue) -> Iterator[Batch]:
    """Batches without end: of blue's text, and of text that the former model writes."""
    budget = blue.budget
    length = min(budget.length, former.context or budget.length)
    given = joined(windows(former, blue.shown, length)).ids
    size, random = max(1, budget.batch_tokens // length), np.random.default_rng(blue.seed)
    own = round(size * budget.own)
    chunk = 0
    while True:
        count = max(1, own * _AHEAD)
        ids = sampled(former, count, length - 1, seed=blue.seed + 7919 * chunk) if own else []
        chunk += 1
        for start in range(0, own * _AHEAD or size, own or size):
            some = [given[n] for n in random.integers(0, len(given), size - own)]
            some += [row.astype(np.int64) for row in ids[start : start + own]]
            yield Windows(tuple(some)).batch(range(len(some)))
