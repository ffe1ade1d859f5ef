"""The picture as a file: written without a screen, whole or not at all, the same bytes again."""

from __future__ import annotations

import dataclasses
import re
import struct

import numpy as np
import pytest

import twinlens as tl
from tests.conftest import STORY
from twinlens.errors import InputError, ResultFileError

pytest.importorskip("matplotlib")

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import PathCollection
from matplotlib.colors import to_rgba
from matplotlib.text import Text

from twinlens.show.colours import FOCUS, SUBJECT


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


@pytest.fixture(scope="module")
def results(results):
    """The same, where the lens is right in one column."""
    lens, trace = results
    top = lens.top_ids.copy()
    top[:, 4, 0] = lens.tokens.ids[5]
    return dataclasses.replace(lens, top_ids=top), trace


@pytest.fixture(scope="module")
def drawn(results):
    """The figure of lens and trace, and its grids."""
    figure = tl.twin(*results).figure()
    grids = [axes for axes in figure.axes if axes.get_ylim() == (4.0, 0.0)]
    return figure, grids


def test_stars_subject_and_focus_are_marked(drawn, results):
    _, grids = drawn
    lens, trace = results
    stars = [c for axes in grids for c in axes.collections if isinstance(c, PathCollection)]
    assert sum(len(c.get_offsets()) for c in stars) == int(lens.right().sum()) == 4
    bars = [line for line in grids[-1].lines if line.get_color() == SUBJECT]
    marked = sorted(int(line.get_xdata()[0]) for line in bars)
    inside = [int(t) for t in np.flatnonzero(trace.subject_mask)]
    columns = grids[-1].get_xlim()[1]
    assert marked == [int(t % columns) for t in inside]
    frames = [patch for patch in grids[-1].patches if patch.get_edgecolor() == to_rgba(FOCUS)]
    assert [patch.get_x() for patch in frames] == [trace.focus % columns]


def test_the_strip_shows_the_surprisal(drawn, results):
    figure, _ = drawn
    heights = [p.get_height() for axes in figure.axes for p in axes.patches if p.get_width() == 0.8]
    bits = np.nan_to_num(results[0].surprisal_bits)
    assert np.allclose(sorted(heights), sorted([*bits, *bits]))  # once a panel


def test_each_panel_has_a_colour_bar_with_its_meaning(drawn, results):
    figure, _ = drawn
    words = " ".join(" ".join(axes.get_xlabel() for axes in figure.axes).split())
    assert "probability of the model's final prediction" in words
    label = results[1].label(results[1].answer)
    assert f"probability of {label} gained when this block state is restored" in words


@pytest.mark.parametrize("prompt", ["Lily was", STORY, STORY + " " + STORY])
@pytest.mark.parametrize("options", [{}, {"transpose": True}, {"flip": True}])
def test_all_text_is_inside_the_picture_and_no_note_is_cut(gpt2, prompt, options):
    trace = tl.causal_trace(
        gpt2, prompt, "Lily", metric="kl", answer=" a", corruption=tl.Noise(sigma=1e-6, samples=2)
    )
    figure = tl.twin(tl.logit_lens(gpt2, prompt), trace, **options).figure()
    FigureCanvasAgg(figure).draw()
    width, height = figure.bbox.size
    shown = [text for text in figure.findobj(Text) if text.get_text().strip()]
    for text in shown:
        box = text.get_window_extent()
        assert box.x0 > -2, text
        assert box.x1 < width + 2, text
        assert box.y0 > -2, text
        assert box.y1 < height + 2, text
    said = " ".join(" ".join(text.get_text() for text in figure.texts).split())
    assert len(trace.notes) == 2
    for note in trace.notes:
        assert note in said


def test_positions_are_numbered(results):
    figure = tl.twin(*results).figure()
    numbers = [text.get_text() for text in figure.texts if text.get_text().isdecimal()]
    assert numbers[:3] == ["0", "5", "10"]


def test_a_cell_without_a_number_keeps_its_text(gpt2):
    lens = tl.logit_lens(gpt2, STORY)
    axes = tl.twin(lens, lens_target="next", columns=99).figure().axes[0]
    last = [t for t in axes.texts if int(t.get_position()[0]) == len(lens.tokens) - 1]
    assert len(last) == len(lens.layers)


def test_what_lies_outside_of_a_crop_is_said(results):
    figure = tl.twin(*results, crop=(0, 3)).figure()
    said = " ".join(text.get_text() for text in figure.texts)
    assert f"token {results[1].focus}, outside of this crop" in said


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
