"""The backward pass of relevance patching: same numbers forward, and rules that add up."""

from __future__ import annotations

import pytest
import torch

from tests.conftest import STORY
from twinlens.run.linear import linearised


def _logits(model, embeddings):
    return model.hf(inputs_embeds=embeddings, use_cache=False).logits[0, -1]


def test_forward_is_unchanged(family):
    ids = torch.from_numpy(family.encode(STORY).ids)[None]
    with torch.no_grad():
        plain = family.hf(ids).logits
        with linearised(family, 1):
            ruled = family.hf(ids).logits
        again = family.hf(ids).logits
    assert torch.allclose(ruled, plain, atol=1e-4)
    assert torch.equal(again, plain)  # nothing stays behind


@pytest.mark.parametrize("name", ["llama", "mistral", "qwen3", "phi3", "olmo2"])
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_relevance_is_conserved(make_model, name, attention):
    """Without biases every rule is homogeneous, so embedding times gradient is the logit again."""
    model = make_model(name)
    before = model.hf.config._attn_implementation
    model.hf.set_attn_implementation(attention)
    ids = torch.from_numpy(model.encode(STORY).ids)[None]
    embeddings = model.embedding(ids).detach().requires_grad_()
    try:
        with linearised(model, 1):
            logits = _logits(model, embeddings)
        (gradient,) = torch.autograd.grad(logits[5], embeddings)
        (plain,) = torch.autograd.grad(_logits(model, embeddings)[5], embeddings)
    finally:
        model.hf.set_attn_implementation(before)
    assert float((embeddings * gradient).sum()) == pytest.approx(float(logits[5]), abs=1e-3)
    assert float((embeddings * plain).sum()) != pytest.approx(float(logits[5]), abs=1e-2)


def test_a_gate_and_what_it_gates_share(make_model):
    mlp = make_model("llama").blocks[1].mlp
    x = torch.randn(1, 4, 32, generator=torch.Generator().manual_seed(1)).requires_grad_()
    down = torch.randn(1, 4, 32, generator=torch.Generator().manual_seed(2))
    with linearised(make_model("llama"), 1):
        made = mlp(x)
    (found,) = torch.autograd.grad(made, x, down)
    with torch.no_grad():
        gate, up = mlp.gate_proj(x), mlp.up_proj(x)
        to_product = down @ mlp.down_proj.weight
        slope = torch.sigmoid(gate)  # silu(g) / g
        through_gate = (to_product * up * slope) @ mlp.gate_proj.weight
        through_up = (to_product * gate * slope) @ mlp.up_proj.weight
        expected = (through_gate + through_up) / 2
    assert torch.allclose(found, expected, atol=1e-4)


def test_a_layer_norm_keeps_its_scale(gpt2):
    norm = gpt2.blocks[0].ln_1
    x = torch.randn(1, 4, 32, generator=torch.Generator().manual_seed(1)).requires_grad_()
    down = torch.randn(1, 4, 32, generator=torch.Generator().manual_seed(2))
    with linearised(gpt2, 1):
        made = norm(x)
    (found,) = torch.autograd.grad(made, x, down)
    scale = (x.var(-1, unbiased=False, keepdim=True) + norm.eps).sqrt().detach()
    through = down * norm.weight / scale
    expected = through - through.mean(-1, keepdim=True)
    assert torch.allclose(made, norm(x), atol=1e-5)
    assert torch.allclose(found, expected, atol=1e-4)
