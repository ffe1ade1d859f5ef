"""The picture as a file: written without a screen, whole or not at all, the same bytes again."""

from __future__ import annotations

import re
import struct

import numpy as np
import pytest

import twinlens as tl
from tests.conftest import STORY
from twinlens.errors import InputError, ResultFileError

pytest.importorskip("matplotlib")


@pytest.mark.parametrize(
    ("ending", "magic"), [("png", b"\x89PNG"), ("svg", b"<?xml"), ("pdf", b"%PDF")]
)
def test_formats(results, tmp_path, ending, magic):
    path = tl.twin(*results).save(tmp_path / f"x.{ending}")
    assert path.read_bytes().startswith(magic)
    assert [p.name for p in tmp_path.iterdir()] == [f"x.{ending}"]


@pytest.mark.parametrize("ending", ["png", "svg", "pdf"])
def test_the_same_picture_is_the_same_bytes(results, tmp_path, ending):
    view = tl.twin(*results)
    a, b = view.save(tmp_path / f"a.{ending}"), view.save(tmp_path / f"b.{ending}")
    assert a.read_bytes() == b.read_bytes()


def svg(view, tmp_path) -> str:
    return view.save(tmp_path / "x.svg").read_text()


def texts(svg_text: str) -> list[str]:
    return re.findall(r">([^<>\n]+)</text>", svg_text)


def test_every_token_and_every_row_is_named(results, tmp_path):
    shown = texts(svg(tl.twin(*results), tmp_path))
    for label in (*results[0].tokens.labels, *results[0].layers):
        assert shown.count(label) >= 2, label  # once a panel


def test_rows_run_from_top_to_bottom_and_flip(results, tmp_path):
    def heights(view) -> list[float]:
        axes = view.figure().axes[0]
        names = [tick.get_text() for tick in axes.get_yticklabels()]
        assert axes.get_ylim()[0] > axes.get_ylim()[1]  # the axis points down
        return [names.index(row) for row in results[0].layers]

    assert heights(tl.twin(*results)) == [0, 1, 2, 3]
    assert heights(tl.twin(*results, flip=True)) == [3, 2, 1, 0]


def mesh_of(view, axes: int) -> np.ndarray:
    return np.asarray(view.figure().axes[axes].collections[0].get_array())


def test_colours_are_the_values_at_their_place(results):
    lens, trace = results
    view = tl.twin(*results)
    grids = [i for i, axes in enumerate(view.figure().axes) if axes.get_ylim() == (4.0, 0.0)]
    assert np.allclose(mesh_of(view, grids[0]), lens.metric("probability"))
    assert np.allclose(mesh_of(view, grids[1]), trace.effects())


def test_flip_and_transpose_move_the_values_along(results):
    lens = results[0]
    values = lens.metric("probability")
    assert np.allclose(mesh_of(tl.twin(lens, flip=True), 0), values[::-1])
    assert np.allclose(mesh_of(tl.twin(lens, transpose=True), 0), values.T)


def test_a_crop_shows_only_its_tokens(results):
    lens = results[0]
    assert np.allclose(mesh_of(tl.twin(lens, crop=(2, 7)), 0), lens.metric("probability")[:, 2:7])


def test_long_prompts_are_stacked_not_shrunk(gpt2):
    lens = tl.logit_lens(gpt2, ("One day Tom and Lily " * 30)[:240])
    n = len(lens.tokens)
    assert n > 100
    figure = tl.twin(lens).figure()
    widths = [
        np.asarray(axes.collections[0].get_array()).shape[1]
        for axes in figure.axes
        if axes.get_ylim() == (4.0, 0.0)
    ]
    assert sum(widths) == n
    assert max(widths) <= 48
    assert figure.get_size_inches()[0] < 12


def test_heads_share_a_cell(gpt2, tmp_path):
    heads = tl.causal_trace(gpt2, STORY, "Lily", kind="head", corruption=tl.Noise(samples=2))
    values = mesh_of(tl.twin(heads), 0)
    assert np.allclose(values, heads.effects().reshape(3, -1))


@pytest.mark.parametrize(
    "prompt", ["costs $5 and $6", "a_b^c \\alpha {x}", "中文 and 😀", "<b>&amp;"]
)
def test_any_text_is_drawn_as_it_is(gpt2, tmp_path, prompt):
    lens = tl.logit_lens(gpt2, prompt)
    shown = svg(tl.twin(lens), tmp_path)
    assert "$" not in prompt or any("$" in text for text in texts(shown))
    tl.twin(lens).save(tmp_path / "x.png")


def test_characters_without_a_glyph_are_named(tmp_path):
    from twinlens.show.text import printable

    assert printable("a中") == "a‹U+4E2D›"
    assert printable("␣a⏎") == "␣a⏎"


def test_a_notebook_shows_a_png(results):
    image = tl.twin(*results)._repr_png_()
    width, height = struct.unpack(">II", image[16:24])
    assert width > 300
    assert height > 100


def test_errors_leave_nothing_behind(results, tmp_path):
    with pytest.raises(InputError, match="crop="):
        tl.twin(*results, crop=(9, 3))
    with pytest.raises(InputError, match="columns=0"):
        tl.twin(*results, columns=0)
    with pytest.raises(InputError, match=r"png, .svg, .pdf"):
        tl.twin(*results).save(tmp_path / "x.jpeg")
    with pytest.raises(ResultFileError, match="cannot write"):
        tl.twin(*results).save(tmp_path / "no" / "x.png")
    assert not list(tmp_path.iterdir())
