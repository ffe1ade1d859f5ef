from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.tokenizers_ import byte_level, metaspace, wordpiece
from twinlens.errors import AnswerError, PromptError
from twinlens.model.tokens import encode, labels, one_token, visible

KINDS = {"bytes": byte_level(), "sentencepiece": metaspace(), "wordpiece": wordpiece()}


def _encode(tokenizer, text, special=True, context=None):
    return encode(tokenizer, text, special=special, n_embeddings=len(tokenizer), context=context)


def test_labels_show_what_is_there():
    for kind in ("bytes", "sentencepiece"):
        tokens = _encode(KINDS[kind], "Lily\tran\nhome", special=False)
        shown = "".join(tokens.labels)
        assert shown.strip("␣") == "Lily⇥ran⏎home"


def test_bytes_are_shown_where_a_character_is_split():
    for kind in ("bytes", "sentencepiece"):
        tokens = _encode(KINDS[kind], "é😀", special=False)
        shown = " ".join(tokens.labels).replace("› ‹", " ")
        assert "C3 A9" in shown or "é" in shown
        assert "F0 9F 98 80" in shown


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        (b" Paris", "␣Paris"),
        (b"\n\n", "⏎⏎"),
        (b"\xe2\x82", "‹E2 82›"),
        (b"\xff", "‹FF›"),
        ("\u200b".encode(), "‹U+200B›"),
        ("\u202e".encode(), "‹U+202E›"),
        ("\u0301".encode(), "◌\u0301"),
        (b"<img onerror=x>", "<img␣onerror=x>"),
        ("中".encode(), "中"),
        (b"a\xc3", "a‹C3›"),
    ],
)
def test_visible(raw, shown):
    assert visible(raw) == shown


def test_special_tokens_are_marked_and_named():
    tokens = _encode(KINDS["sentencepiece"], "Lily")
    assert tokens.special.tolist()[:1] == [True]
    assert tokens.labels[0] == "<s>"
    assert not tokens.special[1:].any()
    assert (tokens.starts[0], tokens.ends[0]) == (0, 0)
    assert not _encode(KINDS["sentencepiece"], "Lily", special=False).special.any()


def test_ids_without_a_piece_have_a_label():
    assert labels(KINDS["bytes"], [10**6]) == [f"‹#{10**6}›"]


@pytest.mark.parametrize("kind", KINDS)
@given(text=st.text(max_size=40))
@settings(max_examples=150, deadline=None)
def test_any_text_has_tokens_over_its_characters_or_a_named_error(kind, text):
    try:
        tokens = _encode(KINDS[kind], text)
    except PromptError:
        return
    assert len(tokens.labels) == len(tokens.ids) == len(tokens.starts) == len(tokens.ends)
    assert (tokens.starts <= tokens.ends).all()
    assert tokens.ends.max(initial=0) <= len(text)
    assert all(tokens.labels)
    assert not any(c in label for label in tokens.labels for c in "\n\t\r\x00 ")
    if kind != "wordpiece":  # which drops spaces and control characters
        covered = np.zeros(len(text), bool)
        for start, end in zip(tokens.starts, tokens.ends, strict=True):
            covered[start:end] = True
        assert covered.all()


def test_what_cannot_be_encoded_is_said():
    with pytest.raises(PromptError, match="empty"):
        _encode(KINDS["bytes"], "")
    with pytest.raises(PromptError, match=r"lone surrogate \(U\+D800\)"):
        _encode(KINDS["bytes"], "a\ud800")
    with pytest.raises(PromptError, match=r"\d+ tokens, but the model reads at most 3"):
        _encode(KINDS["bytes"], "Once upon a time there was", context=3)
    with pytest.raises(PromptError, match="does not belong to this model"):
        encode(KINDS["bytes"], "Lily", special=True, n_embeddings=5, context=None)


def test_one_token_as_it_follows_the_text():
    tokenizer = KINDS["sentencepiece"]
    prompt = "The Eiffel Tower is in the city of"
    after = _encode(tokenizer, prompt + " the").ids[-1]
    assert one_token(tokenizer, " the", before=prompt) == after
    assert one_token(tokenizer, "the", before=prompt + " ") == after
    bytes_level = KINDS["bytes"]
    assert one_token(bytes_level, " the") == _encode(bytes_level, " the").ids[0]


def test_several_tokens_are_refused_with_their_pieces():
    with pytest.raises(AnswerError, match=r"5 tokens of this model \(.*\|.*\); expected one"):
        one_token(KINDS["bytes"], "qxzvk", what="answer")
    with pytest.raises(AnswerError, match="is empty"):
        one_token(KINDS["bytes"], "", what="answer")


class _Slow:
    """A tokenizer that gives no offsets, as the ones written in Python."""

    is_fast = False

    def __init__(self, inner):
        self.inner = inner

    def __getattr__(self, name):
        return getattr(self.inner, name)

    def __len__(self):
        return len(self.inner)

    def __call__(self, text, **options):
        return {"input_ids": self.inner(text, **options)["input_ids"]}


@pytest.mark.parametrize("kind", ["bytes", "sentencepiece"])
@pytest.mark.parametrize(
    "text", ["Mr and Mrs Dursley lived in", "Zoë went\nhome 😀 today", " a  b"]
)
def test_offsets_by_decoding_are_those_of_the_fast_tokenizer(kind, text):
    fast, slow = _encode(KINDS[kind], text), _encode(_Slow(KINDS[kind]), text)
    assert fast.labels == slow.labels
    for index, label in enumerate(fast.labels):
        if label.strip("␣") and fast.starts[index] < fast.ends[index]:
            assert slow.starts[index] <= fast.ends[index]
            assert slow.ends[index] == fast.ends[index], label
