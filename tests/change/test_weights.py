"""Weights at zero are those that a direct computation names, exactly so many, and they nest."""

from __future__ import annotations

import copy

import pytest
import torch

import twinlens as tl
from tests.conftest import STORY
from twinlens.change.silence import Silence
from twinlens.change.weights import (
    Zeroed,
    _refuse_unknown,
    linear_maps,
    weight_scores,
    zero_weights,
)
from twinlens.errors import ChangeError, InputError

TEXT = [STORY, "Tom and the big dog went to the park. " * 2, "A cat."]
RULES = ["wanda", "magnitude", "random"]


def _zero(model, share, by, **options):
    return zero_weights(model, share, by=by, text=TEXT if by == "wanda" else None, **options)


def _inputs(model, name):
    """All inputs of a linear map, `[token, input]`: each window in a pass of its own."""
    seen = []
    module = model.module(name.removesuffix(".weight"))
    handle = module.register_forward_hook(
        lambda _m, args, _out: seen.append(args[0].reshape(-1, args[0].shape[-1]))
    )
    for text in TEXT:
        ids = torch.from_numpy(model.encode(text).ids)
        for start in range(0, len(ids), 24):
            with torch.no_grad():
                model.hf(ids[None, start : start + 24])
    handle.remove()
    return torch.cat(seen).double()


def _as_rows(model, name, tensor):
    """`[output, input]`, by the shape that Conv1D has in its own documentation."""
    conv1d = type(model.module(name.removesuffix(".weight"))).__name__ == "Conv1D"
    return tensor.T if conv1d else tensor


@pytest.mark.parametrize("family", ["gpt2", "llama", "opt"])
def test_wanda_is_the_weight_times_the_size_of_its_input(family, make_model):
    model = make_model(family)
    scores = weight_scores(model, "wanda", text=TEXT, length=24, batch_tokens=60)
    zeroed = _zero(model, 0.25, "wanda", length=24).values(model)
    assert list(scores) == list(zeroed) == list(linear_maps(model))
    for name in list(scores)[-3:]:
        weight = _as_rows(model, name, dict(model.hf.named_parameters())[name].detach())
        size = _inputs(model, name).square().mean(0).sqrt().tolist()
        rows = weight.tolist()
        direct = torch.tensor([[abs(w) * x for w, x in zip(r, size, strict=True)] for r in rows])
        got = _as_rows(model, name, scores[name])
        torch.testing.assert_close(got, direct, rtol=2e-5, atol=1e-7)
        for i, row in enumerate(got):
            expected = set(row.argsort()[: round(0.25 * len(row))].tolist())
            at = _as_rows(model, name, zeroed[name])[i] == 0
            assert set(at.nonzero()[:, 0].tolist()) == expected


@pytest.mark.parametrize("by", RULES)
@pytest.mark.parametrize("share", [0.1, 0.5, 1 / 3])
def test_exactly_the_share_of_each_group_is_zero(by, share, make_model):
    model = make_model("gpt2")
    for name, tensor in _zero(model, share, by).values(model).items():
        rows = _as_rows(model, name, tensor)
        groups = rows if by == "wanda" else rows.reshape(1, -1)
        assert set((groups == 0).sum(1).tolist()) == {round(share * groups.shape[1])}


@pytest.mark.parametrize("by", RULES)
def test_growing_shares_nest_whether_taken_at_once_or_one_after_the_other(by, make_model):
    model = make_model("llama")
    one, two = (_zero(model, share, by) for share in (0.2, 0.45))
    few, many = one.values(model), two.values(model)
    with tl.changed(model, one):
        later = _zero(model, 0.45, by).values(model)  # norms of the changed model
    for name, tensor in few.items():
        assert not ((tensor == 0) & (many[name] != 0)).any()
        assert not ((tensor == 0) & (later[name] != 0)).any()
        assert (later[name] == 0).sum() == (many[name] == 0).sum()
        kept = many[name] != 0
        assert torch.equal(many[name][kept], dict(model.hf.named_parameters())[name][kept])


def test_equal_scores_nest_too_and_count_exactly(make_model):
    model = tl.load(copy.deepcopy(make_model("llama").hf), tokenizer=make_model("llama").tokenizer)
    with torch.no_grad():
        for parameter in model.hf.parameters():
            parameter.copy_((parameter * 4).round() / 4)  # few distinct values
    few, many = (_zero(model, share, "magnitude").values(model) for share in (0.6, 0.7))
    for name, tensor in few.items():
        assert int((tensor == 0).sum()) >= round(0.6 * tensor.numel())
        assert not ((tensor == 0) & (many[name] != 0)).any()


def test_what_is_zero_already_counts(make_model):
    model = make_model("gpt2")
    name = "transformer.h.1.mlp.c_proj.weight"
    with tl.changed(model, Silence([f"1.N{n}" for n in range(64)])):  # half of its inputs
        now = dict(model.hf.named_parameters())[name]
        assert torch.equal(_zero(model, 0.5, "magnitude").values(model)[name], now)
        assert (_zero(model, 0.75, "wanda").values(model)[name] == 0).sum() == 0.75 * now.numel()


@pytest.mark.parametrize("family", ["gpt2", "gpt_neox", "gemma2", "phi3", "opt"])
def test_it_is_put_in_and_taken_out_bit_for_bit(family, make_model):
    model = make_model(family)
    before, maps = model.weights_hash(), set(linear_maps(model))
    inside = {n for n, p in model.hf.named_parameters() if ".embed" not in n and p.dim() > 1}
    assert maps <= inside
    assert not {n for n in inside - maps if ".mlp." in n or "attn." in n or ".fc" in n}
    with tl.changed(model, _zero(model, 0.3, "wanda")):
        assert model.weights_hash() != before
    assert model.weights_hash() == before


def test_random_depends_on_seed_and_name(make_model):
    model = make_model("gpt2")
    one, same, other = (weight_scores(model, "random", seed=seed) for seed in (1, 1, 2))
    first = next(iter(one))
    assert torch.equal(one[first], same[first])
    assert not torch.equal(one[first], other[first])


def test_the_ledger_is_told_rule_share_seed_and_text(make_model):
    model = make_model("gpt2")
    told = _zero(model, 0.3, "wanda").plain()
    other = zero_weights(model, 0.3, by="wanda", text=TEXT[:1]).plain()
    assert (told["by"], told["share"], told["seed"]) == ("wanda", 0.3, 1)
    assert len(told["text"]) == 64
    assert told["text"] != other["text"]
    assert zero_weights(model, 0.2, by="random", seed=7).plain() == {
        "kind": "zero_weights", "by": "random", "share": 0.2, "seed": 7,
    }  # fmt: skip


def test_what_does_not_fit_is_refused(make_model):
    model = make_model("gpt2")
    for share in (0, -0.1, 1.5, float("nan")):
        with pytest.raises(InputError, match="share"):
            zero_weights(model, share, by="random")
    with pytest.raises(InputError, match="by='best'"):
        _refuse_unknown("best")
    with pytest.raises(InputError, match="needs a text"):
        zero_weights(model, 0.1)
    with pytest.raises(InputError, match="a text goes with"):
        zero_weights(model, 0.1, by="random", text=TEXT)
    with pytest.raises(InputError, match="norms"):
        Zeroed(0.1, "wanda")
    with pytest.raises(ChangeError, match="another model"):
        _zero(make_model("llama"), 0.1, "wanda").values(model)
