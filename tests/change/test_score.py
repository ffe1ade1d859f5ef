"""Scores of edits, by hand, and fine-tuning beside them."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from twinlens.change.change import Assigned, changed
from twinlens.change.facts import Fact
from twinlens.change.finetune import fine_tune
from twinlens.change.parts import projection
from twinlens.change.score import EditScores, score_edits
from twinlens.errors import InputError
from twinlens.model import hamlet

FACT = Fact(
    "The Eiffel Tower is in the city of", "Eiffel Tower", "Seattle", truth="Paris",
    paraphrases=["You can see the Eiffel Tower in"],
    neighbours=[("The Space Needle is in the city of", "Paris"), "The other man lived in"],
    others=["The Eiffel Tower was"],
)  # fmt: skip
TEXT = ["Once upon a time, there was a little girl.", "He went home to the market in the park."]


def _mean_probability(model, prompt, answer):
    before = model.encode(prompt).ids.tolist()
    ids = model.encode(f"{prompt} {answer}").ids.tolist()
    with torch.no_grad():
        log_probs = model.hf(torch.tensor([ids])).logits[0].double().log_softmax(-1)
    each = [float(log_probs[n - 1, ids[n]]) for n in range(len(before), len(ids))]
    return math.exp(sum(each) / len(each))


def test_measures_are_what_the_prompts_say(gpt2):
    change = fine_tune(gpt2, FACT.prompt, FACT.subject, FACT.target, layer=1, lr=0.05)
    found = score_edits(gpt2, [(FACT, change)], text=TEXT)
    assert found.prompts.tolist() == [[1, 1, 2, 1]]
    with changed(gpt2, change):
        target, truth = (_mean_probability(gpt2, FACT.prompt, x) for x in ("Seattle", "Paris"))
    assert found.success[0, 0].tolist() == [0.0, 1.0] or target > truth
    assert found.magnitude[0, 0, 1] == pytest.approx(target - truth, abs=1e-5)
    target, truth = (_mean_probability(gpt2, FACT.paraphrases[0], x) for x in ("Seattle", "Paris"))
    assert found.magnitude[0, 1, 0] == pytest.approx(target - truth, abs=1e-5)
    assert found.said[0, 3, 0] == 1  # before, another fact's answer is what the model says
    nats = []
    for text in TEXT:
        ids = torch.from_numpy(gpt2.encode(text).ids)
        with torch.no_grad():
            log_probs = gpt2.hf(ids[None]).logits[0, :-1].double().log_softmax(-1)
        nats.append(-float(log_probs.gather(-1, ids[1:, None]).sum()))
    np.testing.assert_allclose(found.nats[0, 0], nats, rtol=1e-5)
    assert found.text_loss[1] - found.text_loss[0] == pytest.approx(found.increase.mean)


def test_no_change_changes_no_score(gpt2):
    weight = projection(gpt2, "mlp", 1)
    nothing = Assigned({weight.weight_name: weight.weight.clone()})
    found = score_edits(gpt2, [(FACT, nothing), (FACT, [nothing])], text=TEXT)
    for values in (found.success, found.magnitude, found.said):
        assert np.array_equal(values[..., 0], values[..., 1])
    assert found.increase == (0.0, 0.0, 0.0)


def test_facts_of_one_change_have_the_interval_of_its_documents(gpt2):
    change = fine_tune(gpt2, FACT.prompt, FACT.subject, FACT.target, layer=1, lr=0.05)
    alone = score_edits(gpt2, [(FACT, change)], text=TEXT).increase
    assert score_edits(gpt2, [(FACT, change), (FACT, change)], text=TEXT).increase == alone
    assert alone.low < alone.mean < alone.high


def test_intervals():
    scores = np.full((10, 4, 2), np.nan)
    scores[:, :3, 1] = np.array([[1, 0.5, 1]] * 10)
    none = np.zeros((10, 2, 0))
    made = EditScores(
        (FACT,) * 10,
        scores,
        scores,
        scores,
        np.ones((10, 4), np.int64),
        none,
        np.zeros(0, np.int64),
    )
    assert made.interval("success", "efficacy") == pytest.approx((1, 0.7225, 1), abs=1e-4)  # Wilson
    assert made.interval("success", "paraphrase") == pytest.approx((0.5, 0.2366, 0.7634), abs=1e-4)
    assert all(math.isnan(value) for value in made.interval("said", "others"))
    assert made.harmonic().mean == pytest.approx(3 / (1 + 2 + 1))
    assert all(math.isnan(value) for value in made.increase)
    assert made.to_dict()["others"]["after"]["success"]["mean"] is None


def test_fine_tuning_lowers_the_loss_and_keeps_within_its_bound(gpt2):
    asked = (gpt2, FACT.prompt, FACT.subject, FACT.target)
    found = projection(gpt2, "mlp", 1)
    free, bound = (fine_tune(*asked, layer=1, lr=0.01, bound=b) for b in (None, 1e-3))
    moved = [
        float((c.tensors[found.weight_name] - found.weight).abs().max()) for c in (free, bound)
    ]
    assert moved[0] > 0.01 >= 1e-3 >= moved[1] - 1e-7 > 0
    for change in (free, bound):
        with changed(gpt2, change):
            again = fine_tune(*asked, layer=1, steps=1).about["loss"]
        assert again < fine_tune(*asked, layer=1, steps=1).about["loss"]
    assert free.about["loss"] < bound.about["loss"]


@pytest.mark.parametrize("family", ["llama", "gemma2", "gpt_neox", "opt"])
def test_the_step_of_fine_tuning_is_that_of_the_models_own_weight(family, make_model):
    model = make_model(family)
    found = projection(model, "mlp", 1)
    made = fine_tune(model, FACT.prompt, FACT.subject, FACT.target, layer=1, steps=1, lr=1e-3)
    ids = model.encode(f"{FACT.prompt} {FACT.target}").ids.tolist()
    start = len(model.encode(FACT.prompt).ids)
    logits = model.hf(torch.tensor([ids])).logits[0, start - 1 : -1]
    loss = torch.nn.functional.cross_entropy(logits, torch.tensor(ids[start:]))
    (gradient,) = torch.autograd.grad(loss, [found.module.weight])
    step = made.tensors[found.weight_name] - found.weight
    clear = gradient.abs() > 1e-5  # the first step of Adam is the rate times the sign
    torch.testing.assert_close(step[clear], -1e-3 * gradient[clear].sign(), rtol=1e-2, atol=1e-5)
    assert made.about["loss"] == pytest.approx(float(loss.detach()), rel=1e-4)


@pytest.mark.parametrize("wrong", [{"bound": 0.0}, {"lr": -1.0}, {"steps": 0}, {"layer": 9}])
def test_wrong_input_is_refused(gpt2, wrong):
    with pytest.raises(InputError):
        fine_tune(gpt2, FACT.prompt, FACT.subject, FACT.target, **({"layer": 1} | wrong))


def test_what_cannot_be_scored_is_refused(gpt2):
    with pytest.raises(InputError, match="no facts"):
        score_edits(gpt2, [])
    nothing = Assigned({})
    with pytest.raises(InputError, match="must differ"):
        score_edits(gpt2, [(Fact(FACT.prompt, "Tower", "Paris", truth="Paris"), nothing)])
    with pytest.raises(InputError, match="list of prompts"):
        Fact(FACT.prompt, "Tower", "Paris", paraphrases="one")


def test_hamlets_counterfacts_are_facts():
    made = hamlet.counterfacts(40, seed=3)
    assert made == hamlet.counterfacts(40, seed=3)
    known = {(fact["prompt"], fact["attribute"]) for fact in hamlet.facts()}
    for record in made:
        fact = Fact(**record)
        assert (fact.prompt, fact.truth) in known
        assert fact.prompt not in fact.paraphrases
        assert all(fact.subject in prompt for prompt in fact.paraphrases)
        assert 5 <= len(fact.neighbours) <= 10
        assert all(answer == fact.truth != fact.target for _, answer in fact.neighbours)
        assert all(fact.subject not in prompt for prompt, _ in fact.neighbours)
        assert all(pair in known and fact.subject in pair[0] for pair in fact.others)
    with pytest.raises(InputError):
        hamlet.counterfacts(0)
