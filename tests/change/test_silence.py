"""Silenced weights compute what hooks that overwrite the activations compute."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import twinlens as tl
from tests.conftest import FAMILIES, STORY, random_model
from twinlens.change.change import Change, changed
from twinlens.change.constants import constants_of
from twinlens.change.parts import Part, inputs_of, projection
from twinlens.change.silence import Silence, by_site, silence
from twinlens.errors import ChangeError, InputError
from twinlens.model.anatomy import Site

TEXT = [STORY, "Tom and the big dog went to the park. " * 2, "A cat."]
PARTS = ["1.N3,1.N17", "0.N0", "2.H1", "1.H3"]
WHOLE = ["2.MLP", "0.ATTN"]


def _bytes(model):
    return {n: t.detach().clone().view(torch.int32) for n, t in model.hf.named_parameters()}


def _logits(model, text=STORY):
    ids = torch.from_numpy(model.encode(text).ids)[None]
    with torch.no_grad():
        return model.hf(ids).logits[0]


def _overwritten(model, silenced, values=None):
    """The reference: activations are overwritten on their way into the projection, and what a whole
    sub-block's projection writes is multiplied."""
    handles = []
    for part in silenced.named:
        module = projection(model, part.kind, part.layer).module
        at, (site,) = torch.from_numpy(inputs_of(model, part)), by_site([part])

        def before(_module, args, at=at, site=site):
            changed_ = args[0].clone()
            new = changed_[..., at] * silenced.factor
            changed_[..., at] = new if values is None else torch.tensor(values[site])[at].to(new)
            return (changed_, *args[1:])

        def after(_module, _args, out):
            return out * silenced.factor

        if part.kind in ("mlp", "attn") and values is None:
            handles.append(module.register_forward_hook(after))
        else:
            handles.append(module.register_forward_pre_hook(before))
    try:
        return _logits(model)
    finally:
        for handle in handles:
            handle.remove()


def _activations(model, site, text=TEXT, length=16):
    """Every input of a projection on a text, document by document: the plain way."""
    kept = []
    hook = model.module(model.anatomy.path(site)).register_forward_pre_hook(
        lambda _m, args: kept.append(args[0].reshape(-1, args[0].shape[-1]).double())
    )
    with torch.no_grad():
        for document in text:
            ids = torch.tensor(model.tokenizer(document)["input_ids"])
            for piece in ids.split(length):
                if len(piece) > 1:
                    model.hf(piece[None])
    hook.remove()
    return torch.cat(kept).numpy()


@pytest.mark.parametrize("family", FAMILIES)
def test_silenced_weights_are_overwritten_activations(family, make_model):
    model = make_model(family)
    plain, before = _logits(model), _bytes(model)
    for parts, factor in ((PARTS, 0.4), ([*PARTS, *WHOLE], 0.0), (WHOLE, 0.4)):
        silenced = Silence(parts, factor=factor)
        expected = _overwritten(model, silenced)
        with changed(model, silenced):
            torch.testing.assert_close(_logits(model), expected, atol=2e-4, rtol=1e-4)
        moved = float((expected - plain).abs().max())
        assert moved > 1e-3 or (factor and parts == WHOLE)  # a norm afterwards undoes the factor
    after = _bytes(model)
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert torch.equal(_logits(model), plain)


@pytest.mark.parametrize("family", ["gpt2", "llama", "gemma2", "opt_post_norm"])
def test_means_of_a_text_are_overwritten_activations(family, make_model):
    model = make_model(family)
    made = silence(model, [*PARTS, *WHOLE], to="mean", text=TEXT, length=16, batch_tokens=40)
    every = {site: _activations(model, site) for site in by_site(made.named)}
    values = {site: kept.mean(0) for site, kept in every.items()}
    for site, kept in every.items():
        assert made.about["n_tokens"] == len(kept)
        np.testing.assert_allclose(made.constants[site], values[site], atol=1e-4)
    expected = _overwritten(model, made, values)
    with changed(model, made):
        torch.testing.assert_close(_logits(model), expected, atol=2e-4, rtol=1e-4)


def _token_of(constants, every):
    """The one token of a text at which all sites had these values."""
    apart = {site: np.abs(kept - constants[site]).max(1) for site, kept in every.items()}
    assert max(distance.min() for distance in apart.values()) < 1e-4
    (token,) = {int(distance.argmin()) for distance in apart.values()}
    return token


def test_resampled_parts_take_the_values_of_one_token(make_model):
    model = make_model("llama")
    sites = [Site("neuron", 0), Site("head", 2), Site("neuron", 2)]
    every = {site: _activations(model, site) for site in sites}
    drawn = []
    for seed in range(8):
        made, _ = constants_of(
            model, sites, TEXT, to="resample", length=16, batch_tokens=99, seed=seed, progress=False
        )
        drawn.append(_token_of(made, every))
    assert len(set(drawn)) > 4
    silenced = silence(model, ["0.N1", "2.MLP", "2.H0"], to="resample", text=TEXT, length=16)
    token = _token_of(silenced.constants, every)
    values = {site: kept[token] for site, kept in every.items()}
    expected = _overwritten(model, silenced, values)
    with changed(model, silenced):
        torch.testing.assert_close(_logits(model), expected, atol=2e-4, rtol=1e-4)


def test_a_part_named_twice_or_within_its_block_is_scaled_once(make_model):
    model = make_model("gpt2")
    found = projection(model, "neuron", 1)
    values = Silence(["1.N3", "1.N3", "1.MLP"], factor=0.5).values(model)
    torch.testing.assert_close(values[found.weight_name], 0.5 * found.weight)
    torch.testing.assert_close(values[found.bias_name], 0.5 * found.bias)


def test_silenced_twice_in_a_row_is_undone_twice(make_model):
    model = make_model("qwen2")
    before = model.weights_hash()
    both = silence(model, "0.N1", to="mean", text=TEXT), Silence("0.MLP")
    with changed(model, *both):
        assert not projection(model, "mlp", 0).weight.any()
        assert projection(model, "mlp", 0).bias is not None  # the constant of the first stays
    assert model.weights_hash() == before
    assert projection(model, "mlp", 0).bias is None


def test_a_model_first_measured_while_silenced_is_not_voided_by_that(tokenizer):
    model = tl.load(random_model("gpt2", tokenizer), tokenizer=tokenizer)
    with tl.changed(model, Silence("0.MLP,1.MLP,2.MLP")):
        tl.logit_lens(model, STORY)  # the first to ask where the parts are
    tl.neuron_card(model, 0, 3)  # needs neurons, and is not refused


def test_half_precision_is_kept(tokenizer):
    model = tl.load(random_model("llama", tokenizer).bfloat16(), tokenizer=tokenizer)
    made = silence(model, "1.H2", to="mean", text=TEXT).values(model)
    assert {tensor.dtype for tensor in made.values()} == {torch.bfloat16}


def test_what_was_done_is_plain(make_model):
    model = make_model("gpt2")
    assert isinstance(Silence("0.N1"), Change)
    assert Silence(["0.N1", Part("mlp", 2)], factor=0.5).plain() == {
        "kind": "silence", "parts": ["0.N1", "2.MLP"], "to": "zero", "factor": 0.5,
    }  # fmt: skip
    told = silence(model, "0.N1", to="resample", text=TEXT, seed=3).plain()
    assert told.keys() >= {"text", "n_tokens", "seed", "window", "token", "constants"}
    other = silence(model, "0.N1", to="resample", text=TEXT, seed=4).plain()
    assert other["constants"] != told["constants"]


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"parts": []}, "no part to silence"),
        ({"parts": ["nonsense"]}, "no part of a model"),
        ({"parts": "0.N1", "factor": float("nan")}, "factor=nan"),
        ({"parts": "0.N1", "to": "mean"}, "constants go with"),
        ({"parts": "0.N1", "to": "mean", "factor": 0.5, "constants": {}}, "factor=0.5"),
        ({"parts": "0.N1", "constants": {}}, "constants go with"),
    ],
)
def test_what_does_not_fit_is_refused(asked, message):
    with pytest.raises(InputError, match=message):
        Silence(**asked)


def test_what_does_not_fit_the_model_is_refused(make_model):
    model = make_model("gpt2")
    with pytest.raises(InputError, match=r"7\.N1"):
        silence(model, "7.N1")
    with pytest.raises(InputError, match="needs a text"):
        silence(model, "0.N1", to="mean")
    with pytest.raises(InputError, match="a text goes with"):
        silence(model, "0.N1", text=TEXT)
    short = Silence("0.N1", "mean", constants={Site("neuron", 0): np.zeros(5)})
    for wrong in (short, Silence("0.N1", "mean", constants={})):
        with pytest.raises(ChangeError, match="inputs"):
            wrong.values(model)
