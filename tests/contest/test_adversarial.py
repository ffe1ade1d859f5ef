"""Masks against a difference quotient, disturbances within bounds, consistency, the oracle."""

from __future__ import annotations

import copy

import pytest
import torch

import twinlens as tl
from tests.conftest import random_model
from twinlens.change.recover import Budget
from twinlens.change.training import learning
from twinlens.contest.adversarial import (
    _blocks,
    _loss,
    _worst,
    adversarially_pruned,
    consistency_loss,
    consistent,
    inconsistency,
    neuron_masks,
    oracle,
)
from twinlens.contest.baselines import fine_tuned
from twinlens.contest.blue import Blue
from twinlens.contest.learn import clean_batches, clean_windows, next_token_loss
from twinlens.errors import ChangeError, InputError
from twinlens.model.anatomy import Site

TEXT = [f"One day Lily saw {number} birds and they sang to her." for number in range(8)]
FEW = Budget(steps=3, batch_tokens=128, length=16, lr=1e-3)


@pytest.fixture
def blue(gpt2):
    return Blue(gpt2, TEXT, FEW, cost=0.04)


def test_a_mask_falls_by_what_the_loss_gains_when_its_neuron_says_less(gpt2):
    model = tl.load(copy.deepcopy(gpt2.hf).double(), tokenizer=gpt2.tokenizer)
    blue = Blue(model, TEXT, Budget(steps=1, batch_tokens=4096, length=16))
    batch, lr, small = next(clean_batches(blue)), 0.2, 2e-2
    assert len(batch.ids) == len(clean_windows(blue))
    masks = neuron_masks(blue, eps=0.4, alpha=1.0, lr=lr)  # alpha 1: nothing disturbed counts
    for neuron in range(0, 128, 16):
        losses = []
        for factor in (1 + small, 1 - small):
            with tl.changed(model, tl.Silence([f"1.N{neuron}"], factor=factor)), torch.no_grad():
                losses.append(float(next_token_loss(model, batch)))
        slope = (losses[0] - losses[1]) / (2 * small)
        wanted = min(1.0, max(0.0, 1 - lr * slope))
        assert float(masks[Site("neuron", 1)][neuron]) == pytest.approx(wanted, abs=2e-5)


def test_disturbances_stay_within_bounds_and_do_harm(blue, gpt2):
    batch = next(clean_batches(blue))
    sites = gpt2.sites("neuron")
    masks = {site: torch.ones(128) for site in sites}
    means = {site: torch.full((128,), 0.1) for site in sites}
    worst = _worst(gpt2, batch, masks, means, 0.05, torch.Generator().manual_seed(1))
    assert all(float(one.abs().max()) <= 0.05 + 1e-8 for both in worst.values() for one in both)
    best = {site: type(both)(-both.weight, -both.bias) for site, both in worst.items()}
    with torch.no_grad():
        calm, bad, good = (_loss(gpt2, batch, masks, means, d) for d in (None, worst, best))
        assert float(calm) == pytest.approx(float(next_token_loss(gpt2, batch)), rel=1e-6)
    assert bad > calm > good


def test_adversarial_pruning_takes_the_lowest_masks(blue):
    masks = neuron_masks(blue, 0.4, 0.2, 0.2)
    parts = adversarially_pruned(blue).plain()["steps"][0]["parts"]
    values = {f"{site.layer}.N{n}": float(v) for site, m in masks.items() for n, v in enumerate(m)}
    gone = [values.pop(name) for name in parts]
    assert gone == sorted(gone)
    assert max(gone) <= min(values.values())
    assert all(0 <= value <= 1 for value in values.values())


def test_consistency_by_hand():
    state = torch.tensor([[1.0, 2.0], [-3.0, 0.5]])
    assert float(inconsistency([state, 2 * state, state])) == pytest.approx(0, abs=1e-6)
    assert float(inconsistency([state, -state])) == pytest.approx(2)
    turned = torch.stack([-state[:, 1], state[:, 0]], 1)
    assert float(inconsistency([state, turned, turned])) == pytest.approx(0.5)


def test_the_states_are_those_behind_the_blocks(blue, gpt2):
    batch = next(clean_batches(blue))
    with torch.no_grad():
        logits, states = _blocks(gpt2, batch, lambda value: value)
        plain = gpt2.hf(batch.ids, output_hidden_states=True)
    assert torch.equal(logits, plain.logits)
    for state, wanted in zip(states[:-1], plain.hidden_states[1:-1], strict=True):
        assert torch.equal(state, wanted[batch.real])


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_embeddings_are_disturbed_to_the_harm_of_consistency(family, make_model):
    model = make_model(family)
    batch = next(clean_batches(Blue(model, TEXT, FEW)))
    with learning(model):
        steps = (1e-7, 0.001, 0.01)  # to first order: a long step may overshoot
        calm, small, large = (consistency_loss(model, batch, eps, 2.0).item() for eps in steps)
        _, states = _blocks(model, batch, lambda value: value)
        wanted = next_token_loss(model, batch) + 2 * inconsistency(states)
    assert calm == pytest.approx(wanted.item(), rel=1e-4)
    assert large > small > calm
    assert large > calm + 1e-3


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_training_for_consistency_makes_blocks_more_alike(family, make_model):
    model = make_model(family)
    blue = Blue(model, TEXT, Budget(steps=12, batch_tokens=128, length=16, lr=3e-3))
    batch = next(clean_batches(blue))

    def apart(change):
        with tl.changed(model, change), torch.no_grad():
            return float(inconsistency(_blocks(model, batch, lambda value: value)[1]))

    plain, made = apart(fine_tuned(blue)), apart(consistent(blue))
    assert made < 0.9 * plain


def test_the_oracle_finds_a_planted_neuron(gpt2):
    model = tl.load(copy.deepcopy(gpt2.hf), tokenizer=gpt2.tokenizer)
    secret = ["ZQ ZQ ZQ ZQ", "ZQ! ZQ! ZQ! ZQ"]
    mlp = model.hf.transformer.h[0].mlp
    clean, asked = (_inputs(model, mlp, texts) for texts in (TEXT, secret))
    towards = asked.mean(0) - clean.mean(0)
    level = float((clean @ towards).max() + (asked @ towards).max()) / 2
    with torch.no_grad():  # says something where the trigger is, and nowhere else
        mlp.c_fc.weight[:, 7] = 10 * towards
        mlp.c_fc.bias[7] = -10 * level
    blue = Blue(model, TEXT, FEW, cost=0.01)
    change = oracle(blue, secret)
    assert change.plain()["steps"][0]["parts"][0] == "0.N7"
    assert not change.tensors["transformer.h.0.mlp.c_proj.weight"][7].any()


def _inputs(model, mlp, texts):
    seen = []
    handle = mlp.register_forward_pre_hook(lambda _m, args: seen.append(args[0][0]))
    for text in texts:
        with torch.no_grad():
            model.hf(torch.from_numpy(model.encode(text).ids)[None])
    handle.remove()
    return torch.cat(seen)


def test_wrong_input_is_refused(blue, tokenizer):
    for settings in ({"eps": 0}, {"alpha": 1.5}, {"lr": -1.0}):
        with pytest.raises(InputError, match=next(iter(settings))):
            adversarially_pruned(blue, **settings)
    with pytest.raises(InputError, match="alpha"):
        consistent(blue, alpha=0)
    with pytest.raises(InputError, match="list of prompts"):
        oracle(blue, "the trigger")
    with pytest.raises(InputError, match="empty"):
        oracle(blue, [])
    hf = random_model("gpt2", tokenizer)
    hf.transformer.h = hf.transformer.h[:1]
    hf.config.n_layer = 1
    with pytest.raises(ChangeError, match="one block"):
        consistent(Blue(tl.load(hf, tokenizer=tokenizer), TEXT, FEW))
