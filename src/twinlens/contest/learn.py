"""Training as blue can do it: on the clean text that it is shown, within its budget."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from dataclasses import asdict
from typing import Any

from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import cross_entropy

from twinlens.change.change import Assigned, Change
from twinlens.change.recover import batches_of, recover
from twinlens.change.training import trained
from twinlens.contest.blue import Blue
from twinlens.contest.chain import Step
from twinlens.model.model import Model, duplicate
from twinlens.see.texts import Batch, Windows, joined, windows


def recovering(blue: Blue) -> Step:
    """A step that trains towards what the model says now, whatever is done to it until then."""
    teacher = duplicate(blue.model)

    def step(blue: Blue) -> Change:
        return recover(blue.model, teacher, blue.shown, blue.budget, progress=blue.progress)

    return step


def fine_tuning(blue: Blue) -> Assigned:
    """A step that trains on the next tokens of the clean text: cross-entropy, nats a token."""
    return learned(
        blue, lambda batch: next_token_loss(blue.model, batch), {"kind": "next-token training"}
    )


def learned(
    blue: Blue, loss: Callable[[Batch], Float[Tensor, ""]], about: Mapping[str, Any]
) -> Assigned:
    """The weights after the budget's steps on a loss of clean windows; zeros stay zero."""
    read, budget = clean_windows(blue), blue.budget
    batches = batches_of(read, budget)
    made = trained(
        blue.model, lambda _: loss(next(batches)), budget.steps, budget.lr, progress=blue.progress
    )
    told = {**about, **asdict(budget), "text": read.sha256, **made.told}
    del told["own"]  # no text of the model's own is read
    return Assigned(made.tensors, told)


def clean_windows(blue: Blue) -> Windows:
    """The clean text that blue is shown, in windows of the budget's length."""
    return joined(windows(blue.model, blue.shown, blue.budget.length))


def clean_batches(blue: Blue) -> Generator[Batch]:
    """As many batches of clean windows as the budget has steps."""
    return batches_of(clean_windows(blue), blue.budget)


def next_token_loss(model: Model, batch: Batch) -> Float[Tensor, ""]:
    """Cross-entropy of the tokens that the windows go on with, nats a token."""
    logits = model.hf(input_ids=batch.ids.to(model.device), use_cache=False).logits
    return loss_of(logits, batch)


def loss_of(logits: Float[Tensor, "row token vocab"], batch: Batch) -> Float[Tensor, ""]:
    """The same of logits that are there already."""
    kept = batch.real[:, 1:].to(logits.device)
    wanted = batch.ids[:, 1:].to(logits.device)[kept]
    return cross_entropy(logits[:, :-1][kept].float(), wanted)
