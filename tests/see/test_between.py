"""What a card says a neuron of an expert adds is what a change of it makes at the residual."""

from __future__ import annotations

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

import twinlens as tl
from tests.conftest import STORY
from tests.families_ import TABLE
from twinlens.cli.neuron import _print as printed
from twinlens.model.anatomy import Site
from twinlens.run.hooks import hooked
from twinlens.see.between import between
from twinlens.see.card import _contribution

TOKEN, MORE = 6, 0.5
SHARED = TABLE["deepseek_v3"].settings  # 4 experts of 12 neurons, shared ones
OWN = {
    "laguna": SHARED | {
        "shared_expert_intermediate_size": 16, "moe_routed_scaling_factor": 2.5,
        "moe_intermediate_size": 16,
        "mlp_layer_types": ["sparse"] * 2, "layer_types": ["full_attention"] * 2,
        "num_attention_heads_per_layer": [4, 4], "num_key_value_heads": 2, "head_dim": 8,
    },
    "cohere2_moe": TABLE["qwen3_moe"].settings | {
        "num_shared_experts": 1, "shared_expert_combination_strategy": "average",
        "mlp_layer_types": ["sparse"] * 2,
    },
    "axk1": SHARED | {"mlp_layer_types": ["dense", "sparse"]},
}  # fmt: skip


@pytest.fixture
def model(request, make_model, tokenizer) -> tl.Model:
    if request.param in TABLE:
        return make_model(request.param)
    torch.manual_seed(0)
    config = AutoConfig.for_model(request.param, vocab_size=len(tokenizer), **OWN[request.param])
    hf = AutoModelForCausalLM.from_config(config).eval()
    with torch.no_grad():
        for parameter in hf.parameters():
            parameter += 0.1 * torch.randn(parameter.shape)
    return tl.load(hf, tokenizer=tokenizer)


def _by_hand(model, layer, unit) -> torch.Tensor:
    """What a neuron that is larger by one adds to the residual behind its block, at a token."""
    kept, ids = [], torch.from_numpy(model.encode(STORY).ids)[None]

    def keep(_block, _args, made):
        kept.append((made[0] if isinstance(made, tuple) else made)[0, TOKEN].clone())

    def larger(value):
        value = value.clone()
        value[0, TOKEN, unit] += MORE
        return value

    handle = model.blocks[layer].register_forward_hook(keep)
    with torch.no_grad():
        model.hf(ids)
        with hooked(model, {Site("neuron", layer): larger}, 1):
            model.hf(ids)
    handle.remove()
    return (kept[1] - kept[0]) / MORE


def _routed_and_shared(model, layer=1) -> list[int]:
    units = model.experts(layer).units
    return [5, units.routed + 2] if units.shared else [5]


@pytest.mark.parametrize(
    ("model", "times"),
    [
        ("laguna", [2.5, 1.0]), ("cohere2_moe", [0.5, 0.5]), ("granitemoe", [1.0]),
        ("llama4_text", [1.0, 1.0]), ("deepseek_v3", [1.0, 1.0]), ("gpt_oss", [1.0]),
    ],
    indirect=["model"],
)  # fmt: skip
def test_constant_factors_are_applied(model, times, capsys):
    for unit, factor in zip(_routed_and_shared(model), times, strict=True):
        expected = _by_hand(model, 1, unit)
        torch.testing.assert_close(_contribution(model, 1, unit), expected, rtol=1e-4, atol=1e-5)
        card = tl.neuron_card(model, 1, unit, top_k=1)
        said = [f"is multiplied by {factor:g} before"] if factor != 1 else []
        assert len(card.notes) == len(said)
        assert all(words in note for words, note in zip(said, card.notes, strict=True))
        assert between(model, 1, unit).times == factor
        assert card.to_dict()["notes"] == list(card.notes)
        assert card.to_dict()["name"] == card.name == f"1.{model.experts(1).units.name(unit)}"
        printed(card)
        told = " ".join(capsys.readouterr().out.split())
        assert f"neuron {card.name}: " in told
        assert all(words in told for words in said)


@pytest.mark.parametrize("model", ["qwen2_moe"], indirect=True)
def test_a_gate_that_each_token_sets_is_told_by_name(model):
    routed, shared = _routed_and_shared(model)
    torch.testing.assert_close(
        _contribution(model, 1, routed), _by_hand(model, 1, routed), rtol=1e-4, atol=1e-5
    )
    assert not tl.neuron_card(model, 1, routed).notes
    (note,) = tl.neuron_card(model, 1, shared).notes
    assert "a number that each token sets (model.layers.1.mlp.shared_expert_gate)" in note
    row, made = _contribution(model, 1, shared), _by_hand(model, 1, shared)
    assert float(torch.cosine_similarity(row, made, dim=0)) == pytest.approx(1, abs=1e-5)
    assert float((row - made).norm()) > 0.1 * float(made.norm())


@pytest.mark.parametrize("model", ["axk1"], indirect=True)
def test_a_norm_behind_the_sum_is_passed_alone_and_told_by_name(model):
    norm = model.module("model.layers.1.mlp.post_mlp_layernorm")
    down = model.experts(1).down.flatten(0, 1)
    for unit in _routed_and_shared(model):
        (note,) = tl.neuron_card(model, 1, unit).notes
        assert "passes model.layers.1.mlp.post_mlp_layernorm together with all else" in note
        if unit < len(down):
            with torch.no_grad():
                torch.testing.assert_close(_contribution(model, 1, unit), norm(down[unit]))
    assert tl.neuron_card(model, 0, 3).notes == ()


@pytest.mark.parametrize("model", ["laguna"], indirect=True)
def test_what_silenced_weights_do_not_show_is_asked_again(model):
    shared = ",".join(f"1.S.N{n}" for n in range(model.experts(1).units.shared))
    for silenced, times in (("1.MLP", 1.0), (shared, 2.5)):
        with tl.changed(model, tl.Silence(silenced)):
            assert between(model, 1, 5).times == times
    assert "between" not in model._memo or 1 not in model._memo["between"]
    assert between(model, 1, 5).times == 2.5


@pytest.mark.parametrize("model", ["laguna"], indirect=True)
def test_half_precision_shows_the_same_constant(model):
    half = tl.load(model.hf.to(torch.bfloat16), tokenizer=model.tokenizer, anatomy=model.anatomy)
    assert [between(half, 1, unit).times for unit in _routed_and_shared(half)] == [2.5, 1.0]
