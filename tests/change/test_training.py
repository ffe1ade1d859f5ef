"""Training is AdamW as torch has it, and the model is afterwards what it was."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import nn

import twinlens as tl
from twinlens.change.training import Trained, learning, minimise, trained
from twinlens.errors import ChangeError

IDS = torch.arange(5, 45).view(4, 10)


def _loss_of(hf):
    logits = hf(IDS).logits[:, :-1]
    return nn.functional.cross_entropy(logits.flatten(0, 1), IDS[:, 1:].flatten())


def _weights(model):
    return {name: p.detach().clone() for name, p in model.hf.named_parameters()}


def _same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[n], other[n]) for n in one)


@pytest.mark.parametrize("steady", [False, True])
def test_it_is_what_a_loop_of_torch_makes(gpt2, steady):
    steps, lr = 41, 3e-3
    copied = copy.deepcopy(gpt2.hf).requires_grad_(True)
    optimizer = torch.optim.AdamW(copied.parameters(), lr=lr, betas=(0.9, 0.95), weight_decay=0)
    losses = []
    for number in range(steps):
        rate = lr if steady or number == 1 else lr / 2 if number == 0 else lr * (41 - number) / 39
        optimizer.param_groups[0]["lr"] = rate
        optimizer.zero_grad()
        loss = _loss_of(copied)
        loss.backward()
        nn.utils.clip_grad_norm_(copied.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.item())
    made = trained(gpt2, lambda _: _loss_of(gpt2.hf), steps, lr, steady=steady)
    assert made.losses == pytest.approx(losses, abs=1e-4)
    assert made.losses[-1] < made.losses[0] - 0.5
    for name, parameter in copied.named_parameters():
        assert torch.allclose(made.tensors[name], parameter, atol=1e-4)


def test_the_model_is_left_as_it_was_whatever_happens(gpt2):
    before, asked = _weights(gpt2), [p.requires_grad for p in gpt2.hf.parameters()]
    seen = []

    def loss(number):
        seen.append(gpt2.hf.get_input_embeddings().weight.detach().clone())
        if number == 3:
            raise ZeroDivisionError
        return _loss_of(gpt2.hf)

    with pytest.raises(ZeroDivisionError):
        trained(gpt2, loss, 10, 1e-2)
    assert not torch.equal(seen[0], seen[3])  # within, it has the weights of the step
    assert _same(_weights(gpt2), before)
    assert [p.requires_grad for p in gpt2.hf.parameters()] == asked
    assert all(p.grad is None for p in gpt2.hf.parameters())


def test_only_what_is_chosen_learns(gpt2):
    before = _weights(gpt2)
    made = trained(gpt2, lambda _: _loss_of(gpt2.hf), 3, 1e-2, chosen=lambda n: ".h.1." in n)
    assert set(made.tensors) == {name for name in before if ".h.1." in name}
    moved = [name for name, tensor in made.tensors.items() if not torch.equal(tensor, before[name])]
    assert len(moved) > 6


def test_zeros_of_matrices_stay(gpt2):
    model = tl.load(copy.deepcopy(gpt2.hf), tokenizer=gpt2.tokenizer)
    name = "transformer.h.1.mlp.c_proj.weight"
    with torch.no_grad():
        dict(model.hf.named_parameters())[name][3] = 0.0
        model.hf.transformer.h[1].mlp.c_proj.bias.zero_()
    made = trained(model, lambda _: _loss_of(model.hf), 3, 1e-2)
    assert not made.tensors[name][3].any()
    assert made.tensors[name].any(1).sum() == len(made.tensors[name]) - 1
    assert made.tensors["transformer.h.1.mlp.c_proj.bias"].any()  # a vector's may move


@pytest.mark.parametrize("stop", [0, 3, None])
def test_whoever_watches_may_end_it(gpt2, stop):
    told = []

    def watch(number):
        told.append(number)
        return number == stop

    made = trained(gpt2, lambda _: _loss_of(gpt2.hf), 5, 1e-2, watch=watch)
    assert told == list(range((5 if stop is None else stop) + 1))
    assert len(made.losses) == told[-1]
    if stop == 0:
        assert _same(made.tensors, _weights(gpt2))


def test_each_step_is_counted():
    leaf, done, behind = torch.ones(3, requires_grad=True), [], []
    losses = minimise(
        [leaf], lambda _: (leaf**2).sum(), 7, 0.1,
        advance=done.append, after=lambda: behind.append(torch.is_grad_enabled()),
    )  # fmt: skip
    assert done == [1] * 7
    assert behind == [False] * 7
    assert losses == sorted(losses, reverse=True)


def test_what_is_told_is_the_first_and_the_last_tenth():
    told = Trained({}, [float(n) for n in range(20)]).told
    assert told == {"loss_first": 0.5, "loss_last": 18.5}
    assert Trained({}, [2.0]).told == {"loss_first": 2.0, "loss_last": 2.0}
    assert Trained({}, []).told == {}


def test_errors(gpt2):
    before = _weights(gpt2)
    with pytest.raises(ChangeError, match="no parameter is chosen"):
        trained(gpt2, lambda _: _loss_of(gpt2.hf), 1, 1e-3, chosen=lambda _: False)
    with pytest.raises(ChangeError, match=r"the lesson of .* left the finite numbers"):
        trained(gpt2, lambda _: _loss_of(gpt2.hf) * math.nan, 1, 1e-3, label="lesson")
    assert _same(_weights(gpt2), before)


def test_parameters_that_did_not_learn_take_no_gradient(gpt2):
    with learning(gpt2, lambda name: name.endswith("wte.weight")) as mine:
        assert list(mine) == ["transformer.wte.weight"]
        assert [p.requires_grad for p in gpt2.hf.parameters()].count(True) == 1
