"""The neuron map and the layer view say what the result says."""

from __future__ import annotations

import numpy as np
import pytest

import twinlens as tl
from tests.conftest import STORY
from twinlens.show.neuron_panels import pixels
from twinlens.show.picture import picture
from twinlens.show.pooling import strongest

NOISE = tl.Noise(samples=2)


@pytest.fixture(scope="module")
def neurons(gpt2) -> tl.NeuronResult:
    return tl.neuron_trace(gpt2, STORY, "Lily", corruption=NOISE)


def test_two_panels_on_the_rows_of_the_others(results, neurons):
    seen = picture([*results, neurons], reduce="max")
    assert [p.title for p in seen.panels[2:]] == ["neurons", "neurons: max of each layer"]
    map_, view = seen.panels[2:]
    assert map_.rows == view.rows == seen.panels[0].rows
    assert np.isnan(view.values[0]).all()  # no MLP before block 0
    assert np.array_equal(view.values[1:], neurons.layer_mean("max"))
    flat = map_.values[1:].reshape(3, len(neurons.tokens), -1)[..., : neurons.n_units]
    assert np.array_equal(flat, neurons.effects())
    assert map_.high == np.abs(neurons.effects()).max()
    assert np.array_equal(seen.subject, neurons.subject_mask)
    assert seen.focus == neurons.focus


def test_an_estimate_is_labelled(gpt2):
    made = tl.neuron_trace(gpt2, STORY, "Lily", corruption=NOISE, method="atp", restored=20)
    panel = picture([made]).panels[0]
    assert "estimated (atp)" in panel.title
    assert "20 strongest restored exactly (with the estimate: Pearson" in panel.subtitle
    assert "20 strongest restored exactly" in picture([made]).panels[1].subtitle
    exact = picture([tl.neuron_trace(gpt2, STORY, "Lily", corruption=NOISE)]).panels[0]
    assert exact.subtitle.startswith("exact: each restored alone")


def test_pixels_are_even_lines_of_at_most_80():
    block = pixels(np.arange(172.0)[None, None])
    assert block.shape == (1, 1, 3, 58)
    assert block[0, 0, 1, 0] == 58
    assert np.isnan(block[0, 0, 2, -2:]).all()


def test_the_strongest_pixel_stands_for_its_block():
    values = np.zeros((2, 3, 10, 7))
    values[1, 2, 9, 6], values[1, 2, 0, 0] = -5.0, 3.0
    made = strongest(values, 3, 4)
    assert made.shape == (2, 3, 3, 4)
    assert made[1, 2, 2, 3] == -5.0
    assert made[1, 2, 0, 0] == 3.0
    assert np.count_nonzero(made) == 2
    assert np.array_equal(strongest(values, 10, 80), values)


@pytest.mark.parametrize("kind", ["png", "pdf", "svg"])
@pytest.mark.parametrize("style", [{}, {"transpose": True}, {"flip": True}])
def test_drawn_in_every_format(neurons, results, tmp_path, kind, style):
    pytest.importorskip("matplotlib")
    made, without = (
        tl.twin(*shown, **style).save(tmp_path / f"n.{kind}").read_bytes()
        for shown in ((results[0], neurons), (results[0], results[1]))
    )
    assert len(made) > 10_000
    if kind == "svg":  # the map is an image inside of the drawing (colour bars are images too)
        n_bands = made.count(b"<image") - without.count(b"<image") - 1
        assert n_bands >= 1


def test_four_panels_stand_two_by_two(neurons, results):
    pytest.importorskip("matplotlib")
    two, four = tl.twin(neurons).figure(), tl.twin(*results, neurons).figure()
    assert four.get_size_inches()[0] == pytest.approx(two.get_size_inches()[0], rel=0.05)
    assert four.get_size_inches()[1] > 1.7 * two.get_size_inches()[1]
    titles = [t for t in four.texts if t.get_text().startswith(("logit lens", "neurons"))]
    places = {t.get_text(): t.get_position() for t in titles}
    assert places["logit lens"][0] == pytest.approx(places["neurons"][0])
    assert places["logit lens"][1] > 0.9 > 0.6 > places["neurons"][1]
