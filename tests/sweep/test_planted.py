"""A sweep finds what was put there: the layer and the token where a model looks its facts up."""

from __future__ import annotations

import numpy as np
import pytest

import twinlens as tl
from tests.sweep import planted

pytest.importorskip("pyarrow")
pytest.importorskip("polars")


@pytest.fixture(scope="module")
def view(tmp_path_factory):
    model = tl.load(planted.planted(), tokenizer=planted.tokenizer())
    folder = tmp_path_factory.mktemp("planted") / "run"
    run = tl.sweep_facts(
        model, planted.facts(), folder, corruption=tl.Noise(samples=5), threads=1, progress=False,
        method="exact",  # a ReLU that is off has no gradient, so an estimate would miss it
    )  # fmt: skip
    assert run.counts()["known"] == planted.N_FACTS
    return tl.summarize(run, resamples=200)


def test_the_mlp_that_holds_the_facts_is_the_peak(view):
    mlp = view.summary.kinds["mlp"]
    layer, role, effect = mlp.peak()
    assert (layer, role) == (str(planted.WHERE), "last subject")
    assert effect > 0.5
    rest = np.delete(mlp.mean, planted.WHERE, axis=0)
    assert np.nanmax(np.abs(rest)) < 0.02
    column = mlp.roles.index("last subject")
    assert mlp.low[planted.WHERE, column] > 0


def test_the_attention_after_it_carries_the_answer(view):
    attention = view.summary.kinds["attn"]
    assert attention.peak()[:2] == (str(planted.WHERE + 1), "focus")


def test_the_state_is_at_the_subject_above_and_at_the_focus_below(view):
    block = view.summary.kinds["block"]
    subject, focus = (block.roles.index(role) for role in ("last subject", "focus"))
    rows = {name: n for n, name in enumerate(block.layers)}
    carried = rows[str(planted.WHERE + 1)]
    assert (block.mean[:carried, subject] > 0.5).all()
    assert np.abs(block.mean[carried:, subject]).max() < 0.02
    assert (block.mean[carried:, focus] > 0.5).all()
    assert np.abs(block.mean[:carried, focus]).max() < 0.02


def test_each_facts_neuron_is_its_strongest(view):
    named = {neuron.name for neuron in view.summary.neurons[: planted.N_FACTS]}
    assert named == {f"{planted.WHERE}.{n}" for n in range(planted.N_FACTS)}
    for neuron in view.summary.neurons[: planted.N_FACTS]:
        assert neuron.promotes[0] == planted.ANSWERS[int(neuron.name.split(".")[1])]
