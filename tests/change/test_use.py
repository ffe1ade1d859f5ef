"""The use map agrees with a plain reckoning over all activations, and finds what a text spares."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

import twinlens as tl
from tests.conftest import STORY, random_model
from tests.results.test_storage import assert_same
from twinlens.change import use
from twinlens.change.parts import projection
from twinlens.change.use import use_map
from twinlens.errors import InputError
from twinlens.model.anatomy import Site
from twinlens.results.use import UseResult, spearman

TEXT = [
    STORY,
    "Tom and the big dog went to the park. " * 2,
    "A cat sat. ",
    "One day it rained.",
] * 5
ALL = ("use", "mean_use", "effect", "wanda", "magnitude")


@pytest.fixture(scope="module")
def used(make_model) -> UseResult:
    return use_map(make_model("gpt2"), TEXT, length=16)


def _plainly(model, text, site, size, length=16):
    """Scores of one site's units: every activation and every gradient is kept."""
    inputs, slopes, losses = [], [], []
    rows = projection(model, "head" if site.kind == "head" else "neuron", site.layer).by_input
    at = model.module(model.anatomy.path(site))

    def keep(_module, args):
        x = args[0].detach().requires_grad_()
        inputs.append(x)
        return (x, *args[1:])

    hook = at.register_forward_pre_hook(keep)
    for document in text:
        for piece in torch.tensor(model.tokenizer(document)["input_ids"]).split(length):
            if len(piece) > 1:
                loss = model.hf(piece[None], labels=piece[None]).loss * (len(piece) - 1)
                slopes.append(torch.autograd.grad(loss, inputs[-1])[0].reshape(-1, len(rows)))
                losses.append((float(loss.detach()), len(piece) - 1))
    hook.remove()
    x = torch.cat([one.detach().reshape(-1, len(rows)) for one in inputs])
    units = [slice(start, start + size) for start in range(0, len(rows), size)]
    wrote = [(x[:, u] @ rows[u]).double() for u in units]
    total, count = map(sum, zip(*losses, strict=True))
    product = (x * torch.cat(slopes)).double()
    norms = x.double().square().mean(0).sqrt()
    found = {
        "use": [w.norm(dim=1).mean() for w in wrote],
        "mean_use": [(w - w.mean(0)).norm(dim=1).mean() for w in wrote],
        "effect": [product[:, u].sum(1).abs().mean() for u in units],
        "wanda": [(rows[u].abs().double() * norms[u, None]).norm() for u in units],
        "magnitude": [rows[u].norm() for u in units],
        "peak": [w.norm(dim=1).max() for w in wrote],
    }
    return {n: np.array([float(v) for v in vs]) for n, vs in found.items()}, total / count


@pytest.mark.parametrize("family", ["gpt2", "gemma2", "opt_post_norm"])
def test_scores_are_those_of_all_activations(family, make_model):
    model = make_model(family)
    found = use_map(model, TEXT[:4], length=16, batch_tokens=40)
    for kind, size, layer in (("neuron", 1, 1), ("head", 8, 2)):
        expected, loss = _plainly(model, TEXT[:4], Site(kind, layer), size)
        assert found.loss == pytest.approx(loss, rel=1e-4)
        peak = found.neuron_peak if kind == "neuron" else found.head_peak
        np.testing.assert_allclose(peak[layer], expected.pop("peak"), rtol=2e-3)
        for name, values in expected.items():
            np.testing.assert_allclose(
                found.score(name, kind)[layer], values, rtol=2e-3, atol=1e-5, err_msg=name
            )


def test_a_short_pilot_moves_mean_use_next_to_nothing_and_only_down(used, make_model, monkeypatch):
    monkeypatch.setattr(use, "PILOT", 60)
    found = use_map(make_model("gpt2"), TEXT, length=16)
    assert found.settings["pilot_tokens"] < used.n_tokens / 4
    assert used.settings["mean_use_error"] < 1e-6 < found.settings["mean_use_error"] < 0.5
    for kind in ("neuron", "head"):
        share = found.score("mean_use", kind) / used.score("mean_use", kind)
        assert share.max() < 1 + 1e-4
        assert np.median(share) > 0.9
        for name in ("use", "effect", "wanda"):
            np.testing.assert_allclose(
                found.score(name, kind), used.score(name, kind), rtol=1e-4, atol=1e-7
            )


def test_neither_batches_nor_gradients_change_the_rest(used, make_model):
    model = make_model("gpt2")
    before = model.weights_hash(), [p.grad for p in model.hf.parameters()]
    found = use_map(model, TEXT, length=16, batch_tokens=40, gradients=False)
    assert np.isnan(found.score("effect")).all()
    assert np.isnan(found.loss)
    for name in ("use", "mean_use", "wanda"):
        np.testing.assert_allclose(found.score(name), used.score(name), rtol=1e-4)
    assert before == (model.weights_hash(), [None] * len(before[1]))


def _planted(tokenizer, word="Z"):
    """A GPT-2 with three neurons that fire at `Z` alone."""
    hf = random_model("gpt2", tokenizer)
    (token,) = tokenizer(word)["input_ids"]
    block, planted = hf.transformer.h[0], [3, 40, 77]
    with torch.no_grad():
        hf.transformer.wte.weight[:, 0] = 0.0
        hf.transformer.wte.weight[token] = 0.0
        hf.transformer.wte.weight[token, 0] = 20.0
        block.ln_2.weight[0], block.ln_2.bias[0] = 1.0, 0.0
        block.mlp.c_fc.weight[:, planted] = 0.0
        block.mlp.c_fc.weight[0, planted] = 40.0
        block.mlp.c_fc.bias[planted] = -180.0  # at Z the normed coordinate is over 5
    return tl.load(hf, tokenizer=tokenizer), planted


def test_neurons_that_no_token_of_the_text_wakes_are_lowest(tokenizer):
    model, planted = _planted(tokenizer)
    names = {f"0.N{number}" for number in planted}
    found = use_map(model, TEXT[:4], length=32)
    for name in ("use", "mean_use", "effect", "wanda"):
        assert {n for n, _ in found.ranked(name)[:3]} == names, name
    assert {f"{a}.N{b}" for a, b in np.argwhere(found.silent())} == names
    awake = use_map(model, [*TEXT[:4], "A Z sat. "], length=32, gradients=False)
    assert not awake.silent().any()
    assert not names & {n for n, _ in awake.ranked("use")[:3]}


def _made(used, neurons, tokens):
    import dataclasses

    shape = neurons.shape[-2:]
    plain = {n: np.ones(shape, np.float32) for n in ("neuron_magnitude", "neuron_peak")}
    plain |= {n: np.ones((shape[0], 1), np.float32) for n in ("head_magnitude", "head_peak")}
    plain["heads"] = np.ones((*neurons.shape[:3], 1), np.float32)
    return dataclasses.replace(
        used, neurons=neurons.astype(np.float32), group_tokens=np.array(tokens), **plain
    )


def test_stability_is_one_for_a_repeated_text_and_none_for_noise(used):
    rng = np.random.default_rng(0)
    same = np.repeat(rng.random((4, 1, 3, 200)), 6, axis=1)
    stable = _made(used, same, [5, 9, 2, 4, 4, 4]).stability()
    assert (stable.spearman, stable.overlap, stable.by_chance) == (pytest.approx(1), 1, 0.1)
    np.testing.assert_allclose(stable.layers, 1)
    noise = _made(used, rng.random((4, 6, 3, 200)), [7] * 6).stability(lowest=0.2)
    assert abs(noise.spearman) < 0.15
    assert abs(noise.overlap - noise.by_chance) < 0.1
    assert used.stability("magnitude").spearman == pytest.approx(1)
    assert 0.5 < used.stability("use").spearman < 1
    assert used.stability("use")[:3] == used.stability("use")[:3]  # the seed stays


def test_groups_are_weighted_by_their_tokens(used):
    neurons = np.arange(24.0).reshape(4, 2, 1, 3)
    made = _made(used, neurons, [1, 3])
    np.testing.assert_allclose(made.score("use"), neurons[0, 0] * 0.25 + neurons[0, 1] * 0.75)
    np.testing.assert_allclose(
        made.score("wanda"), np.sqrt(neurons[3, 0] * 0.25 + neurons[3, 1] * 0.75)
    )


def test_rank_correlation_agrees_with_pandas():
    pandas = pytest.importorskip("pandas")
    rng = np.random.default_rng(1)
    for _ in range(5):
        a, b = rng.integers(0, 9, 40).astype(float), rng.random(40)
        b[:10] = a[:10]
        ranks = [pandas.Series(values).rank() for values in (a, b)]
        assert spearman(a, b) == pytest.approx(ranks[0].corr(ranks[1]))
    assert np.isnan(spearman(np.ones(5), np.arange(5.0)))


def test_few_windows_are_groups_of_their_own(make_model):
    one = use_map(make_model("gpt2"), [STORY], length=128)
    assert one.group_tokens.tolist() == [one.n_tokens]
    assert np.isnan(one.stability().spearman)
    several = use_map(make_model("gpt2"), [STORY], length=8, gradients=False)
    assert several.group_tokens.tolist() == [8, 8, 2]


def test_saved_and_opened(used, tmp_path):
    opened = tl.open_result(used.save(tmp_path / "use.safetensors"))
    assert isinstance(opened, UseResult)
    assert_same(used, opened)


def test_tables_have_a_row_a_unit(used):
    pytest.importorskip("pandas")
    frame = used.to_dataframe()
    assert len(frame) == 3 * 128 + 3 * 4
    at = frame[(frame.kind == "head") & (frame.layer == "1") & (frame.unit == 2)]
    assert float(at.use.iloc[0]) == used.score("use", "head")[1, 2]
    pytest.importorskip("xarray")
    assert used.to_xarray().neuron_wanda.dims == ("layer", "neuron")


def test_what_cannot_be_is_refused(used, make_model):
    for call, message in (
        (lambda: used.score("fame"), "score='fame'"),
        (lambda: used.stability(lowest=1.5), "lowest=1.5"),
        (lambda: use_map(make_model("gpt2"), TEXT, threshold=-1), "threshold=-1"),
        (lambda: use_map(make_model("gpt2"), []), "text is empty"),
    ):
        with pytest.raises(InputError, match=message):
            call()


def test_layers_of_a_model_without_heads_or_neurons(make_model):
    from dataclasses import replace

    known = make_model("llama")
    blind = replace(
        known, anatomy=replace(known.anatomy, neurons=None), _memo=copy.copy(known._memo)
    )
    found = use_map(blind, TEXT[:2], gradients=False)
    assert found.score().shape == (3, 0)
    assert found.score("use", "head").shape == (3, 4)
