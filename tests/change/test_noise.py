from __future__ import annotations

import copy
from dataclasses import asdict

import pytest
import torch

import twinlens as tl
from twinlens.change.noise import WeightNoise, matrices, rounding, told_rounding
from twinlens.errors import InputError


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_noise_has_the_size_that_was_asked_of_every_matrix(family, make_model):
    model = make_model(family)
    before = {name: p.detach().clone() for name, p in model.hf.named_parameters()}
    with tl.changed(model, WeightNoise(0.05, seed=3)):
        for name, now in model.hf.named_parameters():
            moved = now.detach() - before[name]
            if now.dim() == 1:
                assert not moved.any()
            else:
                assert float(moved.std() / before[name].std()) == pytest.approx(0.05, rel=0.15)


def test_noise_depends_on_seed_and_tensor_alone(make_model):
    model = make_model("gpt2")
    one, same, other = (WeightNoise(0.1, seed).values(model) for seed in (1, 1, 2))
    first, second = list(one)[3:5]
    assert torch.equal(one[first], same[first])
    assert not torch.equal(one[first], other[first])
    assert not torch.equal(one[first].flatten()[:9], one[second].flatten()[:9])


def test_k_steps_of_noise_are_one_of_the_root_of_k(make_model):
    model = make_model("gpt2")
    before = {name: tensor.clone() for name, tensor in matrices(model).items()}
    with tl.changed(model, *(WeightNoise(0.01, seed) for seed in range(16))):
        ratios = [
            float((t - before[n]).std() / before[n].std()) for n, t in matrices(model).items()
        ]
    assert sum(ratios) / len(ratios) == pytest.approx(0.04, rel=0.05)


def test_what_a_stored_type_swallows_is_told(make_model):
    full = make_model("gpt2")
    whole = rounding(full, WeightNoise(0.001))
    assert whole.asked == pytest.approx(0.001)
    assert whole.stored == pytest.approx(0.001, rel=0.05)
    assert whole.lost < 0.001
    half = tl.load(copy.deepcopy(full.hf).bfloat16(), tokenizer=full.tokenizer)
    subtle = rounding(half, WeightNoise(0.0005))
    assert subtle.lost > 0.5  # most weights round back to what they were
    assert abs(subtle.stored / subtle.asked - 1) > 0.2  # and the others move by a whole step
    assert told_rounding(half, WeightNoise(0.0005)) == {"rounding": asdict(subtle)}
    assert told_rounding(full, WeightNoise(0.0005)) == {}


def test_what_was_pruned_stays_away(make_model):
    model = make_model("gpt2")
    with tl.changed(model, tl.Silence(["1.N3"]), WeightNoise(0.5)):
        assert not model.hf.transformer.h[1].mlp.c_proj.weight[3].any()
        assert model.hf.transformer.h[1].mlp.c_proj.weight[4].any()


@pytest.mark.parametrize("wrong", [0, -1.0, float("nan"), float("inf")])
def test_a_scale_that_is_none_is_refused(wrong):
    with pytest.raises(InputError, match="scale"):
        WeightNoise(wrong)
