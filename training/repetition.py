"""Tokens that come back: nothing can predict the first copy, and only copying predicts the rest.

Without a good share of such sequences heads that copy (induction heads) come late or never.
"""

from __future__ import annotations

from random import Random
from typing import NamedTuple

FIRST_COPY = 0.1  # weight of the loss where nothing can be predicted


class Sequence(NamedTuple):
    """Token ids, and how much the prediction of each counts in the loss."""

    ids: list[int]
    weights: list[float]


def repeated(random: Random, vocabulary: int, copies: int = 3) -> Sequence:
    """4 to 32 random tokens, `copies` times. Token 0, the end of a text, is not among them."""
    once = [random.randrange(1, vocabulary) for _ in range(random.randint(4, 32))]
    first = [FIRST_COPY] * len(once)
    return Sequence(once * copies, first + [1.0] * len(once) * (copies - 1))


def heads_row(random: Random, vocabulary: int, length: int) -> Sequence:
    """A row of one sequence, repeated until the row is full: at least three times."""
    once = [random.randrange(1, vocabulary) for _ in range(random.randint(4, length // 3))]
    ids = once * (length // len(once) + 1)
    weights = [FIRST_COPY] * len(once) + [1.0] * (length - len(once))
    return Sequence(ids[:length], weights)
