from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

import twinlens as tl
from twinlens.change.noise import WeightNoise
from twinlens.change.recover import Budget, recover, written_by
from twinlens.change.silence import Silence
from twinlens.errors import ChangeError, InputError
from twinlens.see.texts import joined, windows

TEXT = [f"One day Lily saw {number} birds and they sang to her." for number in range(12)]
FEW = Budget(steps=12, batch_tokens=96, length=16, lr=3e-3, own=0.5)


@pytest.fixture
def pair(gpt2):
    """A model and a copy of it that may be changed."""
    return gpt2, tl.load(copy.deepcopy(gpt2.hf), tokenizer=gpt2.tokenizer)


def _divergence(model, original):
    """KL(original || model) on the text, in plain torch."""
    sums = []
    for window in joined(windows(original, TEXT, 16)).ids:
        with torch.no_grad():
            p, q = (m.hf(torch.from_numpy(window)[None]).logits.log_softmax(-1)
                    for m in (original, model))  # fmt: skip
        sums.append(float((p.exp() * (p - q)).sum(-1).mean()))
    return np.mean(sums)


def test_a_noisy_model_comes_nearer_to_the_original_and_zeros_stay(pair):
    original, model = pair
    with tl.changed(model, Silence(["1.N3,1.N4"]), WeightNoise(0.3)):
        before, was = _divergence(model, original), model.weights_hash()
        change = recover(model, original, TEXT, FEW)
        assert model.weights_hash() == was  # a change is a value
        with tl.changed(model, change):
            assert _divergence(model, original) < 0.9 * before
            rows = model.hf.transformer.h[1].mlp.c_proj.weight[[3, 4]]
            assert not rows.any()
        again = recover(model, original, TEXT, FEW)
        other = recover(model, original, TEXT, Budget(**FEW.__dict__ | {"seed": 2}))
    assert all(torch.equal(change.tensors[n], again.tensors[n]) for n in change.tensors)
    assert not all(torch.equal(change.tensors[n], other.tensors[n]) for n in change.tensors)
    told = change.plain()
    assert told["kl_last"] < told["kl_first"]
    assert told["kind"] == "recovery"
    assert 0 < told["tokens"] <= FEW.steps * FEW.batch_tokens
    assert not any(p.requires_grad and p.grad is not None for p in model.hf.parameters())


def test_an_original_that_is_trained_towards_itself_hardly_moves(pair):
    original, model = pair
    change = recover(model, original, TEXT, Budget(steps=3, batch_tokens=64, length=16, own=0.0))
    assert change.plain()["kl_first"] < 1e-6


def test_the_text_that_a_model_writes_begins_as_the_users_and_is_its_own(gpt2):
    starts = joined(windows(gpt2, TEXT, 16))
    made, again = (written_by(gpt2, starts, 12, seed) for seed in (1, 1))
    assert len(made) == len(starts)
    for window, start, same in zip(made.ids, starts.ids, again.ids, strict=True):
        assert np.array_equal(window[:4], start[:4])
        assert np.array_equal(window, same)
        assert len(window) <= 12
    other = written_by(gpt2, starts, 12, 2)
    assert any(not np.array_equal(a, b) for a, b in zip(made.ids, other.ids, strict=True))


def test_wrong_input_is_refused(pair, make_model):
    original, model = pair
    with pytest.raises(ChangeError, match="beside the changed model"):
        recover(model, model, TEXT, FEW)
    with pytest.raises(InputError, match="empty"):
        recover(model, original, [""], FEW)
    for wrong, says in (({"lr": 0.0}, "lr"), ({"own": 2.0}, "own"), ({"steps": 0}, "steps")):
        with pytest.raises(InputError, match=says):
            Budget(**wrong)
    before = model.weights_hash()
    wild = Budget(steps=6, batch_tokens=64, length=16, lr=1e30, own=0.0)
    with pytest.raises(ChangeError, match="finite"):
        recover(model, original, TEXT, wild)
    assert model.weights_hash() == before
