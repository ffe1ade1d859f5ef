from __future__ import annotations

from random import Random

import pytest

from training.grammar import polish, write


def test_every_choice_is_made_and_no_other():
    text = "[a|b [c|d]] {x}"
    made = {write(text, Random(seed), {"x": "!"}) for seed in range(100)}
    assert made == {"A !", "B c !", "B d !"}


def test_sentences_begin_with_a_capital_and_vowels_take_an():
    assert polish('a owl. "is it a apple?" asked Ada. it was.') == (
        'An owl. "Is it an apple?" asked Ada. It was.'
    )


@pytest.mark.parametrize("text", ["[a|b", "a]", "a|b", "[a|[b]", "{a"])
def test_brackets_that_do_not_match_are_refused(text):
    with pytest.raises(ValueError, match="bracket"):
        write(text, Random(0), {"a": "x"})


def test_a_slot_without_a_value_is_refused():
    with pytest.raises(KeyError):
        write("{who}", Random(0), {})
