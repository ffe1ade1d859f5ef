"""A corruption in part: on some tokens of the subject only, or on other tokens instead."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Bool

from twinlens.model.spans import Span
from twinlens.results import Tokens
from twinlens.run.passes import Inputs
from twinlens.see.corruption import Corrupted


def of_part(corrupted: Corrupted, tokens: Tokens, part: Bool[np.ndarray, " token"]) -> Corrupted:
    """The same corruption, but only at the tokens of `part`; the others are as in the prompt."""
    inputs, keep = corrupted.inputs, torch.from_numpy(part)
    clean = torch.from_numpy(tokens.ids)
    ids = torch.where(keep, inputs.ids, clean)
    noise, mask = inputs.noise, inputs.mask
    if noise is not None and mask is not None:
        noise, mask = noise[:, keep[mask]], mask & keep
    made = Inputs(ids, noise, mask, inputs.replace)
    return Corrupted(made, corrupted.subject_mask & part, corrupted.settings)


def put_elsewhere(
    corrupted: Corrupted, tokens: Tokens, sources: Sequence[Span], targets: Sequence[Span]
) -> Corrupted:
    """What a corruption does to the tokens of `sources`, done to those of `targets` alone.

    Pairs of spans are as long; the noise's samples, or the tokens put there, are the source's.
    """
    inputs, n = corrupted.inputs, len(tokens)
    origin = np.full(n, -1)
    for (a, b), (c, d) in zip(sources, targets, strict=True):
        origin[c:d] = np.arange(a, b)
    at = origin >= 0
    mask, comes = torch.from_numpy(at), torch.from_numpy(origin[at])
    ids = torch.from_numpy(tokens.ids).expand(inputs.samples, -1).clone()
    if inputs.noise is None or inputs.mask is None:
        ids[:, mask] = inputs.ids[:, comes]
        return Corrupted(Inputs(ids), at, corrupted.settings)
    place = inputs.mask.cumsum(0) - 1  # of a token among those that have noise
    noise = inputs.noise[:, place[comes]]
    return Corrupted(Inputs(ids, noise, mask, inputs.replace), at, corrupted.settings)
