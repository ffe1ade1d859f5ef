"""A panel says of each cell what the result says of it, at the same place in every panel."""

from __future__ import annotations

import numpy as np
import pytest

import twinlens as tl
from tests.conftest import STORY
from twinlens.errors import InputError
from twinlens.show.picture import picture


def test_both_panels_have_the_same_rows_and_tokens(results):
    lens, trace = results
    seen = picture([trace, lens])
    assert [panel.title for panel in seen.panels] == ["logit lens", "causal trace: block"]
    assert seen.panels[0].rows == seen.panels[1].rows == lens.layers
    assert np.array_equal(seen.panels[0].values, lens.metric("probability"))
    assert np.array_equal(seen.panels[1].values, trace.effects())
    assert np.array_equal(seen.subject, trace.subject_mask)
    assert seen.focus == trace.focus


def test_a_trace_without_an_embed_row_leaves_it_empty(gpt2, results):
    mlp = tl.causal_trace(gpt2, STORY, "Lily", kind="mlp", corruption=tl.Noise(samples=2))
    panel = picture([results[0], mlp]).panels[1]
    assert panel.rows[0] == "embed"
    assert np.isnan(panel.values[0]).all()
    assert np.array_equal(panel.values[1:], mlp.effects())


def test_texts_are_top_tokens_and_stars_are_where_they_are_right(results):
    lens, _ = results
    panel = picture([lens]).panels[0]
    assert panel.texts is not None
    assert panel.stars is not None
    for row in range(len(lens.layers)):
        for token in range(len(lens.tokens) - 1):
            assert panel.texts[row][token] == lens.label(lens.top_ids[row, token, 0])
            right = lens.top_ids[row, token, 0] == lens.tokens.ids[token + 1]
            assert panel.stars[row, token] == right
    assert not panel.stars[:, -1].any()


def test_probability_is_coloured_from_zero_to_one(results):
    panel = picture([results[0]]).panels[0]
    assert (panel.low, panel.high) == (0.0, 1.0)


def test_effects_are_coloured_around_zero(results):
    panel = picture([results[1]]).panels[0]
    assert panel.low == -panel.high
    assert panel.high == np.abs(results[1].effects()).max()


def test_strong_effects_show_their_number(results):
    trace = results[1]
    panel = picture([trace]).panels[0]
    assert panel.texts is not None
    row, token = np.unravel_index(np.abs(trace.effects()).argmax(), trace.scores.shape)
    shown = panel.texts[row][token].replace("−", "-")
    assert float(shown) == pytest.approx(trace.effects()[row, token], rel=0.1)


def test_the_words_of_a_divergence_speak_of_no_token(gpt2):
    kl = tl.causal_trace(gpt2, STORY, "Lily", metric="kl", corruption=tl.Noise(samples=2))
    panel = picture([kl]).panels[0]
    assert panel.meaning.startswith("KL from the clean prediction (nats) removed")


def test_notes_reach_the_reader(gpt2):
    trace = tl.causal_trace(gpt2, STORY, "Lily", answer=" a", corruption=tl.Noise(samples=2))
    assert trace.notes
    assert picture([trace]).notes == trace.notes


@pytest.mark.parametrize("swap", [False, True])
def test_results_of_different_rows_are_refused(swap):
    """As many rows, but not the same: `embed` and three blocks, or four blocks."""
    tokens, scores = ["a", "b"], np.zeros((4, 2))
    some = tl.convert({"scores": scores, "tokens": tokens, "layers": ["embed", "0", "1", "2"]})
    other = tl.convert(scores, tokens=tokens)
    with pytest.raises(InputError, match="different layers"):
        picture([other, some] if swap else [some, other])


def test_results_of_different_prompts_are_refused(gpt2):
    rows = tl.logit_lens(gpt2, STORY, rows="mid")
    other = tl.logit_lens(gpt2, "Once upon")
    with pytest.raises(InputError, match="different prompts"):
        picture([rows, other])
