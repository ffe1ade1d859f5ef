"""What counting words would reach: unigram and 5-gram models of tokens, to compare hamlet with.

Interpolated by Witten and Bell (1991): the more different tokens have followed a context, the more
is left to the next shorter one.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence


class Ngrams:
    """Counts of the tokens that follow each context of up to `order - 1` tokens."""

    def __init__(self, order: int, vocabulary: int) -> None:
        self.order, self.vocabulary = order, vocabulary
        self._follow: dict[tuple[int, ...], Counter[int]] = defaultdict(Counter)
        self._total: Counter[tuple[int, ...]] = Counter()

    def learn(self, documents: Iterable[Sequence[int]]) -> Ngrams:
        """Count the tokens of some documents."""
        for ids in documents:
            for at, token in enumerate(ids):
                for size in range(min(self.order - 1, at) + 1):
                    context = tuple(ids[at - size : at])
                    self._follow[context][token] += 1
                    self._total[context] += 1
        return self

    def probability(self, context: Sequence[int], token: int) -> float:
        """Probability of a token after a context; never zero."""
        p = 1 / self.vocabulary
        for size in range(min(self.order - 1, len(context)) + 1):
            key = tuple(context[len(context) - size :])
            if (total := self._total[key]) == 0:
                break
            follow = self._follow[key]
            p = (follow[token] + len(follow) * p) / (total + len(follow))
        return p

    def nats(self, ids: Sequence[int]) -> list[float]:
        """Surprisal of every token but the first, in nats."""
        return [
            -math.log(self.probability(ids[max(0, at - self.order + 1) : at], ids[at]))
            for at in range(1, len(ids))
        ]
