"""Views below each other: the same colours for the same numbers, and the second less the first."""

from __future__ import annotations

import numpy as np
import pytest

import twinlens as tl
from tests.conftest import STORY
from twinlens.errors import InputError


@pytest.fixture(scope="module")
def compared(make_model):
    model = make_model("gpt2")
    answer = int(tl.logit_lens(model, STORY).top_ids[-1, -1, 0])
    views = {}
    for name, changes in (("as it is", ()), ("silenced", (tl.Silence("1.MLP,2.H0"),))):
        with tl.changed(model, *changes):
            lens = tl.logit_lens(model, STORY, targets=[answer])
            trace = tl.causal_trace(
                model, STORY, subject="Lily", answer=answer, corruption=tl.Noise(samples=1)
            )
            views[name] = tl.twin(lens, trace, lens_target=answer)
    return tl.compare(views), views, answer


def test_rows_are_before_after_and_the_difference(compared):
    comparison, views, answer = compared
    before, after, difference = comparison.pictures()
    assert [p.title for p in difference.panels] == [
        "silenced − as it is: logit lens",
        "silenced − as it is: causal trace: block",
    ]
    lenses, traces = zip(*(view.results for view in views.values()), strict=True)
    for panel, values in (
        (0, [lens.metric("probability", answer) for lens in lenses]),
        (1, [trace.effects() for trace in traces]),
    ):
        np.testing.assert_allclose(before.panels[panel].values, values[0])
        np.testing.assert_allclose(after.panels[panel].values, values[1])
        np.testing.assert_allclose(difference.panels[panel].values, values[1] - values[0])
        assert before.panels[panel].high == after.panels[panel].high
        assert difference.panels[panel].high == np.abs(values[1] - values[0]).max()


def test_a_cell_of_the_difference_names_what_it_says_now(compared):
    comparison, views, _ = compared
    texts = comparison.pictures()[2].panels[0].texts
    old, new = (view.results[0].top_ids[:, :, 0] for view in views.values())
    assert np.array_equal([[bool(text) for text in row] for row in texts], old != new)
    assert (old != new).any()


@pytest.mark.parametrize("ending", ["png", "html"])
def test_saved_as_picture_or_page(compared, tmp_path, ending):
    if ending != "html":
        pytest.importorskip("matplotlib")
    path = compared[0].save(tmp_path / f"out.{ending}")
    assert path.stat().st_size > 10_000
    with pytest.raises(InputError, match=r"\.png"):
        compared[0].save(tmp_path / "out.gif")


def test_three_views_have_no_difference_and_the_scale_is_shared(compared):
    _, views, _ = compared
    first, second = views.values()
    pictures = tl.compare({"a": first, "b": second, "c": first}).pictures()
    assert [picture.panels[0].title[:2] for picture in pictures] == ["a:", "b:", "c:"]
    assert len({picture.panels[1].high for picture in pictures}) == 1


def test_scores_of_heads_differ_by_numbers():
    from dataclasses import replace

    from twinlens.show.comparison import _difference
    from twinlens.show.panels import Panel

    stars, columns = np.array([[True, False]]), ("H0", "H1")
    before = Panel(
        "heads", "", ("0",), np.array([[0.9, 0.2]]), "share", "sequential", 0.0, 1.0,
        [["0.90", "0.20"]], stars, columns, "head",
    )  # fmt: skip
    after = replace(before, values=np.array([[0.4, 0.2]]), texts=[["0.40", "0.20"]], stars=~stars)
    made = _difference(before, after)
    assert made.texts == [["−0.50", ""]]
    assert "token" not in made.subtitle
    assert made.stars is None
