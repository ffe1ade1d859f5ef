"""What is read off a lens result."""

from __future__ import annotations

import numpy as np
import pytest

import twinlens as tl
from tests.conftest import STORY
from twinlens.errors import InputError


@pytest.fixture(scope="module")
def lens(make_model):
    return tl.logit_lens(make_model("llama"), STORY, targets=[" a"])


def test_metrics_of_a_target_agree_with_each_other(lens):
    for target in ("final", "next", " a"):
        p = lens.metric("probability", target)
        assert np.allclose(np.log(p), lens.metric("log_probability", target), equal_nan=True)
        assert np.allclose(-np.log(p), lens.metric("surprisal", target), equal_nan=True)
        bits = lens.metric("surprisal", target, unit="bits")
        assert np.allclose(bits, -np.log2(p), equal_nan=True)


def test_a_target_has_rank_one_where_it_is_the_top_token(lens):
    first = lens.top_ids[:, :, 0] == lens.target_ids[0]
    assert np.array_equal(lens.metric("rank") == 1, first)
    assert first[-1].all()


def test_a_target_can_be_given_by_its_id(lens):
    by_id = lens.metric("logit", int(lens.target_ids[2, 0]))
    assert np.array_equal(by_id, lens.metric("logit", " a"))


def test_the_last_token_has_no_next(lens):
    values = lens.metric("probability", "next")
    assert np.isnan(values[:, -1]).all()
    assert np.isfinite(values[:, :-1]).all()


def test_surprisal_is_of_the_token_itself(lens):
    following = lens.metric("surprisal", "next")[-1]
    assert np.isnan(lens.surprisal[0])
    assert np.allclose(lens.surprisal[1:], following[:-1], atol=1e-6)
    assert np.allclose(lens.surprisal_bits[1:], lens.surprisal[1:] / np.log(2))


def test_right_is_where_the_top_token_comes_next(lens):
    right = lens.right()
    assert not right[:, -1].any()
    assert np.array_equal(right[:, :-1], lens.top_ids[:, :-1, 0] == lens.tokens.ids[1:])


def test_labels_of_all_ids_are_known(lens):
    for token in np.unique(lens.top_ids):
        assert lens.label(token) == lens.vocabulary[int(token)]


def test_an_id_that_was_not_followed_is_refused(lens):
    with pytest.raises(InputError, match="was not followed"):
        lens.metric("logit", 3)
