"""Tiny models that know a text, so that damage to them costs something."""

from __future__ import annotations

import copy
from functools import cache

import torch

import twinlens as tl
from twinlens.change.recover import Budget
from twinlens.contest.baselines import fine_tuned
from twinlens.contest.blue import Blue
from twinlens.model.model import Model

TEXT = [f"One day Lily saw {number} birds and they sang to her." for number in range(8)]
LEARNING = Budget(steps=40, batch_tokens=128, length=32, lr=1e-2)


@cache
def knowing(model: Model) -> Model:
    """A copy of a model that has learned the text; made once."""
    copied = tl.load(copy.deepcopy(model.hf), tokenizer=model.tokenizer)
    made = fine_tuned(Blue(copied, TEXT, LEARNING)).tensors
    with torch.no_grad():
        for name, parameter in copied.hf.named_parameters():
            parameter.copy_(made[name])
    return copied
