"""Fewer pixels, without losing the strong ones: each shows the strongest of those it stands for."""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Float


def strongest(
    values: Float[np.ndarray, "row column down across"], down: int, across: int
) -> Float[np.ndarray, "row column lower narrower"]:
    """At most `down` by `across` pixels a cell, each the value of largest size in its block.

    NaN only where a whole block is NaN.
    """
    rows, columns, *size = values.shape
    step = [math.ceil(n / most) for n, most in zip(size, (down, across), strict=True)]
    lower, narrower = (math.ceil(n / by) for n, by in zip(size, step, strict=True))
    padded = np.full((rows, columns, lower * step[0], narrower * step[1]), np.nan)
    padded[:, :, : size[0], : size[1]] = values
    blocks = padded.reshape(rows, columns, lower, step[0], narrower, step[1]).swapaxes(3, 4)
    flat = blocks.reshape(rows, columns, lower, narrower, -1)
    best = np.nan_to_num(np.abs(flat), nan=-1.0).argmax(-1)
    return np.take_along_axis(flat, best[..., None], axis=-1)[..., 0]
