"""What comes with the package is what the generator makes now, and the tokenizer is its own."""

from __future__ import annotations

import json

import pytest
from transformers import AutoTokenizer

from training import shipped_text
from training.tokenizer import tokenizer
from twinlens.model import hamlet


@pytest.mark.parametrize("name", ["facts.json", "text.jsonl", "story.txt"])
def test_shipped_files_are_those_of_the_generator(name, tmp_path):
    shipped_text.write(tmp_path)
    assert (hamlet.FOLDER / name).read_bytes() == (tmp_path / name).read_bytes()


def test_the_shipped_tokenizer_is_the_one_of_the_text():
    shipped = AutoTokenizer.from_pretrained(hamlet.FOLDER)
    assert (
        json.loads(shipped.backend_tokenizer.to_str())["model"]
        == (json.loads(tokenizer().backend_tokenizer.to_str())["model"])
    )


def test_every_phrasing_is_measured():
    world = shipped_text.facts_table()["relations"]
    for phrasing in ("seen", "kept_out"):
        used = {(r["relation_id"], r["template"]) for r in hamlet.facts(phrasing)}
        assert used == {(name, t) for name, r in world.items() for t in r[phrasing]}
