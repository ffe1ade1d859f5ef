"""Attention weights are those of the plain implementation, and the model is left as it was."""

from __future__ import annotations

import copy

import pytest
import torch
from transformers import AutoModelForCausalLM

import twinlens as tl
from tests.conftest import STORY, random_model
from twinlens.errors import AnatomyError
from twinlens.model.model import Model
from twinlens.run.patterns import Strip, watch_patterns


def all_patterns(model: Model, ids: torch.Tensor, **options) -> list[torch.Tensor]:
    """Weights `[row, head, query, key]` of every block."""
    strips: list[list[torch.Tensor]] = [[] for _ in range(model.n_layers)]
    watch_patterns(model, ids, lambda strip: strips[strip.layer].append(strip.weights), **options)
    return [torch.cat(parts, dim=2) for parts in strips]


def eager(model: Model, ids: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """What a copy of the model says that was made for plain attention."""
    config = copy.deepcopy(model.hf.config)
    other = AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval()
    other.load_state_dict(model.hf.state_dict())
    with torch.no_grad():
        return other(ids, output_attentions=True).attentions


@pytest.fixture(scope="module")
def ids(gpt2) -> torch.Tensor:
    one = torch.from_numpy(gpt2.encode(STORY).ids)
    return torch.stack([one, one.flip(0)])


def test_equal_to_the_plain_implementation(family, ids):
    reference = eager(family, ids)
    for seen, plain in zip(all_patterns(family, ids), reference, strict=True):
        torch.testing.assert_close(seen, plain, rtol=1e-5, atol=1e-5)


def test_rows_sum_to_one_and_look_only_back(family, ids):
    for weights in all_patterns(family, ids):
        torch.testing.assert_close(weights.sum(-1), torch.ones(weights.shape[:-1]))
        assert not weights.triu(1).any()


@pytest.mark.parametrize("name", ["gpt2", "gemma2"])
def test_strips_change_nothing(make_model, ids, name):
    whole = all_patterns(make_model(name), ids)
    strips = all_patterns(make_model(name), ids, numbers=3 * ids.numel() * 4)
    for a, b in zip(whole, strips, strict=True):
        torch.testing.assert_close(a, b)


def test_no_more_weights_at_once_than_allowed(gpt2, ids):
    sizes: list[int] = []
    watch_patterns(gpt2, ids, lambda s: sizes.append(s.weights.numel()), numbers=1000)
    assert max(sizes) <= 1000
    assert len(sizes) > gpt2.n_layers


def test_the_values_of_a_head_are_those_of_its_group(make_model, ids):
    model, kept = make_model("llama"), {}
    watch_patterns(model, ids, lambda strip: kept.setdefault(strip.layer, strip))
    read = []
    handle = model.blocks[1].self_attn.v_proj.register_forward_hook(lambda *c: read.append(c[-1]))
    with torch.no_grad():
        model.hf(ids)
    handle.remove()
    groups = read[0].view(*ids.shape, 2, 8)
    for head in range(4):
        torch.testing.assert_close(kept[1].values_of(head), groups[:, :, head // 2])


@pytest.mark.parametrize("implementation", ["sdpa", "eager", "flash_attention_2"])
def test_whatever_the_model_was_loaded_with(tokenizer, ids, implementation):
    hf = random_model("llama", tokenizer)
    reference = eager(tl.load(hf, tokenizer=tokenizer), ids)
    hf.config._attn_implementation = implementation
    model = tl.load(hf, tokenizer=tokenizer)
    for seen, plain in zip(all_patterns(model, ids), reference, strict=True):
        torch.testing.assert_close(seen, plain, rtol=1e-5, atol=1e-5)
    assert hf.config._attn_implementation == implementation


def test_the_model_is_left_as_it_was_even_after_an_error(gpt2, ids):
    before = gpt2.hf(ids).logits

    def fail(_: Strip) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        watch_patterns(gpt2, ids, fail)
    assert gpt2.hf.config._attn_implementation == "sdpa"
    assert torch.equal(gpt2.hf(ids).logits, before)


def test_attention_that_cannot_be_seen_is_refused_by_name(make_model, ids):
    with pytest.raises(AnatomyError, match="attention of block 0"):
        watch_patterns(make_model("bloom"), ids, lambda strip: None)
