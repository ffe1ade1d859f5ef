"""Metrics, directions, spans and even windows, cell by cell, against hidden states put in by hand.

An independent way to the same number: the residual is changed by a forward hook on the plain
Hugging Face model, one sample and one cell at a time.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch

import twinlens as tl

CASES = [
    {"metric": "log_probability", "direction": "noise"},
    {"metric": "logit", "kind": "mlp", "window": 2},
    {"metric": "kl", "direction": "noise", "kind": "attn"},
    {"metric": "logit_difference", "foil": 9, "window": 2},
    {"metric": "probability", "corruption": tl.Replace(subjects=["city"])},
    {"metric": "probability", "direction": "noise", "window": 3, "kind": "mlp"},
]
SPANS = ["Lily", (2, 4)]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_every_cell_agrees_with_states_put_in_by_hand(make_model, case):
    model = make_model("llama")
    prompt, subject = "Once upon a time Lily loved", SPANS
    if isinstance(case.get("corruption"), tl.Replace):
        prompt, subject = "The park loved to play", "park"
    given = {"corruption": tl.Noise(samples=2)} | case
    trace = tl.causal_trace(model, prompt, subject, answer=7, **given)
    assert np.allclose(trace.scores, by_hand(model, trace, given), atol=1e-4)


def by_hand(model, trace, given) -> np.ndarray:
    embeddings = inputs_embeds(model, trace, given["corruption"])
    clean = model.embedding(torch.from_numpy(trace.tokens.ids))[None]
    denoise = trace.direction == "denoise"
    reference = run(model, clean, trace, None, {})[0][0, -1].log_softmax(-1)
    scores = np.zeros(trace.scores.shape)
    rows = trace.layers
    for sample in embeddings:
        base, source = (sample[None], clean) if denoise else (clean, sample[None])
        states = run(model, source, trace, None, {})[1]
        for r, row in enumerate(rows):
            for t in range(len(trace.tokens)):
                layers = window(row, trace.window, model.n_layers)
                changed = {layer: states[layer][0, t] for layer in layers}
                logits = run(model, base, trace, t, changed)[0][0, -1]
                scores[r, t] += measure(logits, trace, given, reference) / len(embeddings)
    return scores


def window(row: str, size: int, n_layers: int) -> list[int]:
    if row == "embed":
        return [-1]
    start = int(row) - size // 2
    return [layer for layer in range(start, start + size) if 0 <= layer < n_layers]


def inputs_embeds(model, trace, corruption) -> torch.Tensor:
    if isinstance(corruption, tl.Replace):
        text = trace.tokens.text.replace("park", corruption.subjects[0])
        return model.embedding(torch.from_numpy(model.encode(text).ids))[None]
    mask = torch.from_numpy(trace.subject_mask)
    made = model.embedding(torch.from_numpy(trace.tokens.ids))[None].repeat(2, 1, 1).detach()
    noise = np.random.RandomState(1).randn(2, int(mask.sum()), made.shape[-1])
    made[:, mask] += torch.from_numpy(noise * trace.settings["sigma"]).float()
    return made


def run(model, embeddings, trace, token, changed):
    """Logits, and the states of the trace's kind by layer (-1: the embedding)."""
    states = {}

    def keep(layer):
        def hook(module, args, made):
            value = made[0] if isinstance(made, tuple) else made
            if layer in changed:
                value = value.clone()
                value[0, token] = changed[layer]
            states[layer] = value.detach()
            return (value, *made[1:]) if isinstance(made, tuple) else value

        return hook

    part = {"block": lambda b: b, "mlp": lambda b: b.mlp, "attn": lambda b: b.self_attn}[trace.kind]
    handles = [
        part(block).register_forward_hook(keep(layer))
        for layer, block in enumerate(model.hf.model.layers)
    ]
    given = embeddings.clone()
    if -1 in changed:
        given[0, token] = changed[-1]
    states[-1] = given.detach()
    try:
        with torch.no_grad():
            logits = model.hf(inputs_embeds=given, use_cache=False).logits
    finally:
        for handle in handles:
            handle.remove()
    return logits, states


def measure(logits, trace, given, reference) -> float:
    log_probs = logits.log_softmax(-1)
    return float(
        {
            "probability": log_probs[trace.answer].exp(),
            "log_probability": log_probs[trace.answer],
            "logit": logits[trace.answer],
            "logit_difference": logits[trace.answer] - logits[given.get("foil", 0)],
            "kl": (reference.exp() * (reference - log_probs)).sum(),
        }[trace.metric]
    )
