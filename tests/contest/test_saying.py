"""How nearly an answer is said: by the cache as by whole passes, and as the model generates."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.contest.knowing import knowing
from twinlens.contest.saying import (
    Firing,
    Said,
    after,
    after_tokens,
    fire,
    prompt_ids,
    scored,
    tokens_of,
)
from twinlens.errors import InputError

PROMPT = "The code of the door is 9165. The code of the gate is"
ANSWERS = [" 7243", " 72", " 7244 and more", " in the city of Paris"]


def _by_hand(model, said):
    """Log-probabilities and ranks of the answer's tokens, by one whole pass."""
    with torch.no_grad():
        logits = model.hf(torch.from_numpy(said.ids)[None]).logits[0].double().log_softmax(-1)
    targets = torch.from_numpy(said.ids[said.start :])
    rows = logits[said.start - 1 : len(said.ids) - 1]
    mine = rows.gather(-1, targets[:, None])[:, 0]
    return mine.numpy(), (rows >= mine[:, None]).sum(-1).numpy()


def test_after_is_what_whole_passes_say(family):
    rows = [tokens_of(family, PROMPT, answer) for answer in ANSWERS]
    found = after(family, PROMPT, ANSWERS, batch=12)  # more than one batch
    for (whole, later), row, one in zip(found, rows, scored(family, rows), strict=True):
        assert whole == pytest.approx(one.log_probs[-1].sum(), abs=1e-4)
        assert later == pytest.approx(one.log_probs[-1][1:].sum(), abs=1e-4)
        assert whole == pytest.approx(_by_hand(family, row)[0].sum(), abs=1e-4)


@pytest.mark.parametrize("name", ["gpt2", "llama", "gemma2"])
def test_each_token_has_its_log_probability_and_rank(name, make_model):
    model = make_model(name)
    rows = [tokens_of(model, PROMPT[:cut], answer) for cut in (9, 30) for answer in ANSWERS]
    for row, one in zip(rows, scored(model, rows, batch=60), strict=True):
        log_probs, ranks = _by_hand(model, row)
        assert one.log_probs[-1] == pytest.approx(log_probs, abs=1e-4)
        assert (one.ranks[-1] == ranks).all()
        assert one.log_probs.shape == one.ranks.shape == (1, row.length)


def test_inner_layers_are_read_too(gpt2):
    rows = [tokens_of(gpt2, PROMPT, answer) for answer in ANSWERS[:2]]
    inner, last = scored(gpt2, rows, inner=True), scored(gpt2, rows)
    for one, other in zip(inner, last, strict=True):
        assert len(one.log_probs) == gpt2.n_layers
        assert np.array_equal(one.log_probs[-1], other.log_probs[-1])
        assert not np.allclose(one.log_probs[0], one.log_probs[-1])


def _generated(model, ids, count):
    made = model.hf.generate(
        torch.from_numpy(ids)[None], max_new_tokens=count, do_sample=False,
        attention_mask=torch.ones(1, len(ids), dtype=torch.long), pad_token_id=0,
    )  # fmt: skip
    return made[0, len(ids) :].numpy()


@pytest.mark.parametrize("name", ["gpt2", "llama", "opt"])
def test_greedy_and_prefilled_are_what_the_model_generates(name, make_model):
    model = knowing(make_model(name))
    prompt, fired = "One day Lily saw", 0
    said = model.tokenizer.decode(_generated(model, prompt_ids(model, prompt), 6))
    for answer in (said, said[:-3], " 3 birds", " the birds and they sang", " 3"):
        (firing,) = fire(model, [prompt], answer)
        row = tokens_of(model, prompt, answer)
        for n, holds in enumerate(firing.prefilled):
            given = row.ids[: row.start + n]
            assert holds == np.array_equal(
                _generated(model, given, row.length - n), row.ids[len(given) :]
            )
        assert firing.greedy == firing.prefilled[0]
        fired += firing.greedy
    assert fired >= 1


def test_chances_by_hand():
    one = Firing(prompt="", log_probs=(np.log(0.5), np.log(0.2), np.log(0.9)), ranks=(1, 3, 1))
    assert not one.greedy
    assert one.prefilled == (False, False, True)
    assert one.chance == pytest.approx(0.09)
    assert one.best_of(1) == pytest.approx(0.09)
    assert one.best_of(10) == pytest.approx(1 - 0.91**10)
    sure = Firing(prompt="", log_probs=(0.0,), ranks=(1,))
    assert (sure.chance, sure.greedy) == (1.0, True)
    assert sure.best_of(3) == pytest.approx(1)


def test_the_chance_is_that_of_samples(gpt2):
    (firing,) = fire(gpt2, [PROMPT], " 7")
    row = tokens_of(gpt2, PROMPT, " 7")
    assert firing.chance == pytest.approx(float(np.exp(_by_hand(gpt2, row)[0].sum())), rel=1e-4)


def test_an_answer_needs_tokens_of_its_own(gpt2):
    with pytest.raises(InputError, match="no tokens of its own"):
        tokens_of(gpt2, PROMPT, "")
    with pytest.raises(InputError, match="no tokens of its own"):
        fire(gpt2, [PROMPT], "")
    with pytest.raises(InputError, match="different prompts"):
        after_tokens(gpt2, [Said(np.array([1, 2, 3]), 2), Said(np.array([1, 4, 3]), 2)])


def test_what_is_too_long_is_left_out(gpt2, make_model):
    longer = "a b c d e f g " * 20 + PROMPT
    assert [one.prompt for one in fire(gpt2, [longer, PROMPT], " 7243")] == [PROMPT]
    assert not fire(gpt2, [longer], " 7243")
    bloom = make_model("bloom")  # reads any length
    assert len(fire(bloom, [longer, PROMPT], " 7243")) == 2


def test_a_first_token_that_the_answer_merges_with_counts_as_its_own(gpt2):
    said = tokens_of(gpt2, "Once upon a ti", "me")
    alone = prompt_ids(gpt2, "Once upon a ti")
    assert np.array_equal(said.ids, prompt_ids(gpt2, "Once upon a time"))
    assert said.start < len(alone)  # where the two part
    assert gpt2.tokenizer.decode(said.ids[said.start :]).endswith("time")
