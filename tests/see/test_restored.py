"""The lens of another run says at its last row what the trace measured there."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import twinlens as tl
from twinlens.errors import InputError

PROMPT, SUBJECT = "The Eiffel Tower is in", "Eiffel Tower"
KINDS = ("block", "mlp", "attn", "head")


@pytest.mark.parametrize("direction", ["denoise", "noise"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["gpt2", "gemma2"])
def test_the_last_row_is_the_score_of_the_trace(make_model, name, kind, direction):
    model = make_model(name)
    asked = {"kind": kind, "direction": direction, "corruption": tl.Noise(samples=3)}
    trace = tl.causal_trace(model, PROMPT, SUBJECT, engine="hooks", **asked)
    row, token = len(trace.layers) // 2, int(np.flatnonzero(trace.subject_mask)[-1])
    cell = (trace.layers[row], token, *((1,) if kind == "head" else ()))
    lens = tl.restored_lens(model, PROMPT, SUBJECT, cell=cell, batch_tokens=20, **asked)
    score = trace.scores[(row, *cell[1:])]
    assert lens.metric("probability", "final")[-1, -1] == pytest.approx(score, abs=1e-6)
    assert abs(score - (trace.corrupted if direction == "denoise" else trace.clean)) > 1e-5
    kind_and_cell = f"{kind} {cell[0]}" + (".H1" if kind == "head" else "")
    verb = "restored" if direction == "denoise" else "corrupted"
    assert lens.settings["run"] == f"{verb} {kind_and_cell} at token {token}"


def test_a_restored_block_changes_nothing_above_or_before_it(gpt2):
    corrupted = tl.restored_lens(gpt2, PROMPT, SUBJECT)
    restored = tl.restored_lens(gpt2, PROMPT, SUBJECT, cell=(1, 2))
    changed = corrupted.top_probs != restored.top_probs
    assert not changed[:2].any()  # embed, 0
    assert not changed[:, :2].any()
    assert changed[2, 2].any()
    assert changed[-1, 2:].any()


def test_the_only_changed_embedding_restored_is_the_clean_lens(gpt2):
    other = "The Eiffel Tower in in"
    one = tl.Replace(prompt=other)
    clean, changed = tl.logit_lens(gpt2, PROMPT), tl.logit_lens(gpt2, other)
    differs = np.flatnonzero(changed.tokens.ids != clean.tokens.ids)
    assert len(differs) == 1
    cell = ("embed", int(differs[0]))
    restored = tl.restored_lens(gpt2, PROMPT, cell=cell, corruption=one)
    np.testing.assert_allclose(restored.top_probs, clean.top_probs, atol=1e-5)
    corrupted = tl.restored_lens(gpt2, PROMPT, corruption=one)
    np.testing.assert_allclose(corrupted.top_probs, changed.top_probs, atol=1e-5)
    np.testing.assert_array_equal(corrupted.target_ids[0], clean.target_ids[0])


def test_the_mean_over_samples_is_of_probabilities(gpt2):
    noise = tl.Noise(samples=4)
    lens = tl.restored_lens(gpt2, PROMPT, SUBJECT, corruption=noise)
    from twinlens.run.passes import read
    from twinlens.see.corruption import corrupt
    from twinlens.see.question import encoded

    tokens = encoded(gpt2, PROMPT)
    mask = tl.causal_trace(gpt2, PROMPT, SUBJECT).subject_mask
    logits = read(gpt2, corrupt(gpt2, tokens, noise, mask).inputs, []).logits
    expected, ids = logits.softmax(-1).mean(0).topk(5)
    np.testing.assert_array_equal(lens.top_ids[-1, -1], ids)
    assert torch.allclose(torch.from_numpy(lens.top_probs[-1, -1]), expected, atol=1e-6)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"cell": (99, 1)}, "layer 99 is not one of embed, 0, 1"),
        ({"cell": (0, 77)}, "token 77 is not in"),
        ({"cell": (0, 1), "kind": "head"}, r"expected \(layer, token, head\)"),
        ({"cell": (0, 1, 0)}, "has no heads"),
        ({"direction": "noise"}, "needs a cell"),
    ],
)
def test_a_cell_that_is_not_there(gpt2, asked, message):
    with pytest.raises(InputError, match=message):
        tl.restored_lens(gpt2, PROMPT, SUBJECT, **asked)
