from __future__ import annotations

import math

import numpy as np
import pytest

from training.baseline import Ngrams


def test_probabilities_sum_to_one():
    grams = Ngrams(3, 5).learn([[0, 1, 2, 1, 2, 3], [0, 1, 2, 4]])
    for context in ([], [1], [0, 1], [4, 4], [3, 1, 2]):
        assert sum(grams.probability(context, t) for t in range(5)) == pytest.approx(1)


def test_a_unigram_is_witten_and_bell_by_hand():
    grams = Ngrams(1, 4).learn([[0, 1, 1, 2]])
    # three kinds among four tokens: 3 of 7 parts go to the uniform distribution
    assert grams.probability([], 1) == pytest.approx((2 + 3 / 4) / 7)
    assert grams.probability([], 3) == pytest.approx((3 / 4) / 7)


def test_longer_contexts_predict_what_they_have_seen():
    text = [0, 1, 2, 3] * 20
    assert np.mean(Ngrams(5, 4).learn([text]).nats(text)) < 0.2
    assert np.mean(Ngrams(1, 4).learn([text]).nats(text)) == pytest.approx(math.log(4), rel=0.05)
