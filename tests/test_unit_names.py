"""A neuron of an expert has its name wherever a user reads one; blocks have no units they lack."""

from __future__ import annotations

import dataclasses
import io
import json
import shutil

import numpy as np
import pytest
from rich.console import Console

import twinlens as tl
from tests.conftest import STORY
from tests.show.test_document import grid, read
from twinlens.errors import ResultFileError, RunFolderError
from twinlens.results.units import numbering_in
from twinlens.show.document import document
from twinlens.show.run_document import fact_document
from twinlens.show.summary_figure import draw_summary
from twinlens.show.summary_table import summary_tables
from twinlens.sweep.store import open_run

INSTEAD = tl.Replace(prompt=STORY.replace("Lily", "Paris"))
FACTS = [{"prompt": f"Then {name} went home to", "subject": name} for name in ("Lily", "Paris")]


@pytest.fixture(scope="module")
def model(make_model) -> tl.Model:
    """A dense block of 24 neurons, then one of 4 experts of 12 and 12 shared ones."""
    return make_model("deepseek_v3")


@pytest.fixture(scope="module")
def found(model):
    return tl.neuron_trace(model, STORY, "Lily", method="atp", corruption=INSTEAD, restored=2)


@pytest.fixture(scope="module")
def run(model, tmp_path_factory):
    pytest.importorskip("pyarrow")
    pytest.importorskip("polars")
    return tl.sweep_facts(
        model, FACTS, tmp_path_factory.mktemp("runs") / "mixed", measure=("neurons",),
        corruption=tl.Noise(samples=2), restored=2, top_neurons=40, threads=1, progress=False,
    )  # fmt: skip


def named(layer: int, unit: int) -> str:
    """By hand: what the fixture's model calls a neuron."""
    if layer == 0:
        return f"0.{unit}"
    return f"1.S.N{unit - 48}" if unit >= 48 else f"1.E{unit // 12}.N{unit % 12}"


def test_a_table_has_the_units_that_there_are_by_name(found, model, tmp_path):
    frame, n_tokens = found.to_dataframe(), len(found.tokens)
    assert len(frame) == n_tokens * (24 + 60)
    assert frame.score.notna().all()
    rows = zip(frame.layer, frame.unit, strict=True)
    assert list(frame.name) == [named(int(layer), unit) for layer, unit in rows]
    for row in frame.sample(20, random_state=1).itertuples():
        assert row.score == found.scores[int(row.layer), row.token, row.unit]
        assert row.token_id == found.tokens.ids[row.token]
    few = tl.neuron_trace(
        model, STORY, "Lily", method="atp", corruption=INSTEAD, restored=2, keep=30
    )
    few.save(tmp_path / "few.safetensors")
    again = tl.open_result(tmp_path / "few.safetensors")
    kept = again.to_dataframe()
    assert len(kept) == n_tokens * (24 + 30)
    assert set(kept.name) <= set(frame.name)
    data = again.to_xarray()
    assert data.name.dims == ("layer", "token", "unit")
    assert data.name.values[1, 3, 4] == named(1, int(again.kept[1, 3, 4]))
    whole = found.to_xarray().name.values
    assert whole[0].tolist() == [named(0, n) for n in range(24)] + [""] * 36
    assert whole[1].tolist() == [named(1, n) for n in range(60)]


def test_a_damaged_numbering_is_refused(found, tmp_path):
    for wrong in (
        {"experts": {"1": [4, 0, 12]}}, {"experts": {"1": "x"}}, {"experts": 3},
        {"widths": [24]}, {"widths": [24, 10**30]}, {"widths": ["24", "60"]},
    ):  # fmt: skip
        path = tmp_path / "wrong.safetensors"
        dataclasses.replace(found, settings={**found.settings, **wrong}).save(path)
        with pytest.raises(ResultFileError):
            tl.open_result(path)


def test_a_document_has_what_the_page_names_neurons_by(found, model):
    (look,) = document({"a look": [found]}).looks
    assert look.neurons.keys() == {named(*pair) for pair in found.named.tolist()}
    made = grid(look, "neurons.map")
    assert "mean over the MLP's 24 to 60 neurons" in grid(look, "neurons.mean").subtitle
    assert numbering_in({"experts": made.experts}) == {"1": model.experts(1).units}
    assert grid(look, "neurons.mean").experts == {}
    coordinates = tl.neuron_trace(
        model, STORY, "Lily", method="atp", corruption=INSTEAD, restored=2, basis="coordinate"
    )
    (look,) = document({"a look": [coordinates]}).looks
    assert grid(look, "neurons.map").experts == {}


def test_a_server_gives_a_card_by_number_and_by_name(model):
    pytest.importorskip("fastapi")
    from twinlens.show.server.requests import Card, CardRequest
    from twinlens.show.server.service import Service

    service = Service({"tiny": model}, max_tokens=64)
    try:
        asked = [CardRequest(model="tiny", layer=1, neuron=one) for one in (27, "E2.N3")]
        cards = [Card(**service.card(one).result(60)) for one in asked]
    finally:
        service.jobs.close()
    assert cards[0] == cards[1]
    assert cards[0].name == "1.E2.N3"


def test_a_run_names_neurons_in_its_table_summary_figure_and_document(run):
    rows = run.neurons.select("layer", "neuron", "name").rows()
    assert {layer for layer, *_ in rows} == {0, 1}
    assert all(name == named(layer, neuron) for layer, neuron, name in rows)
    summary = tl.summarize(run, resamples=10).summary
    names = [one.name for one in summary.neurons]
    assert set(names) <= {name for *_, name in rows}
    assert any(".E" in name for name in names)
    console = Console(width=200, file=io.StringIO())
    console.print(*summary_tables(summary))
    told = console.file.getvalue()
    assert set(names) <= set(told.split())
    drawn = {text.get_text() for text in draw_summary(summary).texts}
    assert set(names[:10]) <= drawn
    (look,) = fact_document(run, 0).looks
    own = [name for fact, name in run.neurons.select("fact", "name").rows() if fact == 0]
    assert look.neurons.keys() == set(own)
    made = grid(look, "neurons.map")
    assert made.experts == {"1": [4, 12, 12]}
    units = read(made.details["unit"])
    shown = {named(at, int(units[at, t, n])) for at, t, n in np.argwhere(units >= 0)}
    assert shown == set(own)


def test_a_run_that_was_made_before_is_read_and_a_damaged_numbering_refused(run, tmp_path):
    folder = tmp_path / "before"
    shutil.copytree(run.path, folder)
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["model"].pop("experts") == {"1": [4, 12, 12]}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    before = open_run(folder)
    rows = before.neurons.select("layer", "neuron", "name").rows()
    assert all(name == f"{layer}.{neuron}" for layer, neuron, name in rows)
    manifest["model"]["experts"] = {"1": [4, "x"]}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(RunFolderError, match=r"manifest\.json is damaged: experts of block '1'"):
        open_run(folder)


def test_a_use_map_names_by_the_same_numbering(make_model):
    used = tl.use_map(make_model("gpt2"), [STORY] * 2, gradients=False)
    mixed = dataclasses.replace(used, settings={**used.settings, "experts": {"1": [10, 12, 8]}})
    assert dict(mixed.ranked())["1.S.N7"] == dict(used.ranked())["1.N127"]
    assert {name for name, _ in mixed.ranked()} >= {"0.N127", "1.E9.N11", "2.N127"}
    frame = mixed.to_dataframe().set_index("name")
    assert frame.loc["1.E2.N5", "use"] == dict(used.ranked())["1.N29"]
    assert "1.H2" in frame.index
