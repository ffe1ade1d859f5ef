"""Text that a model says by itself: tokens drawn one after the other from its own predictions."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from twinlens.model.model import Model


def sampled(
    model: Model,
    count: int,
    length: int,
    *,
    seed: int,
    top_k: int | None = None,
    batch_tokens: int = 4096,
) -> Int[np.ndarray, "sample token"]:
    """Ids of `count` texts: a start token and `length` more, each drawn from the `top_k` likeliest
    (None: from all).

    The start token is the tokenizer's token of beginning or end, or a random one where it has
    neither. The same seed gives the same texts on the same machine.
    """
    per_batch = max(1, batch_tokens // (length + 1))
    found: list[Tensor] = []
    for first in range(0, count, per_batch):
        generator = torch.Generator("cpu").manual_seed(seed * 1_000_003 + first)
        ids = _starts(model, min(per_batch, count - first), generator)
        found.append(_continued(model, ids, length, top_k, generator))
    return torch.cat(found).numpy()


def _starts(model: Model, rows: int, generator: torch.Generator) -> Int[Tensor, "row 1"]:
    tokenizer = model.tokenizer
    known = [i for i in (tokenizer.bos_token_id, tokenizer.eos_token_id) if i is not None]
    if known and known[0] < model.n_embeddings:
        return torch.full((rows, 1), int(known[0]), device="cpu")
    special = set(tokenizer.all_special_ids)
    usable = [i for i in range(min(model.n_embeddings, model.n_vocab)) if i not in special]
    drawn = torch.randint(len(usable), (rows, 1), generator=generator, device="cpu")
    return torch.tensor(usable, device="cpu")[drawn]


def _continued(
    model: Model,
    ids: Int[Tensor, "row 1"],
    length: int,
    top_k: int | None,
    generator: torch.Generator,
) -> Int[Tensor, "row token"]:
    names = inspect.signature(model.hf.forward).parameters
    cache = "cache" if "cache" in names else "past_key_values"  # renamed in transformers 5.24
    past: Any = None
    sayable = min(model.n_embeddings, model.n_vocab)
    for _ in range(length):
        with torch.no_grad():
            made = model.hf(
                input_ids=ids[:, -1:].to(model.device), use_cache=True,
                **{cache: past}, **model.last_logits_only,
            )  # fmt: skip
        past = made[cache]
        logits = made.logits[:, -1, :sayable].float().cpu()
        best = logits.topk(sayable if top_k is None else min(top_k, sayable), dim=-1)
        drawn = torch.multinomial(best.values.softmax(-1), 1, generator=generator)
        ids = torch.cat([ids, best.indices.gather(1, drawn)], dim=1)
    return ids
