"""Cloze items: right where greedy decoding gives the answer, and bounds that assume no shape."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

import twinlens as tl
from twinlens.change.change import Assigned, changed
from twinlens.change.cloze import _bounds, _share, cloze_of, judge, read_items
from twinlens.errors import InputError


def greedy(model: tl.Model, prompt: str, n: int) -> str:
    ids = torch.from_numpy(model.encode(prompt).ids)[None]
    with torch.no_grad():
        made = model.hf.generate(ids, max_new_tokens=n, do_sample=False, pad_token_id=0)
    return model.tokenizer.decode(made[0, ids.shape[1] :])


def test_an_item_is_right_where_greedy_decoding_gives_the_answer():
    model = tl.load("hamlet")
    facts = tl.hamlet.facts("kept_out")[:12]
    wrong = [dict(fact, attribute="clay soup") for fact in facts[:3]]
    cloze = cloze_of(model, [*facts, *wrong])
    expected = [
        greedy(model, item["prompt"], 8).startswith(f" {item['attribute']}")
        for item in [*facts, *wrong]
    ]
    assert cloze.right(model, 256).tolist() == expected
    assert 0 < sum(expected) < 15


def test_a_verdict_takes_the_items_into_account(gpt2):
    prompts = [f"Lily and Tom had {n} dogs and the" for n in range(60)]
    items = [(prompt, greedy(gpt2, prompt, 1)) for prompt in prompts]
    items = [item for item in items if item[1].isascii() and item[1].strip()]
    reference = tl.Gate(["a b c"], items=items, items_margin=0.05).of(gpt2)
    same = reference.check(gpt2)
    assert same.passed
    assert same.task is not None
    assert (same.task.verdict, same.task.loss, same.task.lost) == ("pass", 0, 0)
    flat = Assigned({"transformer.ln_f.weight": torch.zeros(32)})
    with changed(gpt2, flat):
        verdict = reference.check(gpt2)
    assert verdict.task is not None
    assert verdict.task.before > 0.5
    assert verdict.task.after < 0.1
    assert verdict.task.verdict == verdict.verdict == "fail"


@pytest.mark.parametrize("item", [("a", ""), {"prompt": "a"}, {"answer": "b"}])
def test_what_is_no_item_is_refused(gpt2, item):
    with pytest.raises(InputError, match="no pair of prompt and answer"):
        cloze_of(gpt2, [("Lily", " loved"), item])


def test_bounds_of_a_share_are_clopper_and_pearsons():
    assert _share(0, 50, 0.025) == pytest.approx(1 - 0.025 ** (1 / 50))
    assert _share(5, 100, 0.025) == pytest.approx(0.11284, abs=1e-5)  # R: binom.test(5, 100)
    assert 1 - _share(95, 100, 0.025) == pytest.approx(0.01643, abs=1e-5)
    assert _share(7, 7, 0.05) == 1


def test_a_loss_of_the_margin_passes_in_at_most_the_level():
    random = np.random.default_rng(0)
    drawn = random.multinomial(400, [0.03, 0.01, 0.96], size=2000)[:, :2]
    pairs, times = np.unique(drawn, axis=0, return_counts=True)
    passed = [_bounds(lost, gained, 400, 0.05, 0.05)[1] < 0.02 for lost, gained in pairs.tolist()]
    assert 0 < (times * passed).sum() / 2000 <= 0.05


def test_a_loss_is_judged_and_where_it_cannot_tell_more_items_are_asked_for():
    before, after = np.ones(400, dtype=bool), np.ones(400, dtype=bool)
    assert judge(before, after, 0.02, 0.05, 0.05, 0.05).verdict == "pass"
    after[:40] = False
    lost = judge(before, after, 0.02, 0.05, 0.05, 0.05)
    assert (lost.verdict, lost.lost, lost.gained, lost.loss) == ("fail", 40, 0, 0.1)
    few = judge(before[:60], after[340:], 0.02, 0.05, 0.05, 0.05)
    assert few.verdict == "cannot tell"
    assert few.needed is not None
    enough = np.ones(few.needed, dtype=bool)
    assert judge(enough, enough, 0.02, 0.05, 0.05, 0.05).verdict == "pass"


def test_items_of_files(tmp_path):
    items = [{"prompt": "a", "answer": " b"}, {"prompt": "c", "answer": " d"}]
    (tmp_path / "x.json").write_text(json.dumps(items))
    (tmp_path / "x.jsonl").write_text("\n".join(map(json.dumps, items)) + "\n")
    assert read_items(tmp_path / "x.json") == read_items(tmp_path / "x.jsonl") == items
    (tmp_path / "x.json").write_text('{"a": 1}')
    for name in ("x.json", "none.json"):
        with pytest.raises(InputError):
            read_items(tmp_path / name)
