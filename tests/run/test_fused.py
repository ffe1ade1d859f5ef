"""One kernel in the place of eight gives the same values, and nothing stays changed."""

from __future__ import annotations

import torch
from transformers.activations import NewGELUActivation

from twinlens.run.fused import fused


def activations(model):
    return [m for m in model.hf.modules() if isinstance(m, NewGELUActivation)]


def test_the_values_agree_to_rounding(gpt2):
    value = torch.linspace(-12, 12, 4001)
    plain = [module(value) for module in activations(gpt2)]
    assert plain
    with fused(gpt2):
        made = [module(value) for module in activations(gpt2)]
    for one, other in zip(plain, made, strict=True):
        assert not torch.equal(one, other)  # it was another kernel
        assert torch.allclose(one, other, atol=2e-6, rtol=1e-5)


def test_nothing_stays_changed_whatever_happens(gpt2):
    try:
        with fused(gpt2), fused(gpt2):
            raise KeyError
    except KeyError:
        pass
    assert all("forward" not in vars(module) for module in activations(gpt2))


def test_a_family_without_it_is_left_alone(make_model):
    llama = make_model("llama")
    with fused(llama):
        assert all("forward" not in vars(module) for module in llama.hf.modules())
