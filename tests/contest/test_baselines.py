"""Rounding, shrinking and fine-pruning do what their papers say, by direct computation."""

from __future__ import annotations

import pytest
import torch

import twinlens as tl
from twinlens.change.noise import matrices
from twinlens.change.recover import Budget
from twinlens.change.weights import By
from twinlens.contest.baselines import (
    Rounded,
    ShrinkPerturb,
    fine_pruned,
    fine_tuned,
    pruned_weights,
)
from twinlens.contest.blue import Blue
from twinlens.errors import InputError

TEXT = [f"One day Lily saw {number} birds and they sang to her." for number in range(8)]
FEW = Budget(steps=12, batch_tokens=128, length=16, lr=1e-3)


@pytest.fixture
def blue(gpt2):
    return Blue(gpt2, TEXT, FEW, cost=0.04, dose=0.2)


@pytest.mark.parametrize("bits", [8, 4])
@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_rounding_is_off_by_half_a_step_of_each_output_at_most(family, bits, make_model):
    model = make_model(family)
    made = Rounded(bits).values(model)
    assert made.keys() == matrices(model).keys()
    for name, before in matrices(model).items():
        conv1d = family == "gpt2" and ".h." in name  # stored as [input, output]
        old, new = ((t.T if conv1d else t).double() for t in (before, made[name]))
        step = old.abs().amax(1, keepdim=True) / (2 ** (bits - 1) - 1)
        assert ((new - old).abs() <= step * (0.5 + 1e-4)).all()
        assert torch.allclose(new / step, (new / step).round(), atol=1e-3)
        assert float((new - old).abs().max()) > 0.3 * float(step.min())


def test_rounding_keeps_zeros_and_rows_of_zeros(gpt2):
    with tl.changed(gpt2, tl.Silence(["1.N3"]), Rounded(4)):
        assert not gpt2.hf.transformer.h[1].mlp.c_proj.weight[3].any()


def test_shrinking_and_perturbing_has_the_sizes_that_were_asked(gpt2):
    for name, tensor in ShrinkPerturb(0.7, 0.2, seed=2).values(gpt2).items():
        before = matrices(gpt2)[name]
        noise = tensor - 0.7 * before
        assert float(noise.std() / before.std()) == pytest.approx(0.2, rel=0.15)
        both = torch.stack([noise.flatten(), before.flatten()])
        assert abs(float(torch.corrcoef(both)[0, 1])) < 0.1
    with tl.changed(gpt2, tl.Silence(["1.N3"]), ShrinkPerturb(0.7, 0.2)):
        assert not gpt2.hf.transformer.h[1].mlp.c_proj.weight[3].any()


def test_fine_tuning_learns_the_text(blue, gpt2):
    with tl.changed(gpt2, fine_tuned(blue)):
        assert blue.loss() < blue.before - 0.1


def test_fine_pruning_prunes_what_is_hardly_active_and_keeps_it_so(blue, gpt2):
    change = fine_pruned(blue)
    told = change.plain()["steps"]
    assert [step["kind"] for step in told] == ["silence", "next-token training"]
    assert told[1]["loss_last"] < told[1]["loss_first"]
    pruned = set(told[0]["parts"])
    per_layer = [sum(name.startswith(f"{n}.") for name in pruned) for n in range(gpt2.n_layers)]
    assert 0 <= max(per_layer) - min(per_layer) <= 1  # layer by layer, the same share
    for layer in range(gpt2.n_layers):
        mean = _mean_activation(gpt2, layer, blue.shown)
        gone = sorted(int(name.split("N")[1]) for name in pruned if name.startswith(f"{layer}."))
        assert gone == sorted(mean.argsort()[: len(gone)].tolist())
        weight = change.tensors[f"transformer.h.{layer}.mlp.c_proj.weight"]
        assert not weight[gone].any()
        assert weight.any(1).sum() == len(weight) - len(gone)


def _mean_activation(model, layer, texts):
    seen = []
    handle = model.hf.transformer.h[layer].mlp.c_proj.register_forward_pre_hook(
        lambda _m, args: seen.append(args[0].abs().flatten(0, 1))
    )
    for text in texts:
        ids = torch.from_numpy(model.encode(text).ids)
        for start in range(0, len(ids), 16):
            if len(window := ids[start : start + 16]) > 1:
                with torch.no_grad():
                    model.hf(window[None])
    handle.remove()
    return torch.cat(seen).mean(0)


def test_a_better_rule_prunes_more_at_the_same_cost():
    model = tl.load("hamlet")
    text = [document["text"] for document in tl.hamlet.text("validation")[:8]]
    blue = Blue(model, text, Budget(length=64), cost=0.02)
    rules: list[By] = ["random", "magnitude", "wanda"]
    shares = {by: pruned_weights(blue, by).plain()["steps"][0]["share"] for by in rules}
    assert shares["random"] < 0.2 * min(shares["magnitude"], shares["wanda"])


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Rounded(1), "bits"),
        (lambda: Rounded(32), "bits"),
        (lambda: ShrinkPerturb(0.0, 0.1), "shrink"),
        (lambda: ShrinkPerturb(0.5, 0), "noise"),
        (lambda: ShrinkPerturb(0.5, 0.1, -1), "seed"),
    ],
)
def test_wrong_settings_are_refused(make, says):
    with pytest.raises(InputError, match=says):
        make()
