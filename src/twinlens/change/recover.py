"""Recovery: a changed model is trained to say again what the original says, on text that both see.

Distillation. The text is the user's own and, for a share, text that the original itself writes, so
that what it knows beyond the user's text is asked for, too. What is zero stays zero.
"""

from __future__ import annotations

import math
from collections.abc import Generator
from dataclasses import asdict, dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from twinlens.change.change import Assigned
from twinlens.change.training import trained
from twinlens.errors import ChangeError, InputError
from twinlens.model.model import Model
from twinlens.run.batches import Progress
from twinlens.see.question import whole
from twinlens.see.texts import Batch, Text, Windows, joined, windows

_PREFIX = 4  # tokens of the user's text from which the original goes on


@dataclass(frozen=True, kw_only=True)
class Budget:
    """How long and how a model is trained: `steps` of AdamW of at most `batch_tokens` tokens, rate
    `lr` (rising over the first twentieth, then falling to nothing), windows of `length` tokens,
    `own` the share of windows that the original writes (temperature 1). `seed` orders and draws."""

    steps: int = 200
    lr: float = 5e-4
    batch_tokens: int = 2048
    length: int = 128
    own: float = 0.5
    seed: int = 1

    def __post_init__(self) -> None:
        for name, least in (("steps", 1), ("batch_tokens", 1), ("length", 8), ("seed", 0)):
            whole(name, getattr(self, name), least)
        if not isinstance(self.lr, int | float) or not 0 < self.lr < math.inf:
            raise InputError(f"lr={self.lr!r} must be a positive number")
        if not isinstance(self.own, int | float) or not 0 <= self.own <= 1:
            raise InputError(f"own={self.own!r} must be a share, from 0 to 1")


def recover(
    model: Model,
    original: Model,
    text: Text,
    budget: Budget | None = None,
    *,
    progress: Progress = None,
) -> Assigned:
    """Train a changed model towards the original on a text: KL(original || model), nats a token.

    `model` is left as it is; the result is a `Change` that holds the trained weights. Numbers of
    its matrices that are zero (pruned) stay zero. The same text, seed and machine give the same
    weights. Raises `InputError` for text that cannot be read, `ChangeError` where the two models
    have other shapes or the training leaves the finite numbers.
    """
    budget = budget or Budget()
    if model.hf is original.hf:
        raise ChangeError("recovery needs the original beside the changed model, not itself")
    if (model.n_vocab, model.n_layers) != (original.n_vocab, original.n_layers):
        raise ChangeError(f"{model.name} and {original.name} are not of one shape")
    read = _text(original, text, budget)
    batches, seen = batches_of(read, budget), 0

    def loss(_number: int) -> Tensor:
        nonlocal seen
        batch = next(batches)
        seen += int(batch.real.sum())
        return divergence_from(original, model, batch)

    made = trained(model, loss, budget.steps, budget.lr, label="recovery", progress=progress)
    about = {"kind": "recovery", **asdict(budget), "text": read.sha256, "tokens": seen}
    about |= {name.replace("loss", "kl"): value for name, value in made.told.items()}
    return Assigned(made.tensors, about)


def written_by(model: Model, starts: Windows, length: int, seed: int) -> Windows:
    """Text that the model itself writes, at temperature 1, going on from the starts' first tokens.

    Each window has `length` tokens, or fewer where the model ended the text.
    """
    found: list[np.ndarray] = []
    end = model.tokenizer.eos_token_id
    heads = [window[:_PREFIX] for window in starts.ids if len(window) >= _PREFIX]
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        for start in range(0, len(heads), 32):
            ids = torch.from_numpy(np.stack(heads[start : start + 32])).to(model.device)
            made = model.hf.generate(
                input_ids=ids, attention_mask=torch.ones_like(ids), do_sample=True, top_k=0,
                top_p=1.0, temperature=1.0, max_new_tokens=length - _PREFIX,
                pad_token_id=0 if end is None else end,
            )  # fmt: skip
            found += [_until_end(row, end) for row in made.cpu().numpy()]
    return Windows(tuple(found))


def _until_end(row: np.ndarray, end: int | None) -> np.ndarray:
    ends = np.flatnonzero(row[_PREFIX:] == end) if end is not None else np.array([])
    return row[: _PREFIX + int(ends[0]) + 1] if len(ends) else row


def _text(original: Model, text: Text, budget: Budget) -> Windows:
    """The user's windows, and so many that the original writes that they are `own` of all."""
    given = joined(windows(original, text, budget.length))
    if not budget.own:
        return given
    longest = max(1, budget.steps * max(1, budget.batch_tokens // budget.length))  # that are read
    share = budget.own / (1 - budget.own) if budget.own < 1 else math.inf
    count = min(longest, len(given) * share if share < math.inf else longest)
    random = np.random.RandomState(budget.seed)
    starts = Windows(tuple(given.ids[n] for n in random.randint(0, len(given), int(count) or 1)))
    own = written_by(original, starts, budget.length, budget.seed)
    return own if budget.own == 1 else Windows((*given.ids, *own.ids))


def batches_of(read: Windows, budget: Budget) -> Generator[Batch]:
    """As many batches as there are steps, each window once before any comes again."""
    random = np.random.RandomState(budget.seed)
    size = min(len(read), max(1, budget.batch_tokens // budget.length))
    order: list[int] = []
    for _ in range(budget.steps):
        if len(order) < size:
            order += random.permutation(len(read)).tolist()
        picked, order = order[:size], order[size:]
        yield read.batch(picked)


def divergence_from(original: Model, model: Model, batch: Batch) -> Float[Tensor, ""]:
    """KL(original || model) over the tokens that a window predicts, nats a token."""
    ids, real = batch.ids.to(model.device), batch.real.to(model.device)
    with torch.no_grad():
        wanted = original.hf(input_ids=batch.ids.to(original.device), use_cache=False).logits
    said = model.hf(input_ids=ids, use_cache=False).logits
    kept: Bool[Tensor, "row token"] = real[:, 1:]
    target = wanted[:, :-1].to(said.device)[kept].float().log_softmax(-1)
    log_probs = said[:, :-1][kept].float().log_softmax(-1)
    return (target.exp() * (target - log_probs)).sum(-1).mean()
