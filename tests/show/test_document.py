"""The document says what the results say, number by number."""

from __future__ import annotations

import base64
import dataclasses
import json

import numpy as np
import pytest

import twinlens as tl
from twinlens.errors import InputError
from twinlens.show import grids
from twinlens.show.arrays import array
from twinlens.show.document import document
from twinlens.show.schema import Array, Grid, Look


def read(made: Array) -> np.ndarray:
    dtype = {"float32": "<f4", "int32": "<i4", "uint16": "<u2", "uint8": "u1"}[made.dtype]
    return np.frombuffer(base64.b64decode(made.data), dtype).reshape(made.shape)


def grid(look: Look, name: str) -> Grid:
    return next(one for one in look.grids if one.id == name)


@pytest.fixture(scope="module")
def results(hamlet_model):
    prompt, subject = "The Silent Tower is in the city of", "Silent Tower"
    quiet = {"progress": False}
    return [
        tl.logit_lens(hamlet_model, prompt, targets=" Pellam"),
        tl.causal_trace(hamlet_model, prompt, subject, **quiet),
        tl.causal_trace(hamlet_model, prompt, subject, kind="head", **quiet),
        tl.neuron_trace(hamlet_model, prompt, subject, method="atp", restored=5, **quiet),
    ]


@pytest.fixture(scope="module")
def look(results):
    return document({"hamlet": results}).looks[0]


def test_every_number_is_the_result_s(results, look):
    lens, trace, heads, units = results
    assert np.allclose(read(look.lenses[0].values), lens.top_probs, atol=1e-7)
    assert np.array_equal(read(look.lenses[0].ids), lens.top_ids)
    for name, values in {
        "lens.block.probability.final": lens.metric("probability"),
        "lens.block.rank.next": lens.metric("rank", "next"),
        "lens.block.kl_final_to_layer.final": lens.metric("kl_final_to_layer"),
        "trace.block": trace.effects(),
    }.items():
        assert np.allclose(read(grid(look, name).values), values, atol=1e-6, equal_nan=True), name
    assert np.allclose(read(grid(look, "trace.block").details["spread"]), trace.spread(), atol=1e-6)
    # heads and neurons have no row for the embedding
    assert np.isnan(read(grid(look, "trace.head").values)[0]).all()
    assert np.allclose(read(grid(look, "trace.head").values)[1:], heads.effects(), atol=1e-6)
    assert np.allclose(read(grid(look, "neurons.map").values)[1:], units.effects(), atol=1e-6)
    assert np.array_equal(
        read(grid(look, "neurons.map").details["exact"])[1:] == 1, units.exact_mask
    )
    assert np.allclose(
        read(grid(look, "neurons.joint").values)[1:], units.layer_mean("joint"), atol=1e-6
    )


def test_a_target_that_was_asked_for_has_a_grid(look):
    assert any("Pellam" in one.name for one in look.grids)


def test_what_the_strongest_neurons_write_is_what_their_cards_say(hamlet_model, results, look):
    layer, unit = (int(i) for i in results[3].named[0])
    card = tl.neuron_card(hamlet_model, layer, unit, top_k=6)
    told = look.neurons[f"{layer}.{unit}"]
    assert told.promotes == [label for _, label, _ in card.promoted]
    assert told.suppresses == [label for _, label, _ in card.suppressed]


def test_a_large_map_keeps_the_strongest_of_each_cell(results, monkeypatch):
    units = results[3]
    cells = units.scores.shape[0] * units.scores.shape[1]
    monkeypatch.setattr(grids, "MOST_UNITS", 10 * cells)
    made = grid(document({"x": [units]}).looks[0], "neurons.map")
    kept, numbers = read(made.values), read(made.details["unit"])
    assert kept.shape[2] == 10
    effects = units.effects()
    for cell in np.ndindex(*kept.shape[:2]):
        strongest = np.sort(np.abs(effects[cell]))[::-1][:10]
        assert np.allclose(np.abs(kept[cell]), strongest, atol=1e-6)
        assert np.allclose(effects[cell][numbers[cell]], kept[cell], atol=1e-6)


def test_results_of_one_kind_stand_side_by_side_each_with_its_own_scores(hamlet_model, results):
    prompt, subject = "The Silent Tower is in the city of", "Silent Tower"
    other = tl.causal_trace(hamlet_model, prompt, subject, metric="logit", progress=False)
    made = document({"x": [*results[:2], other]}).looks[0]
    ids = [one.id for one in made.grids]
    assert len(set(ids)) == len(ids)
    first, second = (grid(made, name) for name in ("trace.block", "trace.block~2"))
    assert (first.asked.metric, second.asked.metric) == ("probability", "logit")
    assert second.asked.clean == pytest.approx(other.clean)
    assert np.allclose(read(second.values), other.effects(), atol=1e-4)
    doubled = tl.logit_lens(hamlet_model, prompt, targets=[" Pellam", " Pellam"])
    ids = [one.id for one in document({"x": [doubled]}).looks[0].grids]
    assert len(set(ids)) == len(ids)


def test_it_is_strict_json(results):
    text = json.dumps(dataclasses.asdict(document({"x": results})), allow_nan=False)
    assert json.loads(text)["looks"][0]["rows"][0] == "embed"


@pytest.mark.parametrize(
    ("values", "dtype", "stored"),
    [
        (np.array([1.5, np.nan]), "float32", "float32"),
        (np.array([0.0, 65535.0]), "int32", "uint16"),
        (np.array([0.0, 65536.0]), "int32", "int32"),
        (np.array([-1.0, 3.0]), "int32", "int32"),
        (np.array([True, False]), "float32", "uint8"),
    ],
)
def test_arrays_are_as_small_as_they_can_be(values, dtype, stored):
    made = array(values, dtype)
    assert made.dtype == stored
    assert np.array_equal(
        read(made), values.astype(read(made).dtype), equal_nan=stored == "float32"
    )


def test_other_prompts_and_nothing_are_refused(hamlet_model, results):
    other = tl.logit_lens(hamlet_model, "Another text")
    with pytest.raises(InputError, match="different prompts"):
        document({"a": results, "b": [other]})
    with pytest.raises(InputError, match="nothing to show"):
        document({})
    with pytest.raises(InputError, match="nothing to show"):
        document({"a": results, "b": []})
