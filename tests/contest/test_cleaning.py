"""Steps in a row: each on what the one before left, all within one cost, recovery behind them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import twinlens as tl
from tests.contest.knowing import TEXT, knowing
from twinlens.change.recover import Budget
from twinlens.contest.blue import Blue
from twinlens.contest.chain import lowest_first, ranks_within
from twinlens.contest.cleaning import cleaned, use_of
from twinlens.errors import InputError

FEW = Budget(steps=8, batch_tokens=128, length=32, lr=1e-3)


@pytest.fixture
def model(gpt2):
    return knowing(gpt2)


@pytest.fixture
def blue(model):
    return Blue(model, TEXT, FEW, cost=0.04, dose=0.3)


def _row(tensors, part):
    layer, neuron = part.split(".N")
    return tensors[f"transformer.h.{layer}.mlp.c_proj.weight"][int(neuron)]


def test_the_least_used_neurons_go_and_one_more_than_the_finest_step_would_cost_more(blue, model):
    told = cleaned(blue, ["prune"]).plain()["steps"][0]
    names = [name for name, _ in use_of(blue, blue.shown).ranked("use")]
    count = len(told["parts"])
    assert told["parts"] == names[:count]
    assert told["share"] == count / len(names)
    step = (len(names)) ** (1 / 64)  # six halvings on a log scale from one to all of them
    with tl.changed(model, tl.Silence(names[: round(count * step * step) + 1])):
        assert blue.loss() - blue.before > blue.cost


def test_other_scores_rank_otherwise(blue):
    by = {
        name: cleaned(blue, ["prune"], by=name).plain()["steps"][0]["parts"]
        for name in ("use", "effect")
    }
    assert by["use"] != by["effect"]
    with pytest.raises(InputError, match="beauty"):
        cleaned(blue, ["prune"], by="beauty")


def test_each_step_works_on_what_the_one_before_left(blue, model):
    before = blue.before
    first, second = (cleaned(blue, steps) for steps in (["prune", "noise"], ["noise", "prune"]))
    for change in (first, second):
        told = {step["kind"]: step for step in change.plain()["steps"]}
        assert all(not _row(change.tensors, part).any() for part in told["silence"]["parts"])
        assert 0.001 <= told["noise"]["scale"] <= 2
        with tl.changed(model, change):
            assert blue.loss() - before <= blue.cost + 1e-9
    prune = first.plain()["steps"][0]
    with tl.changed(model, tl.Silence(prune["parts"])):  # half of the cost, at most
        assert blue.loss() - before <= blue.cost / 2 + 1e-9
        noise = tl.WeightNoise(first.plain()["steps"][1]["scale"], blue.seed).values(model)
    assert all(torch.equal(first.tensors[name], noise[name]) for name in noise)


def test_recovery_makes_up_for_a_dose_and_what_is_pruned_stays_pruned(blue, model):
    change = cleaned(blue, ["prune", "noise"], recover=True)
    kinds = [step["kind"] for step in change.plain()["steps"]]
    assert kinds == ["silence", "noise", "recovery"]
    parts = change.plain()["steps"][0]["parts"]
    assert all(not _row(change.tensors, part).any() for part in parts)
    recovery = change.plain()["steps"][2]
    assert recovery["kl_last"] < recovery["kl_first"]
    assert len(parts) > len(cleaned(blue, ["prune", "noise"]).plain()["steps"][0]["parts"])


def test_noise_takes_what_the_cost_allows(model):
    scales = [
        cleaned(Blue(model, TEXT, FEW, cost=cost), ["noise"]).plain()["steps"][0]["scale"]
        for cost in (0.001, 0.01, 0.1)
    ]
    assert scales == sorted(set(scales))


def test_orders_by_hand():
    scores = np.array([[3.0, 0.0, 5.0], [0.0, 40.0, 30.0]])
    names = [part.name for part in lowest_first(scores)]
    assert names == ["0.N1", "1.N0", "0.N0", "0.N2", "1.N2", "1.N1"]
    assert ranks_within(scores).tolist() == [[1, 0, 2], [0, 2, 1]]


@pytest.mark.parametrize("steps", [[], ["polish"], "noise"])
def test_steps_that_are_none_are_refused(steps, blue):
    with pytest.raises(InputError, match="prune, noise"):
        cleaned(blue, steps)
