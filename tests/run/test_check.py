"""Every check can fail: an anatomy is spoiled in one place, and the check of that place says so."""

from __future__ import annotations

import dataclasses

import pytest
import torch

import twinlens as tl
from tests.conftest import STORY, random_model
from twinlens.errors import AnatomyError


def test_every_family_of_the_table_passes(family):
    report = tl.check(family)
    assert report.passed, report.failed()
    assert len(report.checks) >= 15


@pytest.mark.parametrize(
    ("name", "spoiled", "failing"),
    [
        ("llama", {"tail": ()}, "the lens' last row is the model's logits"),
        ("llama", {"tail": ("model.layers.0.input_layernorm",)}, "the lens' last row"),
        ("gemma2", {"logit_softcap": None}, "the lens' last row"),
        ("llama", {"mlp": "self_attn"}, "sub-blocks add up"),
        ("gemma2", {"attn": "self_attn"}, "sub-blocks add up"),
        ("olmo2", {"mlp": "mlp"}, "sub-blocks add up"),
        ("opt_post_norm", {"adds_up": True}, "sub-blocks add up"),
    ],
)
def test_a_wrong_anatomy_fails_the_check_of_its_place(
    make_model, tokenizer, name, spoiled, failing
):
    model = make_model(name)
    wrong = dataclasses.replace(model.anatomy, **spoiled)
    loaded = tl.load(model.hf, tokenizer=tokenizer, anatomy=wrong)
    failed = [check.name for check in tl.check(loaded).failed()]
    assert any(failing in check for check in failed), failed


def test_a_module_that_never_runs_is_refused_by_name(tokenizer):
    hf = random_model("llama", tokenizer)
    for block in hf.model.layers:
        block.dead = torch.nn.Identity()
    model = tl.load(hf, tokenizer=tokenizer)
    wrong = dataclasses.replace(model.anatomy, neurons="dead")
    with pytest.raises(AnatomyError, match=r"model\.layers\.0\.dead.* does not run"):
        tl.logit_lens(tl.load(hf, tokenizer=tokenizer, anatomy=wrong), STORY)


def _call_in_vain(mlp, args, made):
    """Runs a module beside the MLP whose output nothing uses."""
    mlp.bypass(args[0])


def test_a_hook_at_a_place_that_does_not_matter_is_found(tokenizer):
    hf = random_model("llama", tokenizer)
    for block in hf.model.layers:
        block.mlp.bypass = torch.nn.Identity()
        block.mlp.register_forward_hook(_call_in_vain)
    model = tl.load(hf, tokenizer=tokenizer)
    wrong = dataclasses.replace(model.anatomy, neurons="mlp.bypass")
    report = tl.check(tl.load(hf, tokenizer=tokenizer, anatomy=wrong))
    assert [c.name for c in report.failed()] == ["neuron: another state changes the answer"]


def test_blocks_that_are_not_all_the_blocks_fail(make_model, tokenizer):
    model = make_model("llama")
    hf = model.hf
    hf.some = torch.nn.ModuleList(list(hf.model.layers)[:2])
    try:
        wrong = dataclasses.replace(model.anatomy, blocks="some")
        report = tl.check(tl.load(hf, tokenizer=tokenizer, anatomy=wrong))
        assert "the lens' last row is the model's logits" in [c.name for c in report.failed()]
    finally:
        del hf.some


def test_a_model_that_sees_the_future_is_refused(tokenizer):
    from transformers import BertConfig, BertLMHeadModel

    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(tokenizer), hidden_size=32, num_hidden_layers=2, num_attention_heads=4,
        intermediate_size=48, initializer_range=0.3,
    )  # fmt: skip
    model = tl.load(BertLMHeadModel(config), tokenizer=tokenizer)
    with pytest.raises(AnatomyError, match="'a later token changes nothing before it'"):
        tl.logit_lens(model, STORY)


def test_a_model_that_is_not_repeatable_is_refused(tokenizer):
    model = tl.load(random_model("gpt2", tokenizer), tokenizer=tokenizer)
    norm = model.module("transformer.ln_f")
    norm.register_forward_hook(lambda m, args, made: made + torch.rand_like(made))
    with pytest.raises(AnatomyError, match="'the same prompt gives the same logits'"):
        tl.causal_trace(model, STORY, "Lily")


def test_a_failed_check_refuses_only_what_needs_it(make_model, tokenizer):
    model = make_model("gemma2")
    wrong = dataclasses.replace(model.anatomy, attn="self_attn")
    loaded = tl.load(model.hf, tokenizer=tokenizer, anatomy=wrong)
    assert tl.causal_trace(loaded, STORY, "Lily", kind="block").scores.shape[0] == 4
    with pytest.raises(AnatomyError, match="'sub-blocks add up' failed"):
        tl.causal_trace(loaded, STORY, "Lily", kind="attn")


def test_checked_once_a_model(make_model, monkeypatch):
    from twinlens.run import check as module

    model = make_model("qwen2")
    tl.logit_lens(model, STORY)
    monkeypatch.setattr(module, "check", lambda *a, **k: pytest.fail("checked again"))
    tl.logit_lens(model, STORY)
