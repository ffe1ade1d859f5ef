"""Text that stands in two places is found by its words, whatever their case and punctuation."""

from __future__ import annotations

import numpy as np
import pytest

import twinlens as tl
from twinlens.change.overlap import WORDS, refuse_shared, shared_text
from twinlens.errors import InputError, OverlapError

RUN = "One two three, four five six; seven eight nine ten eleven TWELVE thirteen"


def apart(seed: int, n: int = 5, words: int = 60) -> list[str]:
    random = np.random.default_rng(seed)
    return [" ".join(f"w{i}" for i in random.integers(0, 30, words)) for _ in range(n)]


def test_a_run_of_13_words_is_found_and_said_where():
    first, second = apart(0), apart(1)
    first[3] += " here: " + RUN
    second[1] = RUN.lower().replace(",", "") + " and on " + second[1]
    (found,) = shared_text({"scoring": first, "gate": second, "final": apart(2)})
    assert found[:4] == ("scoring", 3, "gate", 1)
    assert found.run.split() == RUN.lower().replace(",", "").replace(";", "").split()
    assert len(found.run.split()) == WORDS


def test_twelve_words_are_no_run_but_a_whole_short_document_is():
    short = " ".join(RUN.split()[:-1])
    assert shared_text({"a": ["before " + short + " after"], "b": [short + " later"]}) == ()
    (found,) = shared_text({"a": [*apart(0), short], "b": [short.upper() + "."]})
    assert found.first_document == 5


def test_all_pairs_agree_with_a_plain_search():
    def runs(text: str, n: int) -> set[tuple[str, ...]]:
        words = text.split()
        return {tuple(words[at : at + n]) for at in range(len(words) - n + 1)}

    first, second = apart(3, 30), apart(4, 30)
    expected = {
        (a, b)
        for a, one in enumerate(first)
        for b, other in enumerate(second)
        if runs(one, 3) & runs(other, 3)
    }
    found = shared_text({"a": first, "b": second}, words=3)
    assert {(one.first_document, one.second_document) for one in found} == expected
    assert len(found) == len(expected) > 100
    assert shared_text({"a": first, "b": second}, words=3, limit=7) == found[:7]


def test_the_error_names_documents_and_holds_all_pairs():
    with pytest.raises(OverlapError, match=r"document 0 of 'a' and 0 of 'b'.*2 more") as caught:
        refuse_shared({"a": apart(0), "b": apart(0)})
    assert len(caught.value.pairs) == 5
    refuse_shared({"a": apart(0), "b": apart(1)})


def test_hamlets_own_texts_have_few_runs_in_common():
    texts = {"validation": tl.hamlet.text(), "final": tl.hamlet.text("final")}
    assert len(tl.shared_text(texts)) == 5


def test_texts_of_other_scripts_and_without_words():
    assert len(shared_text({"a": ["猫が好き " * 13], "b": ["猫が好き " * 13]})) == 1
    assert len(shared_text({"a": ["!?"], "b": ["!?", "??"]})) == 1


@pytest.mark.parametrize("wrong", [{"texts": {"a": []}}, {"texts": {"a": "x.pdf"}}, {"words": 0}])
def test_what_cannot_be_searched_is_refused(wrong):
    with pytest.raises(InputError):
        shared_text(**{"texts": {"a": ["x"]}} | wrong)
