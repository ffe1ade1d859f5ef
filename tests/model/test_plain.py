"""Lens and trace against a plain implementation on transformers alone: its hidden states, and
forward hooks on modules that are named here. Nothing below the tests is of twinlens."""

from __future__ import annotations

import contextlib
from typing import NamedTuple

import numpy as np
import pytest
import torch

import twinlens as tl

PROMPT = "a little girl named Lily. She"
SUBJECT = 5  # the token of Lily
SIGMA, SAMPLES = 0.7, 2
EQUAL = 1e-5  # in logits; the effects compared are a hundred times as large at least


class Names(NamedTuple):
    """Where things are, by the reading of transformers' source."""

    embed: str
    blocks: str
    norm: str
    mlp: str
    attn: str


LLAMA = Names("model.embed_tokens", "model.layers", "model.norm", "mlp", "self_attn")
NAMES = {
    "gpt2": Names("transformer.wte", "transformer.h", "transformer.ln_f", "mlp", "attn"),
    "llama": LLAMA,
    "gemma2": LLAMA._replace(mlp="post_feedforward_layernorm", attn="post_attention_layernorm"),
    "mixtral": LLAMA,
}


@pytest.fixture(params=list(NAMES))
def name(request) -> str:
    return request.param


def test_the_lens_is_the_head_on_the_hidden_states(name, make_model):
    model = make_model(name)
    lens = tl.logit_lens(model, PROMPT, top_k=model.n_vocab)
    found = np.empty(lens.top_logits.shape)
    np.put_along_axis(found, lens.top_ids, lens.top_logits, axis=-1)
    hf, ids = model.hf, _ids(model)
    with torch.no_grad():
        *states, last = hf(ids, output_hidden_states=True).hidden_states
        norm = hf.get_submodule(NAMES[name].norm)
        rows = [norm(state) for state in states] + [last]  # the last is normed already
        expected = torch.stack([_capped(hf, hf.lm_head(row))[0] for row in rows]).numpy()
    np.testing.assert_allclose(found, expected, atol=EQUAL, rtol=1e-5)
    steps = np.abs(np.diff(expected, axis=0)).max((1, 2))
    assert steps.min() > 100 * EQUAL, "no row is like the next"


@pytest.mark.parametrize("kind", ["block", "mlp", "attn"])
def test_a_trace_is_what_hooks_on_the_model_give(name, kind, make_model):
    model = make_model(name)
    trace = tl.causal_trace(
        model, PROMPT, "Lily", kind=kind, metric="logit",
        corruption=tl.Noise(sigma=SIGMA, samples=SAMPLES, seed=1),
    )  # fmt: skip
    states, logits = _run(model, name, kind, noised=False)
    answer = int(logits[0].argmax())
    corrupted = _run(model, name, kind)[1][:, answer]
    assert (trace.answer, trace.focus) == (answer, _ids(model).shape[1] - 1)
    assert trace.clean == pytest.approx(float(logits[0, answer]), abs=EQUAL)
    np.testing.assert_allclose(trace.corrupted_samples, corrupted, atol=EQUAL)
    expected = np.array(
        [
            [
                _run(model, name, kind, put=(row, token, value))[1][:, answer].numpy()
                for token in range(len(trace.tokens))
            ]
            for row, value in states.items()
        ]
    )
    assert list(trace.layers) == list(states)
    np.testing.assert_allclose(trace.samples, expected, atol=EQUAL)
    effects = np.abs(expected - corrupted.numpy()).reshape(len(states), -1).max(-1)
    assert effects.min() > 100 * EQUAL


def _ids(model):
    return model.tokenizer(PROMPT, return_tensors="pt").input_ids


def _capped(hf, logits):
    cap = getattr(hf.config, "final_logit_softcapping", None)
    return logits if cap is None else cap * torch.tanh(logits / cap)


def _run(model, name, kind, *, noised=True, put=None):
    """States of a kind by row, `[token, width]` of the first sample, and the last logits.

    `put`: a row, a token and a state `[token, width]` that is put there at that token.
    """
    hf, names, states = model.hf, NAMES[name], {}

    def at(row):
        def hook(_module, _args, made):
            value = made[0] if isinstance(made, tuple) else made
            states[row] = value[0].clone()
            if put is None or put[0] != row:
                return None
            value = value.clone()
            value[:, put[1]] = put[2][put[1]]
            return (value, *made[1:]) if isinstance(made, tuple) else value

        return hook

    def noise(_module, _args, made):
        drawn = np.random.RandomState(1).randn(SAMPLES, 1, made.shape[-1]) * SIGMA
        made = made.clone()
        made[:, SUBJECT : SUBJECT + 1] += torch.from_numpy(drawn).float()
        return made

    def before(_module, args, kwargs):
        given = args[0] if args else kwargs["hidden_states"]
        made = at("embed")(None, None, given)
        if made is None:
            return None
        return ((made, *args[1:]), kwargs) if args else (args, kwargs | {"hidden_states": made})

    blocks = hf.get_submodule(names.blocks)
    part = {"block": "", "mlp": names.mlp, "attn": names.attn}[kind]
    with contextlib.ExitStack() as hooks:
        if noised:
            embed = hf.get_submodule(names.embed)
            hooks.callback(embed.register_forward_hook(noise).remove)
        if kind == "block":
            first = blocks[0].register_forward_pre_hook(before, with_kwargs=True)
            hooks.callback(first.remove)
        for row, block in enumerate(blocks):
            module = block.get_submodule(part)
            hooks.callback(module.register_forward_hook(at(str(row))).remove)
        with torch.no_grad():
            logits = hf(_ids(model).expand(SAMPLES if noised else 1, -1)).logits[:, -1]
    return states, logits
