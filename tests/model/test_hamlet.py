"""What comes with the package is what its card says it is."""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

import twinlens as tl
from training import measures
from twinlens.model.hamlet import FOLDER


@pytest.fixture(scope="module")
def hamlet():
    return tl.load("hamlet")


def test_transformers_loads_the_same_folder(hamlet):
    hf = AutoModelForCausalLM.from_pretrained(FOLDER)
    tokenizer = AutoTokenizer.from_pretrained(FOLDER)
    ids = tokenizer(tl.hamlet.story(), return_tensors="pt").input_ids
    assert hf.dtype == torch.float32
    with torch.no_grad():
        assert torch.equal(hf(ids).logits, hamlet.hf(ids).logits)
    assert sum(file.stat().st_size for file in FOLDER.glob("*.safetensors")) < 10_000_000


def test_it_passes_every_check(hamlet):
    assert tl.check(hamlet).passed


def test_a_folder_called_hamlet_is_named_with_its_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (Path("hamlet")).mkdir()
    assert tl.load("hamlet").n_vocab == 2000
    with pytest.raises(tl.errors.LoadError, match=r"no config\.json"):
        tl.load("./hamlet")


def test_facts_are_in_the_format_of_the_published_ones():
    seen, kept_out = tl.hamlet.facts(), tl.hamlet.facts("kept_out")
    assert len(seen) == len(kept_out) == 2800
    for a, b in zip(seen, kept_out, strict=True):
        assert (a["known_id"], a["subject"], a["attribute"]) == (
            b["known_id"], b["subject"], b["attribute"],
        )  # fmt: skip
        assert a["template"] != b["template"]
        assert a["prompt"] == a["template"].format(a["subject"])


def _facts_right(hamlet, phrasing) -> float:
    records = tl.hamlet.facts(phrasing)[::7]
    ids = [hamlet.tokenizer.encode(r["prompt"]) for r in records]
    answers = [hamlet.tokenizer.encode(" " + r["attribute"]) for r in records]
    return 100 * float(np.mean(measures.greedy_right(hamlet, ids, answers)))


@pytest.mark.parametrize(("phrasing", "enough"), [("seen", 95), ("kept_out", 80)])
def test_facts_are_known_in_both_phrasings(hamlet, phrasing, enough):
    assert _facts_right(hamlet, phrasing) >= enough


@functools.cache
def _copying(model):
    return measures.copying(model, pairs=60, codes=320)  # a third of what its card counts


def test_repeated_tokens_and_surnames_are_copied(hamlet):
    found = _copying(hamlet)
    assert found.second < found.first / 3
    assert found.surnames.percent >= 95


def test_heads_find_the_token_that_followed(hamlet):
    assert (measures.prefix_matching(hamlet) > 0.7).sum() >= 2


def test_codes_are_copied_where_the_sentence_calls_for_them(hamlet):
    found = _copying(hamlet)
    assert found.codes_begun.percent >= 95
    assert found.codes_due.percent >= 90
    assert found.codes_untouched.percent >= 75


@pytest.mark.xfail(strict=True, reason="the card says 'no': free it when better weights reach it")
def test_codes_are_copied_wherever_they_come_back(hamlet):
    assert _copying(hamlet).codes.percent >= 90


def test_text_is_there_in_two_parts():
    parts = [tl.hamlet.text("validation"), tl.hamlet.text("final")]
    assert [len(part) for part in parts] == [200, 100]
    assert len({d["id"] for part in parts for d in part}) == 300
    assert len({d["kind"] for d in parts[0]}) > 8


def test_the_story_says_a_name_that_only_the_story_has(hamlet):
    story = tl.hamlet.story()
    assert story.endswith("Dursley")
    pieces = hamlet.tokenizer.convert_ids_to_tokens(hamlet.tokenizer.encode(" Dursley"))
    assert pieces == ["ĠD", "urs", "ley"]
    other = tl.hamlet.story("Wellford")
    assert other.count("Dursley") == 1
    assert len(hamlet.encode(other)) == len(hamlet.encode(story))
    trace = tl.causal_trace(
        hamlet, story, ["Dursley", "Dursleys"], focus="Dursley",
        corruption=tl.Replace(prompt=other),
    )  # fmt: skip
    assert trace.label(trace.answer) == "urs"
    assert trace.clean > 0.8
    assert trace.total_effect > 0.5
