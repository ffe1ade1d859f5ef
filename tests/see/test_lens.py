from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

import twinlens as tl
from tests.conftest import STORY
from twinlens.errors import AnatomyError
from twinlens.see import reduction


def _logits(model, lens):
    with torch.no_grad():
        return model.hf(input_ids=torch.from_numpy(lens.tokens.ids)[None]).logits[0].float()


def test_the_last_row_is_the_models_own_prediction(family):
    lens = tl.logit_lens(family, STORY, targets=[5], top_k=3)
    logits = _logits(family, lens)
    log_probs = logits.log_softmax(-1)
    top = logits.topk(3)
    assert np.array_equal(lens.top_ids[-1], top.indices)
    assert np.allclose(lens.top_logits[-1], top.values, atol=1e-4)
    assert np.allclose(lens.top_probs[-1], log_probs.exp().gather(-1, top.indices), atol=1e-5)
    assert np.allclose(lens.metric("logit", 5)[-1], logits[:, 5], atol=1e-4)
    assert np.allclose(lens.metric("kl_final_to_layer")[-1], 0, atol=1e-5)
    assert np.allclose(lens.metric("kl_layer_to_final")[-1], 0, atol=1e-5)
    assert (lens.metric("rank")[-1] == 1).all()


def test_every_row_is_the_unembedded_normed_residual_of_an_independent_pass(family):
    lens = tl.logit_lens(family, STORY, rows="mid", targets=[5])
    hf, caught = family.hf, {}
    blocks = family.blocks
    attns = [family.module(family.anatomy.path(site)) for site in family.sites("attn")]

    def keep(name):
        def hook(_module, _args, made):
            caught[name] = made[0] if isinstance(made, tuple) else made

        return hook

    def keep_first(_module, args, kwargs):
        caught["embed"] = args[0] if args else kwargs["hidden_states"]

    handles = [blocks[0].register_forward_pre_hook(keep_first, with_kwargs=True)]
    handles += [b.register_forward_hook(keep(str(i))) for i, b in enumerate(blocks)]
    handles += [a.register_forward_hook(keep(f"attn {i}")) for i, a in enumerate(attns)]
    with torch.no_grad():
        hf(input_ids=torch.from_numpy(lens.tokens.ids)[None], use_cache=False)
        for handle in handles:
            handle.remove()
        before = caught["embed"]
        for i in range(family.n_layers):
            caught[f"{i}.mid"] = before + caught[f"attn {i}"]
            before = caught[str(i)]
        for index, row in enumerate(lens.layers):
            logits = _head(family, caught[row])[0].float()
            assert np.allclose(lens.metric("logit", 5)[index], logits[:, 5], atol=1e-4), row


def _head(model, residual):
    """The families' own heads, spelled out."""
    hf = model.hf
    kind = hf.config.model_type
    if kind == "gpt2":
        return hf.lm_head(hf.transformer.ln_f(residual))
    if kind == "gpt_neox":
        return hf.get_output_embeddings()(hf.gpt_neox.final_layer_norm(residual))
    if kind == "opt":
        decoder = hf.model.decoder
        if decoder.final_layer_norm is not None:
            residual = decoder.final_layer_norm(residual)
        if decoder.project_out is not None:
            residual = decoder.project_out(residual)
        return hf.lm_head(residual)
    logits = hf.lm_head(hf.model.norm(residual))
    cap = getattr(hf.config, "final_logit_softcapping", None)
    return logits if cap is None else cap * torch.tanh(logits / cap)


def test_every_metric_is_its_formula(gpt2):
    lens = tl.logit_lens(gpt2, STORY, targets=[5])
    ids = torch.from_numpy(lens.tokens.ids)[None]
    with torch.no_grad():
        hidden = gpt2.hf(input_ids=ids, output_hidden_states=True).hidden_states
        early = gpt2.hf.lm_head(gpt2.hf.transformer.ln_f(hidden[2]))[0].log_softmax(-1).numpy()
    final = _logits(gpt2, lens).log_softmax(-1).numpy()
    row, positions = lens.layers.index("1"), np.arange(len(lens.tokens))
    best = final.argmax(-1)
    following = np.append(lens.tokens.ids[1:], 0)
    assert np.allclose(lens.metric("log_probability")[row], early[positions, best], atol=1e-4)
    assert np.allclose(lens.metric("probability")[row], np.exp(early[positions, best]), atol=1e-5)
    expected_rank = (early >= early[positions, best][:, None]).sum(-1)
    assert np.array_equal(lens.metric("rank")[row], expected_rank)
    assert np.allclose(
        lens.metric("surprisal", "next")[row, :-1], -early[positions, following][:-1], atol=1e-4
    )
    assert np.isnan(lens.metric("surprisal", "next")[:, -1]).all()
    assert np.allclose(lens.metric("entropy")[row], -(np.exp(early) * early).sum(-1), atol=1e-4)
    forward = (np.exp(final) * (final - early)).sum(-1)
    backward = (np.exp(early) * (early - final)).sum(-1)
    assert np.allclose(lens.metric("kl_final_to_layer")[row], forward, atol=1e-4)
    assert np.allclose(lens.metric("kl_layer_to_final")[row], backward, atol=1e-4)
    assert np.allclose(
        lens.metric("entropy", unit="bits"), lens.metric("entropy") / np.log(2), atol=1e-6
    )
    assert np.isnan(lens.surprisal[0])
    assert np.allclose(lens.surprisal[1:], -final[positions[:-1], following[:-1]], atol=1e-4)
    assert np.allclose(lens.surprisal_bits[1:], lens.surprisal[1:] / np.log(2))


def test_slices_and_strips_do_not_change_the_numbers(gpt2, monkeypatch):
    whole = tl.logit_lens(gpt2, STORY)
    monkeypatch.setattr(reduction, "SLICE_NUMBERS", 3 * gpt2.n_vocab)
    monkeypatch.setattr(reduction, "_STRIP_NUMBERS", 2 * gpt2.n_vocab)
    sliced = tl.logit_lens(gpt2, STORY)
    for name in ("top_ids", "ranks", "target_ids"):
        assert np.array_equal(getattr(whole, name), getattr(sliced, name))
    for name in ("logits", "log_probs", "entropy", "kl_final_to_layer", "surprisal"):
        assert np.allclose(getattr(whole, name), getattr(sliced, name), atol=1e-5, equal_nan=True)


def test_a_star_is_where_the_top_token_comes_next(stories):
    lens = tl.logit_lens(stories, STORY)
    right = lens.right()
    for row, token in np.argwhere(right):
        assert lens.top_ids[row, token, 0] == lens.tokens.ids[token + 1]
    assert right[-1].mean() > 0.5, "a story model knows this story"
    assert not right[:, -1].any()


def test_contributions_add_up_to_the_logits(family):
    parts = [tl.logit_lens(family, STORY, rows=rows, targets=[5]) for rows in ("attn", "mlp")]
    if not family.anatomy.adds_up:
        pytest.skip("the family's sub-blocks do not add up")
    total = sum(part.metric("logit", 5).sum(0) for part in parts)
    from twinlens.see.attribution import FrozenTail

    ids = torch.from_numpy(parts[0].tokens.ids)[None]
    from twinlens.model.anatomy import Site
    from twinlens.run.passes import Inputs, read

    last = Site("block", family.n_layers - 1)
    with torch.no_grad():
        values = read(family, Inputs(ids), [Site("embed", 0), last]).values
        tail = FrozenTail(family, values[last][0])
        embedded = tail.logits(values[Site("embed", 0)][0], slice(None))[:, 5]
        zero = torch.zeros_like(values[last][0])
        biases = [m for m in family.tail if getattr(m, "bias", None) is not None]
        constant = _linear(family, zero)[:, 5] if biases else torch.zeros(len(total))
    whole = _uncapped(family, values[last][0])[:, 5]
    assert np.allclose(total + embedded.numpy() + constant.numpy(), whole, atol=2e-4)


def _linear(model, residual):
    for module in model.tail:
        residual = module(residual)
    return model.module(model.anatomy.unembed)(residual)


def _uncapped(model, residual):
    with torch.no_grad():
        return _linear(model, residual).numpy()


def test_contributions_have_no_probabilities(gpt2):
    lens = tl.logit_lens(gpt2, STORY, rows="attn")
    assert lens.layers == ("0", "1", "2")
    assert np.isnan(lens.top_probs).all()
    assert np.isfinite(lens.metric("logit")).all()


def test_contributions_need_a_norm_that_is_known(make_model, tokenizer):
    from dataclasses import replace

    model = make_model("gpt2")
    twice = replace(model.anatomy, tail=("transformer.ln_f", "transformer.ln_f"))
    with pytest.raises(AnatomyError, match="last row is the model's logits"):
        tl.logit_lens(tl.load(model.hf, tokenizer=tokenizer, anatomy=twice), STORY, rows="attn")


def test_bfloat16_is_near_float32(make_model, tokenizer):
    import copy

    model = make_model("llama")
    half = tl.load(copy.deepcopy(model.hf), tokenizer=tokenizer, dtype="bfloat16")
    full = tl.logit_lens(model, STORY).metric("probability")
    near = tl.logit_lens(half, STORY)
    assert near.provenance.dtype == "bfloat16"
    assert np.median(np.abs(near.top_probs[-1, :, 0] - full[-1])) < 0.05


def test_a_single_target_is_one_target(gpt2):
    one = tl.logit_lens(gpt2, STORY, targets=" a")
    assert one.targets == ("final", "next", " a")
    assert np.array_equal(one.logits, tl.logit_lens(gpt2, STORY, targets=[" a"]).logits)


def test_no_tensor_has_all_tokens_and_the_whole_vocabulary(gpt2):
    class Largest(TorchDispatchMode):
        numbers = 0

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            made = func(*args, **(kwargs or {}))
            if isinstance(made, torch.Tensor):
                self.numbers = max(self.numbers, made.numel())
            return made

    prompt = STORY * 3
    n_tokens = len(gpt2.encode(prompt))
    tl.logit_lens(gpt2, "warm up")
    with pytest.MonkeyPatch.context() as patch, Largest() as seen:
        patch.setattr("twinlens.see.reduction.SLICE_NUMBERS", 8 * gpt2.n_vocab)
        tl.logit_lens(gpt2, prompt)
    assert 0 < seen.numbers < n_tokens * gpt2.n_vocab
    assert seen.numbers >= 8 * gpt2.n_vocab
