from __future__ import annotations

from random import Random

from training.repetition import FIRST_COPY, heads_row, repeated


def test_copies_are_copies_and_the_first_hardly_counts():
    for seed in range(50):
        ids, weights = repeated(Random(seed), 100)
        n = len(ids) // 3
        assert 4 <= n <= 32
        assert ids == ids[:n] * 3
        assert weights == [FIRST_COPY] * n + [1.0] * 2 * n
        assert 0 not in ids


def test_a_row_is_full_and_repeats_at_least_three_times():
    for seed in range(50):
        ids, weights = heads_row(Random(seed), 100, 48)
        n = weights.count(FIRST_COPY)
        assert len(ids) == len(weights) == 48
        assert 4 <= n <= 16
        assert all(ids[i] == ids[i - n] for i in range(n, 48))
