"""Heads in pictures: layers top to bottom, heads left to right, beside a prompt or alone."""

from __future__ import annotations

import base64
import dataclasses

import numpy as np
import pytest
from rich.console import Console

import twinlens as tl
from tests.conftest import STORY
from twinlens.errors import InputError
from twinlens.results.heads import SCORES
from twinlens.show import attended
from twinlens.show.document import document
from twinlens.show.picture import by_columns, picture
from twinlens.show.schema import Array
from twinlens.show.table import table


def read(made: Array) -> np.ndarray:
    dtype = {"float32": "<f4", "int32": "<i4", "uint16": "<u2", "uint8": "u1"}[made.dtype]
    return np.frombuffer(base64.b64decode(made.data), dtype).reshape(made.shape)


@pytest.fixture(scope="module")
def heads(make_model) -> tl.HeadResult:
    made = tl.induction(make_model("gpt2"), sequences=2, length=6, threshold=0.1, progress=False)
    matching = made.prefix_matching.copy()
    matching[1, 2] = 0.9
    return dataclasses.replace(made, prefix_matching=matching)


@pytest.fixture(scope="module")
def attention(make_model) -> tl.AttentionResult:
    return tl.attention(make_model("gpt2"), STORY, progress=False)


def test_a_panel_for_each_score_with_heads_as_columns(heads):
    seen = picture([heads])
    assert len(seen.panels) == 4
    for panel, score in zip(seen.panels, SCORES, strict=True):
        assert panel.rows == heads.layers
        assert panel.columns == ("H0", "H1", "H2", "H3")
        assert np.array_equal(panel.values, heads.mean(score), equal_nan=True)
        assert panel.stars is not None
        assert np.array_equal(panel.stars, heads.mean(score) > heads.threshold)
    assert seen.panels[0].texts is not None
    assert seen.panels[0].texts[1][2] == "0.90"


def test_heads_stand_beside_a_prompt_they_are_not_about(results, heads):
    seen = picture([heads, *results])
    assert np.array_equal(seen.tokens.ids, results[0].tokens.ids)
    prompt, own = by_columns(seen)
    assert len(prompt.panels) == 2
    assert prompt.focus == results[1].focus
    assert own.tokens.labels == own.panels[0].columns
    assert own.focus is None
    assert not own.subject.any()
    assert np.isnan(own.panels[0].values[0]).all()  # no heads in the embedding


def test_attention_of_another_prompt_is_refused(make_model, results):
    other = tl.attention(make_model("gpt2"), "Another text", progress=False)
    with pytest.raises(InputError, match="different prompts"):
        picture([*results, other])


def test_the_picture_shows_what_is_looked_at_from_the_focus(results, attention):
    panel = picture([*results, attention]).panels[-1]
    focus = results[1].focus
    assert f"token {focus} " in panel.subtitle
    for number, (layer, head) in enumerate(attention.heads):
        assert np.array_equal(panel.values[layer + 1, :, head], attention.patterns[number, focus])
    few = tl.twin(dataclasses.replace(attention, queries=attention.queries - 1)).picture.panels[0]
    assert f"token {len(attention.tokens) - 2} " in few.subtitle  # the last that is known


@pytest.mark.parametrize("style", [{}, {"flip": True}, {"transpose": True}, {"crop": (0, 2)}])
def test_figures_of_heads(results, heads, attention, style):
    pytest.importorskip("matplotlib")
    figure = tl.twin(*results, attention, heads, **style).figure()
    words = " ".join(text.get_text() for text in figure.texts)
    assert "heads: prefix matching" in words
    assert "attention" in words
    values = [c.get_array() for axes in figure.axes for c in axes.collections]
    shown = heads.mean("previous_token")  # a crop is the prompt's, not the heads'
    turned = shown[::-1] if style.get("flip") else shown.T if style.get("transpose") else shown
    inside = [np.asarray(v)[~np.isnan(np.asarray(v, float))] for v in values if v is not None]
    assert any(v.size == shown.size and np.allclose(v, turned.ravel()) for v in inside)


def test_the_table_has_a_column_a_head(results, heads):
    console = Console(width=80, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(table(picture([results[0], heads]), 80))
    text = console.export_text()
    assert "heads: copying" in text
    assert "H3" in text
    assert "0.90★" in text


def test_the_page_has_heads_as_columns_and_all_that_is_looked_at(results, heads, attention):
    look = document({"x": [*results, heads, attention]}).looks[0]
    grid = next(one for one in look.grids if one.id == "heads.prefix_matching")
    assert (grid.columns, grid.column) == (["H0", "H1", "H2", "H3"], "head")
    assert np.allclose(read(grid.values)[1:], heads.mean(), atol=1e-6)
    assert read(grid.details["marked"])[2, 2] == 1
    assert look.attention is not None
    assert look.attention.heads == list(attention.names)
    assert np.allclose(read(look.attention.weights), attention.patterns)
    assert look.attention.tokens is None
    assert all(one.columns is None for one in look.grids if one.group != "scores of heads")


def test_a_large_page_keeps_the_strongest_weights_and_says_so(attention, monkeypatch):
    monkeypatch.setattr(attended, "MOST_WEIGHTS", 1)
    look = document({"x": [attention]}).looks[0]
    assert look.attention is not None
    assert look.attention.tokens is not None
    weights, tokens = read(look.attention.weights), read(look.attention.tokens)
    assert weights.shape[2] == 4
    assert np.allclose(weights, -np.sort(-attention.patterns, axis=-1)[..., :4])
    assert np.allclose(np.take_along_axis(attention.patterns, tokens, axis=-1), weights)
    assert any("4 strongest weights" in note for note in look.notes)


def test_each_lens_has_its_own_name_grids_and_top_tokens(results):
    lens = results[0]
    tuned = dataclasses.replace(
        lens,
        settings={**lens.settings, "decoder": "tuned"},
        top_ids=lens.top_ids[..., ::-1],
        surprisal=lens.surprisal * 2,
    )
    spoilt = dataclasses.replace(lens, settings={**lens.settings, "run": "corrupted"})
    look = document({"x": [spoilt, lens, tuned, tuned]}).looks[0]
    assert [(one.id, one.name) for one in look.lenses] == [
        ("final.corrupted", "logit lens, corrupted run"),
        ("final", "logit lens"),
        ("tuned", "tuned lens"),
        ("tuned~2", "tuned lens (2)"),
    ]
    assert len({grid.id for grid in look.grids}) == len(look.grids)
    by_lens = {one.id: one for one in look.lenses}
    for grid in look.grids:
        assert grid.lens is not None
        assert grid.title == grid.group == by_lens[grid.lens].name
    assert np.array_equal(read(by_lens["tuned"].ids), tuned.top_ids)
    assert look.surprisal is not None
    assert np.allclose(read(look.surprisal), lens.surprisal_bits, equal_nan=True)


def test_only_heads_make_a_page(heads, tmp_path):
    path = tl.twin(heads).save(tmp_path / "heads.html")
    assert "heads.prefix_matching" in path.read_text("utf-8")
