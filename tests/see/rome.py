"""ROME's published procedure (Meng et al. 2022) as the plain loop, written independently of ours.

One forward pass a cell; row 0 of the batch is the clean run, the others are noised; the noise is
drawn anew from `RandomState(1)` in every pass; a state is restored by copying row 0 over the rest.
"""

from __future__ import annotations

import contextlib

import numpy as np
import torch

LAYOUT = {
    "gpt2": ("transformer.wte", "transformer.h.{}", "attn", "mlp", "attn.c_proj"),
    "gpt_neox": ("gpt_neox.embed_in", "gpt_neox.layers.{}", "attention", "mlp", "attention.dense"),
    "llama": ("model.embed_tokens", "model.layers.{}", "self_attn", "mlp", "self_attn.o_proj"),
}


def hidden_flow(hf, ids, subject, *, sigma, answer, kind, window=1, samples=10, focus=-1):
    """Scores [layer, token (, head)], `embed` first for block; and that of nothing restored."""
    n_layers, n_tokens = hf.config.num_hidden_layers, len(ids)
    heads = range(hf.config.num_attention_heads) if kind == "head" else [None]
    rows = ([-1] if kind == "block" else []) + list(range(n_layers))

    def score(states):
        return _patched(hf, ids, subject, sigma, answer, kind, states, samples, focus)

    table = [
        [[score([(t, layer, h) for layer in _window(row, window, n_layers)]) for h in heads]
         for t in range(n_tokens)]
        for row in rows
    ]  # fmt: skip
    table = np.array(table)
    return (table if kind == "head" else table[:, :, 0]), score([])


def _window(row, window, n_layers):
    if row < 0:
        return [row]
    return range(max(0, row - window // 2), min(n_layers, row - (-window // 2)))


def _patched(hf, ids, subject, sigma, answer, kind, states, samples, focus):
    embed, block, attn, mlp, proj = LAYOUT[hf.config.model_type]
    draw = np.random.RandomState(1)
    with contextlib.ExitStack() as stack:

        def hook(name, change, at_input=False):
            module = hf.get_submodule(name)
            if at_input:
                handle = module.register_forward_pre_hook(lambda m, args: (change(args[0]),))
            else:
                handle = module.register_forward_hook(
                    lambda m, args, out: (
                        (change(out[0]), *out[1:]) if isinstance(out, tuple) else change(out)
                    )
                )
            stack.callback(handle.remove)

        def corrupt(x):
            x = x.clone()
            start, stop = subject
            noise = sigma * torch.from_numpy(draw.randn(samples, stop - start, x.shape[2]))
            x[1:, start:stop] += noise
            for token, layer, _ in states:
                if layer < 0:
                    x[1:, token] = x[0, token]
            return x

        def restorer(token, head):
            def restore(h):
                h = h.clone()
                size = h.shape[-1] // hf.config.num_attention_heads
                part = slice(None) if head is None else slice(head * size, (head + 1) * size)
                h[1:, token, part] = h[0, token, part]
                return h

            return restore

        hook(embed, corrupt)
        suffix = {"block": "", "attn": f".{attn}", "mlp": f".{mlp}", "head": f".{proj}"}[kind]
        for token, layer, head in states:
            if layer >= 0:
                hook(block.format(layer) + suffix, restorer(token, head), at_input=kind == "head")
        with torch.no_grad():
            logits = hf(input_ids=torch.tensor([ids] * (samples + 1)), use_cache=False).logits
    return float(torch.softmax(logits[1:, focus], dim=-1).mean(0)[answer])
