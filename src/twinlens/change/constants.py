"""The constants that silenced parts write in place of their own values, read from a text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from twinlens.model.anatomy import Site
from twinlens.model.model import Model
from twinlens.run.batches import Progress, counting, in_batches
from twinlens.run.check import require
from twinlens.run.hooks import Change, hooked
from twinlens.see.question import whole
from twinlens.see.texts import Batch, Text, Windows, joined, windows

Read = dict[Site, np.ndarray]


def constants_of(
    model: Model,
    sites: Sequence[Site],
    text: Text,
    *,
    to: Literal["mean", "resample"],
    length: int,
    batch_tokens: int,
    seed: int,
    progress: Progress,
) -> tuple[Read, dict[str, Any]]:
    """For each site one value an input `[input]`, and what to tell of where they are from.

    The mean over all tokens of the text, or the values at one of them. No more is held than the
    values of one pass. Raises `InputError` where the text cannot be read.
    """
    whole("batch_tokens", batch_tokens)
    whole("seed", seed, 0)
    require(model, [site.kind for site in sites])
    read = joined(windows(model, text, length))
    about = {"text": read.sha256, "n_tokens": read.n_tokens, "length": length}
    if to == "mean":
        return means_of(model, sites, read, batch_tokens, progress), about
    number, position = _drawn(read, seed)
    batch = Windows((read.ids[number][: position + 1],)).batch([0])
    only = torch.arange(position + 1)[None] == position
    at = sums(model, Batch(batch.ids, only), sites)
    return at, about | {"seed": seed, "window": number, "token": position}


def means_of(
    model: Model, sites: Sequence[Site], read: Windows, batch_tokens: int, progress: Progress
) -> Read:
    """The mean over all tokens of some windows of the values at sites, `[input]`."""
    per_batch = max(1, batch_tokens // max(len(window) for window in read.ids))
    total: Read = {}

    def work(numbers: Sequence[int]) -> tuple[Read, int]:
        batch = read.batch(numbers)
        return sums(model, batch, sites), int(batch.real.sum())

    with counting(read.n_tokens, "means", progress) as advance:
        for made, n_tokens in in_batches(range(len(read)), per_batch, work):
            total = {site: value + total.get(site, 0.0) for site, value in made.items()}
            advance(n_tokens)
    return {site: value / read.n_tokens for site, value in total.items()}


def _drawn(read: Windows, seed: int) -> tuple[int, int]:
    """A window and a position in it, each token of the text as likely as any other."""
    token = int(np.random.default_rng(seed).integers(read.n_tokens))
    for number, window in enumerate(read.ids):
        if token < len(window):
            return number, token
        token -= len(window)
    raise AssertionError("a token beyond the text")


def sums(model: Model, batch: Batch, sites: Sequence[Site]) -> Read:
    """Sums over a batch's real tokens of the values at sites, `[input]`, in one pass."""
    found: Read = {}

    def adding(site: Site) -> Change:
        def add(value: Tensor) -> Tensor:
            kept = value.detach()[batch.real.to(value.device)]
            found[site] = kept.sum(0, dtype=torch.float64).cpu().numpy()
            return value

        return add

    changes = {site: adding(site) for site in sites}
    with torch.no_grad(), hooked(model, changes, len(batch.ids)):
        model.hf(input_ids=batch.ids.to(model.device), use_cache=False, **model.last_logits_only)
    return found
