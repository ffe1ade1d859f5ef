from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from tests.conftest import STORY
from twinlens.errors import InputError
from twinlens.see import jacobian, texts
from twinlens.see.fit import fit_lens
from twinlens.see.jacobian import JacobianFit, truncated
from twinlens.see.tuned import rows_of_batch

TEXT = [STORY, "Tom and the big dog went to the park. " * 3, "A cat. " * 20, "One day it rained."]


def _tail_of(model, row, ids):
    """The last residual as a function of a row's residual, by torch's own module calls."""
    hf, block = model.hf, model.blocks[0 if row == "embed" else int(row)]

    def tail(residual):
        kept = []

        def at_input(_module, args, kwargs):
            if args:
                return (residual, *args[1:]), kwargs
            return args, {**kwargs, "hidden_states": residual}

        def at_output(_module, _args, made):
            return (residual, *made[1:]) if isinstance(made, tuple) else residual

        def keep(_module, _args, made):
            kept.append(made[0] if isinstance(made, tuple) else made)

        if row == "embed":
            first = block.register_forward_pre_hook(at_input, with_kwargs=True)
        else:
            first = block.register_forward_hook(at_output)
        last = model.blocks[-1].register_forward_hook(keep)
        try:
            hf(input_ids=ids, use_cache=False)
        finally:
            first.remove()
            last.remove()
        return kept[0]

    return tail


def _exact(model, row, window, own=False):
    """Sum over targets t and sources s of d h_final(t) / d h(s), by torch.func."""
    ids = torch.from_numpy(window)[None]
    residual = torch.zeros(1, len(window), model.d_model)
    with torch.no_grad():
        rows, _ = rows_of_batch(model, texts.Batch(ids, torch.ones_like(ids, dtype=torch.bool)))
        number = 0 if row == "embed" else int(row) + 1
        residual[0] = rows[number]
    with sdpa_kernel(SDPBackend.MATH):
        whole = torch.func.jacrev(_tail_of(model, row, ids))(residual)[0, :, :, 0]  # t, out, s, in
    later = torch.tril(torch.ones(len(window), len(window)))
    assert torch.allclose(whole * (1 - later)[:, None, :, None], torch.zeros(1), atol=1e-5)
    if own:
        whole = torch.einsum("tosi,ts->tosi", whole, torch.eye(len(window)))
    return whole.sum((0, 2)).detach().numpy()


def test_the_mean_jacobian_is_that_of_torch_func(family):
    read = texts.joined(texts.windows(family, ["Tom had a dog", "It was so big that"], 8))
    fit = JacobianFit(family, read, batch_tokens=64, rank=None)
    for number in range(fit.steps):
        fit.step(number)
    found = fit.maps()["matrix"]
    for number, row in ((0, "embed"), (family.n_layers - 1, str(family.n_layers - 2))):
        exact = sum(_exact(family, row, window) for window in read.ids) / read.n_tokens
        assert np.abs(found[number] - exact).max() <= 1e-4 * max(1, np.abs(exact).max())


def test_random_signs_leave_only_a_positions_own(gpt2, monkeypatch):
    read = texts.joined(texts.windows(gpt2, ["Tom had a dog"], 8))
    read = texts.Windows((read.ids[0][:3],))
    patterns = [torch.tensor([[1.0, a, b]]) for a in (1, -1) for b in (1, -1)]
    found = []
    for pattern in patterns:
        monkeypatch.setattr(jacobian, "_signs", lambda *_, signs=pattern: signs)
        fit = JacobianFit(gpt2, read, batch_tokens=64, reach="own")
        fit.step(0)
        found.append(fit.maps()["matrix"])
    exact = _exact(gpt2, "0", read.ids[0], own=True) / 3
    assert np.abs(np.mean(found, axis=0)[1] - exact).max() <= 1e-4 * np.abs(exact).max()
    assert np.abs(found[0][1] - exact).max() > 1e-2 * np.abs(exact).max()


def test_signs_are_drawn_from_the_seed(gpt2):
    asked = {"length": 16, "held_out": 0.25, "reach": "own"}
    one, same = (fit_lens(gpt2, TEXT, "jacobian", **asked) for _ in range(2))
    other = fit_lens(gpt2, TEXT, "jacobian", seed=2, **asked)
    assert np.array_equal(one.matrix, same.matrix)
    assert not np.array_equal(one.matrix, other.matrix)
    assert one.name == "own-position jacobian"


def test_batches_and_filling_change_nothing(gpt2):
    read = texts.joined(texts.windows(gpt2, TEXT[1:], 16))
    assert len({len(window) for window in read.ids}) > 1
    sums = []
    for batch_tokens in (64, 256, 2048):
        fit = JacobianFit(gpt2, read, batch_tokens=batch_tokens, rank=None)
        for number in range(fit.steps):
            fit.step(number)
        sums.append(fit.maps()["matrix"])
    assert np.allclose(sums[0], sums[1], atol=1e-5)
    assert np.allclose(sums[0], sums[2], atol=1e-5)


def test_a_rank_is_the_truncated_singular_value_decomposition(gpt2):
    full = fit_lens(gpt2, TEXT, "jacobian", length=16, held_out=0.25)
    low = fit_lens(gpt2, TEXT, "jacobian", length=16, held_out=0.25, rank=5)
    assert (full.rank, low.rank, low.name) == (None, 5, "jacobian rank 5")
    assert (full.kept == 1).all()
    for number in range(gpt2.n_layers):
        left, values, right = np.linalg.svd(full.matrix[number].astype(np.float64))
        expected = (left[:, :5] * values[:5]) @ right[:5]
        assert np.allclose(low.matrix[number] @ low.reading[number], expected, atol=1e-4)
        assert low.kept[number] == pytest.approx((values[:5] ** 2).sum() / (values**2).sum())


def test_a_full_rank_keeps_all():
    matrices = np.random.RandomState(0).randn(2, 6, 6)
    made = truncated(matrices, 6)
    assert np.allclose(made["matrix"] @ made["reading"], matrices, atol=1e-6)
    assert np.allclose(made["kept"], 1)
    assert np.allclose(truncated(np.zeros((1, 3, 3)), 2)["kept"], 0)


def test_a_jacobian_refuses_what_is_about_training(gpt2):
    with pytest.raises(InputError, match="rank=99 is more"):
        fit_lens(gpt2, TEXT, "jacobian", rank=99)
    with pytest.raises(InputError, match="steps and lr are about"):
        fit_lens(gpt2, TEXT, "jacobian", steps=3)
    with pytest.raises(InputError, match="rank and reach are about"):
        fit_lens(gpt2, TEXT, "tuned", rank=3)
    with pytest.raises(InputError, match="rank and reach are about"):
        fit_lens(gpt2, TEXT, "tuned", reach="own")
