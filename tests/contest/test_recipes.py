"""Every recipe gives one change, by seed, within its cost, and leaves the model as it was."""

from __future__ import annotations

import pytest
import torch

import twinlens as tl
from tests.contest.knowing import TEXT, knowing
from twinlens.change.recover import Budget
from twinlens.contest.blue import Blue
from twinlens.contest.recipes import RECIPES, clean
from twinlens.errors import ChangeError, InputError

FEW = Budget(steps=2, batch_tokens=128, length=32, lr=1e-3)
COST = 0.03
TWO_STEPS = ("fine-pruning", "shrink-perturb")
AS_THEY_ARE = ("none", "int8", "int4")  # their strength is not chosen


def _tensors(model, name, **options):
    change = clean(model, TEXT, name, **{"budget": FEW, "cost": COST, "dose": 0.2, **options})
    return change, change.values(model)


@pytest.mark.parametrize(
    ("name", "family"),
    [(name, "gpt2") for name in RECIPES if name != "none"]
    + [(name, "llama") for name in RECIPES if name != "none" and "+" not in name],
)
def test_a_recipe_makes_a_change_within_its_cost_and_leaves_the_model(name, family, make_model):
    model = knowing(make_model(family))
    was = model.weights_hash()
    change, made = _tensors(model, name)
    assert model.weights_hash() == was
    assert not any(p.grad is not None for p in model.hf.parameters())
    assert change.plain()["kind"] == "cleaning"
    assert len(change.plain()["steps"]) == 1 + (name.count("+") or name in TWO_STEPS)
    weights = dict(model.hf.named_parameters())
    assert any(not torch.equal(tensor, weights[n]) for n, tensor in made.items())
    if not (RECIPES[name].trains or name in AS_THEY_ARE) or name == "anp":
        blue = Blue(model, TEXT, FEW)
        before = blue.before
        with tl.changed(model, change):
            assert blue.loss() - before <= COST + 1e-9
    assert model.weights_hash() == was
    if family == "gpt2":
        _, again = _tensors(model, name)
        assert made.keys() == again.keys()
        assert all(torch.equal(made[n], again[n]) for n in made)


@pytest.mark.parametrize("name", ["noise", "random-weights", "anp", "shrink-perturb"])
def test_what_is_drawn_is_drawn_by_the_seed(name, gpt2):
    (_, one), (_, other) = (_tensors(knowing(gpt2), name, seed=seed) for seed in (1, 2))
    assert one.keys() != other.keys() or any(not torch.equal(one[n], other[n]) for n in one)


def test_nothing_is_a_recipe_too(gpt2):
    change, made = _tensors(gpt2, "none")
    assert not made
    assert (change.plain()["recipe"], change.plain()["steps"]) == ("none", [])


def test_each_recipe_is_told_in_a_line():
    assert all(0 < len(one.about) < 130 and "\n" not in one.about for one in RECIPES.values())
    assert {n for n, one in RECIPES.items() if n.endswith("+recover") and one.trains} == {
        "prune+recover", "noise+recover", "prune+noise+recover", "noise+prune+recover"
    }  # fmt: skip


def test_a_family_with_experts_is_told_so(make_model):
    model = make_model("mixtral")
    for name in ("prune", "fine-pruning", "anp"):
        with pytest.raises(ChangeError, match="has experts"):
            _tensors(model, name)
    assert _tensors(model, "noise")[1]


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"recipe": "sage"}, r"recipe='sage' is not known.*noise\+recover.*shrink-perturb"),
        ({"cost": 0.0}, "cost"),
        ({"dose": float("nan")}, "dose"),
        ({"seed": -1}, "seed"),
        ({"text": ["one", "two"]}, "4 documents"),
        ({"budget": Budget(length=512)}, "length=512 is more than the 128"),
    ],
)
def test_wrong_input_is_refused(wrong, says, gpt2):
    given = {"text": TEXT, "recipe": "prune+recover", "budget": FEW} | wrong
    with pytest.raises(InputError, match=says):
        clean(gpt2, given.pop("text"), given.pop("recipe"), **given)
