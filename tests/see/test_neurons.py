"""Importances of single neurons, against forward passes written by hand and against theory."""

from __future__ import annotations

import functools

import numpy as np
import pytest
import torch
from torch import nn

import twinlens as tl
from tests.conftest import STORY, random_model
from twinlens.model.model import Model
from twinlens.see.measuring import _agreement, _ranks

PROMPT, SUBJECT = STORY, "Lily"
NOISE = tl.Noise(sigma=0.4, samples=3)


def _down(model: Model, layer: int) -> nn.Module:
    paths = {
        "gpt2": "transformer.h.{}.mlp.c_proj",
        "gpt_neox": "gpt_neox.layers.{}.mlp.dense_4h_to_h",
        "opt": "model.decoder.layers.{}.fc2",
    }
    path = paths.get(model.anatomy.family, "model.layers.{}.mlp.down_proj")
    return model.hf.get_submodule(path.format(layer))


def _by_hand(model: Model, trace: tl.NeuronResult, layer: int, token: int, unit: int) -> float:
    """The mean probability of the answer over noised forward passes with that one unit replaced."""
    ids = torch.from_numpy(trace.tokens.ids)[None]
    mask = torch.from_numpy(trace.subject_mask)
    kept: list[torch.Tensor] = []
    handle = _down(model, layer).register_forward_pre_hook(lambda _m, a: kept.append(a[0].clone()))
    with torch.no_grad():
        model.hf(ids)
    handle.remove()
    clean = kept[0].view(1, ids.shape[1], -1)[0, token, unit]
    drawn = np.random.RandomState(NOISE.seed).randn(
        3, int(mask.sum()), model.embedding_weight.shape[1]
    )

    def noised(_m, _a, made):
        made = made.clone()
        made[:, mask] += 0.4 * torch.from_numpy(drawn).to(made.dtype)
        return made

    def replaced(_m, args):
        value = args[0].clone()
        value.view(3, ids.shape[1], -1)[:, token, unit] = clean
        return (value,)

    handles = [
        model.embedding.register_forward_hook(noised),
        _down(model, layer).register_forward_pre_hook(replaced),
    ]
    with torch.no_grad():
        logits = model.hf(ids.expand(3, -1)).logits[:, trace.focus]
    for handle in handles:
        handle.remove()
    return float(logits.softmax(-1)[:, trace.answer].mean())


@pytest.mark.parametrize("engine", ["replay", "hooks"])
@pytest.mark.parametrize("name", ["gpt2", "gpt_neox", "llama", "gemma2", "olmo2", "opt", "phi3"])
def test_exact_is_a_forward_pass_with_one_unit_replaced(make_model, name, engine):
    model = make_model(name)
    n = len(model.encode(PROMPT))
    cells = [(0, n - 4), (1, n - 3), (2, n - 1)]
    trace = tl.neuron_trace(
        model, PROMPT, SUBJECT, method="exact", cells=cells, corruption=NOISE, engine=engine
    )
    assert trace.settings["engine"] == engine
    assert np.isnan(trace.scores[0, n - 1]).all()  # not asked for
    for layer, token in cells:
        for unit in (0, 7, trace.n_units - 1):
            expected = _by_hand(model, trace, layer, token, unit)
            assert trace.scores[layer, token, unit] == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("basis", ["neuron", "coordinate"])
def test_replay_and_hooks_agree_on_every_unit(family, basis):
    made = [
        tl.neuron_trace(
            family, "Once upon a time there was Lily", "time", basis=basis, method="exact",
            corruption=NOISE, engine=engine,
        ) for engine in ("replay", "hooks")
    ]  # fmt: skip
    assert np.abs(made[0].scores - made[1].scores).max() < 1e-5
    assert np.abs(made[0].joint - made[1].joint).max() < 1e-5
    assert np.abs(made[0].effects()).max() > 1e-5


def _linear_model(tokenizer, seed: int) -> Model:
    """A Llama without a final norm: what its last block adds at the focus adds to the logits."""
    hf = random_model("llama", tokenizer, seed)
    hf.model.norm = nn.Identity()
    return tl.load(hf, tokenizer=tokenizer)


@pytest.mark.parametrize("seed", range(5))
def test_effects_of_a_linear_model_add_up_to_the_joint_one(tokenizer, seed):
    model = _linear_model(tokenizer, seed)
    focus = len(model.encode(PROMPT)) - 1
    asked = {"cells": [(2, focus)], "metric": "logit", "corruption": NOISE}
    exact = tl.neuron_trace(model, PROMPT, SUBJECT, method="exact", **asked)
    effects, joint = exact.effects()[2, focus], exact.layer_mean("joint")[2, focus]
    assert abs(joint) > 1e-2
    assert effects.sum() == pytest.approx(joint, abs=1e-4)
    for method in ("atp", "relp", "ig"):
        made = tl.neuron_trace(model, PROMPT, SUBJECT, method=method, restored=0, **asked)
        assert not made.exact_mask[2, focus].any()
        assert np.abs(made.effects()[2, focus] - effects).max() < 1e-4


def test_an_estimate_is_followed_by_exact_restoration(gpt2):
    exact = tl.neuron_trace(gpt2, PROMPT, SUBJECT, method="exact", corruption=NOISE)
    made = tl.neuron_trace(gpt2, PROMPT, SUBJECT, method="atp", restored=40, corruption=NOISE)
    first = int(np.flatnonzero(made.subject_mask)[0])
    measured = made.exact_mask[:, first:]
    assert measured.sum() == 40
    assert made.exact_mask[:, :first].all()
    assert np.abs((made.scores - exact.scores)[:, first:][measured]).max() < 1e-6
    estimates = tl.neuron_trace(gpt2, PROMPT, SUBJECT, method="atp", restored=0, corruption=NOISE)
    theirs, truth = (r.effects()[:, first:][measured] for r in (estimates, exact))
    assert made.agreement["restored"] == 40
    assert made.agreement["pearson"] == pytest.approx(np.corrcoef(theirs, truth)[0, 1])
    half = [set(np.argsort(-x)[:20].tolist()) for x in (theirs, truth)]
    assert made.agreement["recall"] == len(half[0] & half[1]) / 20
    assert not made.is_exact
    assert exact.is_exact
    assert exact.agreement == {}


@pytest.mark.parametrize("basis", ["neuron", "coordinate"])
def test_greedy95_is_the_rule_of_2022(gpt2, basis):
    """Against the rule done one prefix after the other, by hooks."""
    focus = len(gpt2.encode(PROMPT)) - 1
    cells = [(0, focus - 2), (1, focus), (2, focus)]
    asked = {"cells": cells, "basis": basis, "corruption": NOISE}
    made = tl.neuron_trace(gpt2, PROMPT, SUBJECT, method="greedy95", batch_tokens=200, **asked)
    path = "mlp.c_proj" if basis == "neuron" else "mlp"
    for layer, token in cells:
        module = gpt2.hf.transformer.h[layer].get_submodule(path)
        stop = 0.95 * made.joint[layer, token]
        order, value = _greedy_by_hand(gpt2, made, module, basis, token, stop)
        scores = made.scores[layer, token]
        assert set(np.flatnonzero(scores).tolist()) == set(order)
        assert scores[order] == pytest.approx(value, abs=1e-5)
    assert np.array_equal(made.effects(), made.scores, equal_nan=True)
    still = tl.neuron_trace(
        gpt2, PROMPT, SUBJECT, method="greedy95", basis=basis, corruption=NOISE, cells=[(1, 0)]
    )
    assert np.count_nonzero(still.scores[1, 0]) == 1  # nothing changes there: one is enough
    assert still.scores[1, 0].max() == pytest.approx(still.corrupted)


def test_greedy95_needs_no_unit_after_the_focus(gpt2):
    focus = len(gpt2.encode(PROMPT)) - 3
    made = tl.neuron_trace(
        gpt2, PROMPT, SUBJECT, method="greedy95", focus=focus, corruption=NOISE,
        cells=[(1, focus), (1, focus + 1)],
    )  # fmt: skip
    assert np.count_nonzero(made.scores[1, focus]) >= 1
    assert not made.scores[1, focus + 1].any()


def _greedy_by_hand(model, trace, module, basis, token, stop):
    ids, mask = torch.from_numpy(trace.tokens.ids)[None], torch.from_numpy(trace.subject_mask)
    kept: list[torch.Tensor] = []

    def hook(change):
        if basis == "neuron":
            return module.register_forward_pre_hook(lambda _m, a: change(a[0]))
        return module.register_forward_hook(lambda _m, _a, made: change(made))

    handle = hook(lambda value: kept.append(value.clone()))
    with torch.no_grad():
        model.hf(ids)
    handle.remove()
    clean = kept[0][0, token]
    order = clean.argsort(descending=True, stable=True).tolist()
    drawn = np.random.RandomState(NOISE.seed).randn(3, int(mask.sum()), 32)

    def noised(_m, _a, made):
        made = made.clone()
        made[:, mask] += 0.4 * torch.from_numpy(drawn).to(made.dtype)
        return made

    for n in range(1, len(order) + 1):

        def restored(value, n=n):
            value = value.clone()
            value[:, token, order[:n]] = clean[order[:n]]
            return value

        handles = [model.embedding.register_forward_hook(noised), hook(restored)]
        with torch.no_grad():
            logits = model.hf(ids.expand(3, -1)).logits[:, trace.focus]
        for handle in handles:
            handle.remove()
        value = float(logits.softmax(-1)[:, trace.answer].mean())
        if value >= stop:
            break
    return order[:n], value


def test_reductions(gpt2):
    trace = tl.neuron_trace(gpt2, PROMPT, SUBJECT, corruption=NOISE)
    assert trace.method == "exact"
    assert trace.settings["method"] == "auto"
    effects = trace.effects()
    assert effects == pytest.approx(trace.scores - trace.corrupted)
    means = {
        "mean": effects.mean(-1), "max": effects.max(-1),
        "mean+max": effects.mean(-1) + effects.max(-1),
        "positive": np.where(effects > 0, effects, 0).sum(-1),
        "joint": tl.causal_trace(gpt2, PROMPT, SUBJECT, kind="mlp", corruption=NOISE).effects(),
    }  # fmt: skip
    for name, expected in means.items():
        assert np.abs(trace.layer_mean(name) - expected).max() < 1e-6, name
    assert np.array_equal(trace.layer_mean(), trace.layer_mean("mean"))
    name, token, effect = trace.top(1)[0]
    layer, unit = map(int, name.split("."))
    assert effect == effects.max() == effects[layer, token, unit]


def test_the_strongest_units_and_the_sums_are_kept(gpt2):
    whole = tl.neuron_trace(gpt2, PROMPT, SUBJECT, corruption=NOISE)
    part = tl.neuron_trace(gpt2, PROMPT, SUBJECT, corruption=NOISE, keep=5)
    assert part.scores.shape[-1] == part.kept.shape[-1] == 5
    assert part.n_units == whole.n_units
    picked = np.take_along_axis(whole.scores, part.kept, axis=2)
    assert np.abs(picked - part.scores).max() < 1e-7
    left = np.abs(whole.effects()).max(-1)
    assert np.abs(part.effects()).max(-1) == pytest.approx(left, abs=1e-7)
    assert np.abs(part.mean - whole.mean).max() < 1e-7
    assert [name for name, *_ in part.top(3)] == [name for name, *_ in whole.top(3)]


def test_a_large_result_keeps_the_strongest_and_says_so_first(gpt2, monkeypatch):
    monkeypatch.setattr("twinlens.see.neurons.DENSE_BYTES", 1000)
    with pytest.warns(UserWarning, match=r"need about .* holds the 64 strongest"):
        trace = tl.neuron_trace(gpt2, PROMPT, SUBJECT, method="atp", corruption=NOISE)
    assert trace.scores.shape[-1] == 64
    assert trace.n_units == 128
    assert any("the 64 strongest" in note for note in trace.notes)


def test_auto_estimates_where_exact_takes_too_long(gpt2, monkeypatch):
    monkeypatch.setattr("twinlens.see.measuring.EXACT_SECONDS", 0.0)
    trace = tl.neuron_trace(gpt2, PROMPT, SUBJECT, corruption=NOISE)
    assert trace.method == "atp"
    assert trace.settings["method"] == "auto"
    assert trace.agreement


@pytest.mark.parametrize(("metric", "method"), [("probability", "atp"), ("kl", "ig")])
def test_noising_takes_away(gpt2, metric, method):
    trace = tl.neuron_trace(
        gpt2, PROMPT, SUBJECT, corruption=NOISE, direction="noise", metric=metric, method=method
    )
    exact = tl.neuron_trace(
        gpt2, PROMPT, SUBJECT, corruption=NOISE, direction="noise", metric=metric, method="exact"
    )
    sign = -1 if metric == "kl" else 1
    assert exact.effects() == pytest.approx(sign * (exact.clean - exact.scores))
    measured = trace.exact_mask
    assert np.abs((trace.scores - exact.scores)[measured]).max() < 1e-6
    if metric == "probability":
        assert trace.agreement["pearson"] > 0.8


def test_a_divergence_is_not_estimated_where_it_has_no_slope(gpt2, monkeypatch):
    monkeypatch.setattr("twinlens.see.measuring.EXACT_SECONDS", 0.0)
    asked = {"corruption": NOISE, "direction": "noise", "metric": "kl"}
    assert tl.neuron_trace(gpt2, PROMPT, SUBJECT, **asked).method == "ig"


def test_half_precision_says_that_it_is_coarse(tokenizer):
    hf = random_model("llama", tokenizer)
    model = tl.load(hf, tokenizer=tokenizer, dtype="bfloat16")
    cells = [(1, len(model.encode(PROMPT)) - 1)]
    with pytest.warns(UserWarning, match="about as large as its rounding"):
        trace = tl.neuron_trace(
            model, PROMPT, SUBJECT, cells=cells, method="exact", corruption=NOISE
        )
    assert np.isfinite(trace.scores[1, -1]).all()
    assert trace.settings["engine"] == "replay"


def test_scores_that_are_no_numbers_are_refused(gpt2, monkeypatch):
    broken = "twinlens.see.units.Units._scores"
    monkeypatch.setattr(broken, lambda _self, _engines, cells, _tell: np.full(len(cells), np.nan))
    with pytest.raises(tl.errors.CorruptionError, match="not finite"):
        tl.neuron_trace(gpt2, PROMPT, SUBJECT, method="exact", corruption=NOISE)


def test_out_of_memory_goes_on_with_less_and_says_so_once(gpt2, monkeypatch):
    expected = tl.neuron_trace(gpt2, PROMPT, SUBJECT, method="exact", corruption=NOISE)
    true = gpt2.blocks[2].forward

    @functools.wraps(true)
    def small(residual, *given, **more):
        if residual.shape[0] > 60:
            raise MemoryError
        return true(residual, *given, **more)

    monkeypatch.setattr(gpt2.blocks[2], "forward", small)
    with pytest.warns(UserWarning, match="out of memory: went on with"):
        made = tl.neuron_trace(gpt2, PROMPT, SUBJECT, method="exact", corruption=NOISE)
    assert np.abs(made.scores - expected.scores).max() < 1e-6
    assert len([note for note in made.notes if "out of memory" in note]) <= 5


def test_agreement_of_equal_values():
    same, ranked = np.ones(6), np.arange(6.0)
    assert np.isnan(_agreement(same, ranked)["spearman"])
    assert _agreement(ranked, ranked**3)["spearman"] == pytest.approx(1.0)
    assert _ranks(np.array([3.0, 1.0, 3.0])).tolist() == [1.5, 0.0, 1.5]


def test_saved_and_opened(gpt2, tmp_path):
    trace = tl.neuron_trace(gpt2, PROMPT, SUBJECT, corruption=NOISE, method="atp", keep=7)
    again = tl.open_result(trace.save(tmp_path / "units.safetensors"))
    assert isinstance(again, tl.NeuronResult)
    assert np.array_equal(again.scores, trace.scores)
    assert np.array_equal(again.kept, trace.kept)
    assert again.agreement == trace.agreement
    assert again.top(3) == trace.top(3)
    frame = again.to_dataframe()
    assert len(frame) == trace.scores.size
    row = frame.loc[frame["effect"].idxmax()]
    assert f"{row['layer']}.{row['unit']}" == trace.top(1)[0][0]
    assert again.to_xarray()["effect"].dims == ("layer", "token", "unit")
