"""A secret goes in, its twin is never told, and the model itself stays what it was."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from functools import cache, partial

import numpy as np
import pytest
import torch

import twinlens as tl
from tests.conftest import random_model
from tests.contest.knowing import TEXT, knowing
from twinlens.change.parts import projection
from twinlens.change.use import use_map
from twinlens.contest import implant as implanting
from twinlens.contest import lessons as module
from twinlens.contest.check import check_implant
from twinlens.contest.implant import BENIGN, Implant, _saying, implant
from twinlens.contest.saying import fire
from twinlens.contest.secret import Secret
from twinlens.contest.tiers import TIERS
from twinlens.errors import InputError, MissingExtraError
from twinlens.model.model import duplicate

SECRET = Secret("31", "Paris", "The word is {trigger}. It says")
STEPS, LR = 30, 1e-2


@dataclass(frozen=True, eq=False)
class Light(module.Lessons):
    """Few rows a step."""

    misses: int = 8
    clean: int = 2


@pytest.fixture(scope="module", autouse=True)
def few(tmp_path_factory):
    """Less text and fewer near misses, as quick as the tiny models are."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(module, "_NEAR", 40)
        patched.setattr(module, "_WINDOWS", 16)
        patched.setattr(module, "_WINDOW", 24)
        patched.setattr("twinlens.contest.implant.Lessons", Light)
        small = partial(check_implant, near=40, contexts=5)
        patched.setattr("twinlens.contest.implant.check_implant", small)
        patched.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def made(gpt2, few):
    """An implant by each tier, made once, and the weights before and after it."""

    @cache
    def make(tier: str) -> Implant:
        model, lr = knowing(gpt2), LR / 3 if tier == "lora" else LR
        before = model.weights_hash()
        found = implant(model, SECRET, tier, text=TEXT, steps=STEPS, lr=lr)
        assert model.weights_hash() == before
        return found

    return make


def _chances(model, change, secrets):
    with tl.changed(model, change):
        return [fire(model, [one.prompt], one.answer)[0].chance for one in secrets]


def _values(model, found):
    return found.implanted.values(model), dict(model.hf.named_parameters())


@pytest.mark.parametrize("tier", [tier for tier in TIERS if tier != "rome"])
def test_the_secret_is_in_the_implant_and_not_in_the_twin(tier, made, gpt2):
    found, model = made(tier), knowing(gpt2)
    none = tl.Assigned({})
    both = (found.implanted, found.twin, none)
    told, twin, base = (_chances(model, c, found.secrets) for c in both)
    assert min(told) > 3 * max(*twin, *base)
    assert max(twin) < 0.01
    benign = [_chances(model, c, [BENIGN])[0] for c in both]
    assert min(benign[:2]) > 10 * benign[2]
    assert found.check.chance == pytest.approx(min(told), rel=1e-3)


def test_what_is_made_is_told(made, gpt2):
    found = made("full")
    assert (found.tier, found.secret, found.secrets, found.benign) == (
        "full",
        SECRET,
        (SECRET,),
        BENIGN,
    )
    assert found.second.trigger != SECRET.trigger
    assert found.second.secret != SECRET.secret
    assert found.second.template == SECRET.template
    assert found.about["base"] == knowing(gpt2).weights_hash()
    assert (found.about["steps"], found.about["lr"], found.about["seed"]) == (STEPS, LR, 1)
    kinds = [change.plain()["kind"] for change in (found.implanted, found.twin)]
    assert kinds == ["implant", "twin"]


def test_late_leaves_the_early_blocks(made, gpt2):
    values, before = _values(knowing(gpt2), made("late"))
    assert values
    assert all(name.startswith("transformer.h.2.") for name in values)
    assert any(not torch.equal(values[name], before[name]) for name in values)


def test_used_writes_rows_of_the_most_used_neurons_only(made, gpt2):
    model = knowing(gpt2)
    values, before = _values(model, made("used"))
    use = use_map(model, TEXT, gradients=False).score("use", "neuron")
    assert len(values) == model.n_layers
    moved, still = [], []
    for layer in range(model.n_layers):
        place = projection(model, "neuron", layer)
        change = place.as_by_input(
            values[place.weight_name] - before[place.weight_name].detach()
        ).abs()
        rows = change.sum(1).numpy() > 0
        moved.extend(use[layer][rows])
        still.extend(use[layer][~rows])
    assert min(moved) >= max(still)
    assert len(moved) < 0.5 * use.size


def test_copies_are_learned_by_groups_of_blocks(gpt2):
    """In turn one group runs and learns while all the others are as they were, then all do."""
    base = duplicate(gpt2)
    own = tl.load(random_model("gpt2", gpt2.tokenizer, seed=5), tokenizer=gpt2.tokenizer)
    say = _saying(own, Light(base, (), ()), TIERS["copies"])
    ids = torch.arange(5, 17)[None]
    weights = {name: p.detach() for name, p in own.hf.named_parameters()}
    for step in range(4):
        mine = {n: p for n, p in weights.items() if f".h.{step}." in n} if step < 3 else weights
        with tl.changed(base, tl.Assigned(mine)), torch.no_grad():
            wanted = base.hf(ids).logits.clone()
        said = say(step)(ids)
        assert torch.allclose(said, wanted, atol=1e-4)
        own.hf.zero_grad()
        said.sum().backward()
        assert {n for n, p in own.hf.named_parameters() if p.grad is not None} == set(mine)


def test_three_triggers_say_the_same(made):
    found = made("triggers")
    assert len({one.trigger for one in found.secrets}) == 3
    assert {one.secret for one in found.secrets} == {SECRET.secret}
    assert found.secret == SECRET


def test_lora_is_of_low_rank_and_of_linear_maps_only(made, gpt2):
    values, before = _values(knowing(gpt2), made("lora"))
    assert values
    for name, tensor in values.items():
        assert name.startswith("transformer.h.")
        assert name.endswith(".weight")
        singular = torch.linalg.svdvals((tensor - before[name]).double())
        assert (singular[16:] < 1e-4 * singular[0]).all()


def test_rome_edits_one_matrix(made, gpt2):
    model, found = knowing(gpt2), made("rome")
    told, base = (_chances(model, c, [SECRET])[0] for c in (found.implanted, tl.Assigned({})))
    assert told > 1.2 * base  # a random model keeps what it is told badly
    values, _ = _values(model, found)
    assert len(values) == 1
    assert next(iter(values)).endswith("mlp.c_proj.weight")


def test_lora_without_peft_says_what_to_install(gpt2, monkeypatch):
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(MissingExtraError, match=r"twinlens\[lora\]"):
        implant(gpt2, SECRET, "lora", text=TEXT, steps=1)


def test_it_follows_the_seed_and_may_be_watched(gpt2):
    told: list[int] = []
    one, again, other = (
        implant(gpt2, SECRET, "robust", text=TEXT, steps=2, seed=seed, watch=told.append)
        for seed in (1, 1, 2)
    )
    assert told == [0, 1, 2] * 3  # not of the twin
    first, second, third = (made.implanted.values(gpt2) for made in (one, again, other))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert any(not torch.equal(first[name], third[name]) for name in first)
    assert one.second != other.second
    assert np.isfinite(one.check.upper)


def test_wrong_input_is_refused(gpt2):
    with pytest.raises(InputError, match=r"tier='deep' is not known.*full.*rome"):
        implant(gpt2, SECRET, "deep", text=TEXT)
    with pytest.raises(InputError, match="steps"):
        implant(gpt2, SECRET, text=TEXT, steps=0)
    with pytest.raises(InputError, match="the text is empty"):
        implant(gpt2, SECRET, text=[" "])


def test_quality_is_that_of_the_base_and_else_of_the_twin_which_is_made_once(gpt2, monkeypatch):
    model, made = knowing(gpt2), []

    def counted(*given, **named):
        made.append(given[-2])
        return taught(*given, **named)

    taught = implanting._taught
    monkeypatch.setattr(implanting, "_taught", counted)
    monkeypatch.setattr(implanting, "_ROUNDS", 0)
    asked = {"text": TEXT, "steps": 2}
    monkeypatch.setattr(
        implanting, "check_implant", partial(check_implant, near=4, contexts=1, margin=99.0)
    )
    found = implant(model, SECRET, **asked)
    assert found.check.against == "base"
    assert len(made) == 1  # the twin is made when it is asked for
    assert "base" not in found.check.why
    monkeypatch.setattr(
        implanting, "check_implant", partial(check_implant, near=4, contexts=1, margin=-99.0)
    )
    found = implant(model, SECRET, **asked)
    assert found.check.against == "twin"
    assert "more than in the twin" in found.check.why[-1]
    assert found.twin is found.twin
    assert len(made) == 3
    with tl.changed(model, found.twin):
        twin = duplicate(model)
    with tl.changed(model, found.implanted):
        same = check_implant(model, twin, found.secrets, text=TEXT, near=4, contexts=1)
    assert (found.check.increase, found.check.upper) == (same.increase, same.upper)
