"""Patterns of chosen heads: what was asked, as the plain implementation has it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import twinlens as tl
from tests.conftest import STORY
from twinlens.errors import FocusError, InputError
from twinlens.see import heads as see_heads


def test_all_heads_of_a_short_prompt(family):
    found = tl.attention(family, STORY)
    n = len(found.tokens)
    assert found.patterns.shape == (12, n, n)
    np.testing.assert_allclose(found.patterns.sum(-1), 1, atol=1e-5)
    assert not np.triu(found.patterns, 1).any()


def test_chosen_heads_and_queries_are_a_part_of_all(gpt2):
    everything = tl.attention(gpt2, STORY)
    some = tl.attention(gpt2, STORY, heads=["2.H1", (0, 3)], queries=[-1, "Lily"])
    lily = some.tokens.labels.index("␣Lily")
    assert some.names == ("2.H1", "0.H3")
    assert some.queries.tolist() == [lily, len(some.tokens) - 1]
    for name in some.names:
        assert np.array_equal(some.pattern(name), everything.pattern(name)[some.queries])
    one = tl.attention(gpt2, STORY, heads=(1, 2), queries=3)
    assert np.array_equal(one.patterns[0, 0], everything.pattern("1.H2")[3])


def test_value_weights_by_hand(make_model):
    """Llama: |a v W_O| over the sum of that, values shared by two heads."""
    model = make_model("llama")
    plain = tl.attention(model, STORY, heads="1.H3").patterns[0]
    found = tl.attention(model, STORY, heads="1.H3", value_weighted=True)
    seen = []
    attention = model.blocks[1].self_attn
    handle = attention.v_proj.register_forward_hook(lambda *call: seen.append(call[-1]))
    with torch.no_grad():
        model.hf(torch.from_numpy(found.tokens.ids)[None])
    handle.remove()
    values = seen[0][0, :, 8:16].detach().numpy()
    projection = attention.o_proj.weight[:, 24:32].detach().numpy()
    expected = np.zeros_like(plain)
    for q in range(len(plain)):
        for k in range(q + 1):
            expected[q, k] = np.linalg.norm(plain[q, k] * (projection @ values[k]))
        expected[q] /= expected[q].sum()
    np.testing.assert_allclose(found.patterns[0], expected, atol=1e-5)
    assert not np.allclose(found.patterns[0], plain, atol=1e-3)


def test_value_weighted_rows_of_every_family(family):
    found = tl.attention(family, STORY, heads=["0.H0", "2.H3"], value_weighted=True)
    np.testing.assert_allclose(found.patterns.sum(-1), 1, atol=1e-5)


def test_a_head_that_writes_nothing_has_empty_rows(tokenizer):
    from tests.see.circuit import induction_circuit

    model = tl.load(induction_circuit(), tokenizer=tokenizer)
    tokens = tl.induction(model, sequences=1, length=5, repeats=2).tokens
    found = tl.attention(model, tokens, heads=["1.H0", "1.H1"], value_weighted=True)
    np.testing.assert_allclose(found.pattern("1.H0").sum(-1), 1, atol=1e-5)
    assert not found.pattern("1.H1").any()


def test_too_much_is_refused_before_anything_runs(gpt2, monkeypatch):
    monkeypatch.setattr(see_heads, "LARGEST", 4 * 12 * 18 * 17)
    with pytest.raises(InputError, match="choose heads"):
        tl.attention(gpt2, STORY)
    assert tl.attention(gpt2, STORY, queries=-1).patterns.shape[1] == 1


@pytest.mark.parametrize("heads", ["3.H0", (0, 4), [], "H1", ["0.Hx"]])
def test_heads_that_are_none(gpt2, heads):
    with pytest.raises(InputError, match="head"):
        tl.attention(gpt2, STORY, heads=heads)


def test_queries_that_are_none(gpt2):
    with pytest.raises(FocusError):
        tl.attention(gpt2, STORY, queries=[400])
    with pytest.raises(InputError, match="queries is empty"):
        tl.attention(gpt2, STORY, queries=[])


def test_progress_counts_blocks(gpt2):
    told: list[tuple[int, int]] = []
    tl.attention(gpt2, STORY, progress=lambda *step: told.append(step))
    assert told[-1] == (3, 3)
