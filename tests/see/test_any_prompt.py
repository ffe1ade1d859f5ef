"""Any text at all gives a result of the right shape, or an error with a name."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import twinlens as tl
from tests.conftest import random_model
from twinlens.errors import TwinlensError

ANY_TEXT = st.text(st.characters(exclude_categories=[]), max_size=60)


@pytest.fixture(scope="module", params=["bytes", "sentencepiece"])
def model(request, tokenizer, sentencepiece):
    chosen = tokenizer if request.param == "bytes" else sentencepiece
    return tl.load(random_model("llama", chosen), tokenizer=chosen)


@settings(max_examples=150, deadline=None)
@given(prompt=ANY_TEXT)
def test_lens(model, prompt):
    try:
        lens = tl.logit_lens(model, prompt, top_k=2)
    except TwinlensError:
        return
    n = len(lens.tokens)
    assert lens.top_ids.shape == (4, n, 2)
    assert lens.surprisal.shape == (n,)
    assert np.isfinite(lens.metric("probability")).all()
    tokens = lens.tokens
    assert len(tokens.ids) == len(tokens.starts) == len(tokens.ends) == n
    assert (tokens.starts <= tokens.ends).all()
    assert tokens.starts.min() >= 0
    assert tokens.ends.max() <= len(prompt)


@settings(max_examples=100, deadline=None)
@given(prompt=ANY_TEXT, data=st.data())
def test_trace_of_any_part_of_it(model, prompt, data):
    start = data.draw(st.integers(0, max(0, len(prompt) - 1)))
    stop = data.draw(st.integers(start, len(prompt)))
    subject = prompt[start:stop]
    try:
        trace = tl.causal_trace(model, prompt, subject, corruption=tl.Noise(samples=2))
    except TwinlensError:
        return
    n = len(trace.tokens)
    assert trace.scores.shape == (4, n)
    assert trace.subject_mask.shape == (n,)
    assert trace.subject_mask.any()
    covered = [
        tl_text
        for tl_text, is_subject in zip(_pieces(trace.tokens), trace.subject_mask, strict=True)
        if is_subject
    ]
    assert set(subject) & set("".join(covered))
    assert np.isfinite(trace.samples).all()


def _pieces(tokens):
    return [tokens.text[a:b] for a, b in zip(tokens.starts, tokens.ends, strict=True)]
