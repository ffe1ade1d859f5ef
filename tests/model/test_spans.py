from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.tokenizers_ import byte_level, metaspace
from twinlens.errors import FocusError, SubjectError
from twinlens.model.spans import focus_position, occurrences, subject_mask
from twinlens.model.tokens import encode

KINDS = {"bytes": byte_level(), "sentencepiece": metaspace()}
PROMPT = "Mr and Mrs Dursley were proud. The Dursleys live near Mr and Mrs Dursley"


def _encode(kind, text):
    return encode(KINDS[kind], text, special=True, n_embeddings=10**6, context=None)


def _text(tokens, span):
    return tokens.text[tokens.starts[span[0]] : tokens.ends[span[1] - 1]]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("subject", "times"),
    [("Dursley", 2), ("Dursleys", 1), ("Mrs Dursley", 2), ("Mr and Mrs Dursley", 2), ("Mr", 2)],
)
def test_finds_words_and_several_words_and_every_occurrence(kind, subject, times):
    tokens = _encode(kind, PROMPT)
    found = occurrences(tokens, subject)
    assert len(found) == times
    for span in found:
        assert _text(tokens, span).strip() == subject


@pytest.mark.parametrize("kind", KINDS)
def test_whole_words_come_first_and_parts_of_words_are_found_where_there_is_no_other(kind):
    tokens = _encode(kind, "The man said he would")
    [span] = occurrences(tokens, "he")
    assert _text(tokens, span).strip() == "he"
    assert len(occurrences(tokens, "oul")) == 1
    assert occurrences(tokens, " he ") == occurrences(tokens, "he")


@pytest.mark.parametrize("kind", KINDS)
def test_an_emoji_that_is_several_tokens(kind):
    tokens = _encode(kind, "He is 😀 today")
    [span] = occurrences(tokens, "😀")
    assert span[1] - span[0] >= 4


@pytest.mark.parametrize("kind", KINDS)
@given(words=st.lists(st.text(min_size=1, max_size=6), min_size=1, max_size=6), data=st.data())
@settings(max_examples=150, deadline=None)
def test_the_tokens_of_a_subject_cover_it(kind, words, data):
    subject = data.draw(st.sampled_from(words))
    tokens = _encode(kind, " ".join(words))
    for start, stop in occurrences(tokens, subject):
        assert 0 <= start < stop <= len(tokens)
        covered = tokens.text[min(tokens.starts[start:stop]) : max(tokens.ends[start:stop])]
        assert subject.strip() in covered or not subject.strip()
    if subject.strip():
        assert occurrences(tokens, subject), "it is in the prompt"


def test_the_subject_lies_before_the_focus():
    tokens = _encode("bytes", PROMPT)
    first, second = occurrences(tokens, "Dursley")
    last = len(tokens) - 1
    mask = subject_mask(tokens, "Dursley", last)
    assert np.flatnonzero(mask).tolist() == list(range(*first))  # the later one is the focus
    only = subject_mask(_encode("bytes", "Mrs Dursley"), "Dursley", second[1] - second[0])
    assert only.any(), "a subject that ends at the focus is taken where there is no earlier one"
    several = subject_mask(tokens, ["Dursley", (0, 1)], last)
    assert several[0]
    assert several.sum() == mask.sum() + 1


def test_a_focus_is_an_index_or_a_text():
    tokens = _encode("bytes", PROMPT)
    assert focus_position(tokens, -1) == len(tokens) - 1
    assert focus_position(tokens, 3) == 3
    assert focus_position(tokens, "Dursley") == occurrences(tokens, "Dursley")[-1][0]
    for wrong in (len(tokens), -len(tokens) - 1, "Potter"):
        with pytest.raises(FocusError):
            focus_position(tokens, wrong)


def test_what_is_near_is_listed():
    tokens = _encode("bytes", PROMPT)
    with pytest.raises(SubjectError, match="near it: 'Mrs Dursley'"):
        subject_mask(tokens, "Mrs Dursly", 5)
    with pytest.raises(SubjectError, match="its words: Mr, and, Mrs"):
        subject_mask(tokens, "Qqqqq", 5)
