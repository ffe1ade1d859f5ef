"""`twinlens edit` as a user types it."""

from __future__ import annotations

import json

import pytest
import torch

import twinlens as tl
from tests.conftest import random_model
from twinlens import cli

PROMPT = ("--prompt", "The Silent Tower is in the city of", "--subject", "Silent Tower")
FACT = (*PROMPT, "--target", "Marrow", "--layer", "1")
NOBODY = ("--prompt", "The Silent Tower is in", "--subject", "Nobody", "--target", "Marrow")
QUICK = ("--samples", "8", "--length", "32", "--ridge", "0.001", "--steps", "3", "--cache")


def run(capsys, *arguments: object) -> tuple[int | str | None, str, str]:
    with pytest.raises(SystemExit) as stop:
        cli.main(["edit", *map(str, arguments)])
    output, messages = capsys.readouterr()
    return stop.value.code, output, messages


def test_it_tells_the_top_tokens_the_scores_and_that_a_trace_is_no_advice(capsys, tmp_path):
    code, output, _ = run(
        capsys, "hamlet", *FACT, *QUICK, tmp_path,
        "--paraphrase", "You can see the Silent Tower in",
        "--neighbour", "The Royal Tower is in the city of",
    )  # fmt: skip
    assert code == 0
    assert "␣Bellhaven" in output
    for name in ("efficacy", "paraphrase", "neighbourhood", "score", "no advice where to edit"):
        assert name in output
    assert len(list(tmp_path.glob("*.safetensors"))) == 1


def test_a_copy_is_written_and_lens_and_trace_before_and_after_as_one_page(
    capsys, tmp_path, tokenizer
):
    random_model("llama", tokenizer).save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    page, copy = tmp_path / "edit.html", tmp_path / "copy"
    code, _, messages = run(
        capsys, tmp_path / "model", "--prompt", "The Eiffel Tower is in", "--subject", "Tower",
        "--target", "Seattle", "--layer", 1, "--method", "fine-tune", "--steps", 2, "--trace", page,
        "-o", copy,
    )  # fmt: skip
    assert code == 0
    assert str(copy) in messages
    before, after = (tl.load(path) for path in (tmp_path / "model", copy))
    moved = [
        name
        for name, tensor in before.hf.state_dict().items()
        if not torch.equal(tensor, after.hf.state_dict()[name])
    ]
    assert moved == ["model.layers.1.mlp.down_proj.weight"]
    written = page.read_text("utf-8")
    assert '"before"' in written
    assert '"after"' in written


def test_several_facts_and_json(capsys, tmp_path):
    facts = tmp_path / "facts.jsonl"
    records = [
        {"prompt": "The Silent Tower is in the city of", "subject": "Silent Tower",
         "target": "Marrow", "neighbours": [["The Royal Tower is in the city of", "Harnmouth"]]},
        {"prompt": "The Royal Tower is in the city of", "subject": "Royal Tower",
         "target": "Corrin", "others": ["The Royal Tower is made of"]},
    ]  # fmt: skip
    facts.write_text("\n".join(map(json.dumps, records)), "utf-8")
    code, output, _ = run(
        capsys, "--facts", facts, "--layer", 1, "--method", "fine-tune", "--lr", 0.01, "--steps", 6,
        "--json",
    )  # fmt: skip
    assert code == 0
    told = json.loads(output)
    assert [one["target"] for one in told["edits"]] == ["Marrow", "Corrin"]
    assert told["edits"][0]["weights"] != told["edits"][1]["weights"]  # one after the other
    assert told["scores"]["facts"] == 2
    assert told["scores"]["text"]["loss"]["before"] is None
    assert told["top"]["after"][0][0] != "␣Bellhaven"
    assert "Hase" in told["notes"][0]


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (PROMPT, "--target"),
        (("--facts", "nowhere.jsonl"), "do not exist"),
        ((*FACT[:-2], "--facts", "x.jsonl"), "give --facts, or"),
        ((*FACT[:-2], "--text", "hamlet", "--samples", "3"), "not both"),
        ((*FACT[:-2], "--samples", "2"), "are 256 tokens, fewer than the 768 inputs"),
        ((*FACT[:-2], "--samples", "9", "--loss-text", "none.txt"), "none.txt does not exist"),
        ((*FACT[:-2], "--samples", "9", "--ridge", "-1"), "of at least 0"),
        (FACT[:-2], "--text FILE"),
        ((*FACT[:-2], "--samples", "3", "--bound", "0.1"), "--bound does not go"),
        ((*FACT[:-2], "--samples", "3", "--trace", "x.png"), ".html"),
        ((*FACT[:-2], "--samples", "3", "-o", "/"), "is there already"),
        ((*NOBODY, "--samples", "1"), "not in the prompt"),
    ],
)
def test_what_cannot_be_asked_is_one_line(capsys, tmp_path, wrong, says):
    code, output, messages = run(capsys, *wrong, "--layer", 1, "--cache", tmp_path)
    assert code == 2
    assert not output
    assert messages.startswith("twinlens: ")
    assert messages.count("\n") == 1
    assert says in messages


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("{", "no JSON"),
        ("[]", "no fact"),
        ('{"prompt": "a", "subject": "a"}', "no fact"),
        ('{"prompt": "a", "subject": "a", "target": "b", "more": 1}', "'more' is not known"),
        ('{"prompt": "a", "subject": "a", "target": 3}', "must be a text"),
        ('{"prompt": "a", "subject": "a", "target": "b", "paraphrases": "c"}', "must be a list"),
        ('{"prompt": "a", "subject": "a", "target": "b", "neighbours": [[1, 2]]}', "must be a"),
        ("", "has no facts"),
    ],
)
def test_facts_that_are_none_are_refused_with_their_line(capsys, tmp_path, line, says):
    facts = tmp_path / "facts.jsonl"
    facts.write_text(line + "\n", "utf-8")
    code, _, messages = run(capsys, "--facts", facts, "--layer", 1, "--samples", 1)
    assert code == 2
    assert says in messages
