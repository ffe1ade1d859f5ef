"""A sweep's numbers are those of single calls to the last bit; a folder goes on, or refuses."""

from __future__ import annotations

import json

import numpy as np
import pytest

import twinlens as tl
from twinlens.errors import FactsError, InputError, MissingExtraError, RunFolderError
from twinlens.see.corruption import embedding_std
from twinlens.sweep.plan import computing
from twinlens.sweep.preparing import subjects_std
from twinlens.sweep.tables import TABLES

pytest.importorskip("pyarrow")
polars = pytest.importorskip("polars")

FACTS = [
    {"prompt": "The Eiffel Tower is in the city of", "subject": "The Eiffel Tower"},
    {"prompt": "Lily loved to", "subject": "Lily"},
    {"prompt": "Mr Dursley went home to the", "subject": "Mr Dursley"},
]
FEW = {
    "corruption": tl.Noise(samples=2), "restored": 3, "top_neurons": 4, "threads": 1,
    "progress": False,
}  # fmt: skip


@pytest.fixture(scope="module")
def whole(make_model, tmp_path_factory):
    return tl.sweep_facts(
        make_model("llama"), FACTS, tmp_path_factory.mktemp("runs") / "whole", **FEW
    )


def test_the_numbers_are_those_of_single_calls(make_model, whole):
    model, sigma = make_model("llama"), whole.manifest["resolved"]["sigma"]
    noise, engines = tl.Noise(sigma=sigma, samples=2), whole.manifest["resolved"]["engines"]
    assert set(engines.values()) == {"replay"}
    with computing(1):  # as many threads as the sweep has: they split sums, and so the rounding
        for number, fact in enumerate(FACTS):
            _compare(model, whole, noise, number, fact)


def _compare(model, whole, noise, number, fact):
    asked = (fact["prompt"], fact["subject"])
    for kind in ("block", "mlp", "attn"):
        trace = tl.causal_trace(model, *asked, kind=kind, corruption=noise)
        assert np.array_equal(whole.grid(number, kind, "score"), trace.scores)
        assert np.array_equal(whole.grid(number, kind), trace.effects())
        assert np.array_equal(whole.grid(number, kind, "spread"), trace.spread())
    row = whole.facts.row(number, named=True)
    assert (row["clean"], row["corrupted"]) == (trace.clean, trace.corrupted)
    units = tl.neuron_trace(model, *asked, corruption=noise, method="atp", restored=3)
    assert np.array_equal(whole.grid(number, "neurons"), units.layer_mean())
    kept = whole.neurons.filter(polars.col("fact") == number)
    names = [f"{layer}.{n}" for layer, n in kept.select("layer", "neuron").rows()]
    found = list(zip(names, kept["token"], kept["effect"], strict=True))
    assert found == units.top(4)
    lens = tl.logit_lens(model, fact["prompt"], targets=row["answer_id"])
    probability = lens.metric("probability", str(row["answer_id"]))
    assert np.array_equal(whole.grid(number, "lens", "score"), probability)


def test_neither_order_nor_company_nor_a_stop_changes_a_bit(make_model, whole, tmp_path):
    model, folder = make_model("llama"), tmp_path / "run"
    tl.sweep_facts(model, FACTS, folder, limit=1, **FEW)
    before = (folder / "cells.parquet").read_bytes()
    again = tl.sweep_facts(model, FACTS, folder, **FEW)
    assert (folder / "cells.parquet").read_bytes() != before
    for name in TABLES:
        assert (folder / f"{name}.parquet").read_bytes() == (
            whole.path / f"{name}.parquet"
        ).read_bytes()
    turned = tl.sweep_facts(model, FACTS[::-1], tmp_path / "turned", **FEW)
    assert set(turned.facts["key"]) == set(again.facts["key"])
    for number in range(3):
        assert np.array_equal(turned.grid(2 - number, "block"), whole.grid(number, "block"))


@pytest.mark.parametrize("kinds", [["block", "attn"], ["mlp"]])
def test_facts_that_share_passes_have_the_numbers_of_single_ones(make_model, tmp_path, kinds):
    names = ("Lily", "Paris", "Mr Dursley", "Tom")
    facts = [{"prompt": f"{name} loved to", "subject": name} for name in names]
    facts += [{"prompt": f"One day {name} loved", "subject": name} for name in names]
    facts.append({"prompt": "so Lily loved", "subject": "so Lily loved"})
    options = FEW | {"measure": ["trace"], "kinds": kinds}
    alone = tl.sweep_facts(make_model("llama"), facts, tmp_path / "alone", **options)
    shared = tl.sweep_facts(make_model("llama"), facts, tmp_path / "shared", share=True, **options)
    lengths = shared.facts["n_tokens"].to_list()
    assert len(set(lengths)) < len(lengths)
    for column in ("score", "corrupted", "clean", "spread"):
        np.testing.assert_allclose(shared.cells[column], alone.cells[column], atol=1e-6, rtol=0)
    untouched = alone.cells["effect"] == 0  # these are not rounded, either
    assert (shared.cells.filter(untouched)["effect"] == 0).all()


def test_one_fact_that_cannot_be_asked_does_not_take_its_company_with_it(make_model, tmp_path):
    facts = [
        {"prompt": f"{name} loved to", "subject": name, "counterfactual": f"{other} loved to"}
        for name, other in (("Lily", "Lucy"), ("Paris", "Rome is far"), ("Anna", "Paul"))
    ]
    options = FEW | {"corruption": "counterfactual", "kinds": ["block"], "measure": ["trace"]}
    alone = tl.sweep_facts(make_model("llama"), facts, tmp_path / "alone", **options)
    shared = tl.sweep_facts(make_model("llama"), facts, tmp_path / "run", share=True, **options)
    assert "failed" in set(shared.facts["status"])
    assert shared.facts["status"].to_list() == alone.facts["status"].to_list()
    assert shared.facts["reason"].to_list() == alone.facts["reason"].to_list()


def test_noise_in_the_embeddings_place_is_not_shared(make_model, tmp_path):
    noise = tl.Noise(samples=2, replace=True)
    with pytest.raises(InputError, match="share needs noise that is added"):
        tl.sweep_facts(
            make_model("llama"), FACTS, tmp_path, share=True, **FEW | {"corruption": noise}
        )


def test_what_is_done_is_not_done_again(make_model, whole, monkeypatch):
    def never(*_: object) -> None:
        raise AssertionError("a unit was done again")

    monkeypatch.setattr("twinlens.sweep.work._measure", never)
    told: list[tuple[int, int]] = []
    options = FEW | {"progress": lambda *n: told.append(n)}
    tl.sweep_facts(make_model("llama"), FACTS, whole.path, **options)
    assert not told


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"corruption": tl.Noise(samples=3)}, "samples=2, not 3"),
        ({"kinds": ["block"]}, "kinds="),
        ({"unknown": True}, "unknown=False, not True"),
    ],
)
def test_other_settings_are_refused_by_name(make_model, whole, change, says):
    with pytest.raises(RunFolderError, match=says):
        tl.sweep_facts(make_model("llama"), FACTS, whole.path, **FEW | change)


def test_other_facts_another_model_and_another_folder_are_refused(make_model, whole, tmp_path):
    with pytest.raises(RunFolderError, match="facts="):
        tl.sweep_facts(make_model("llama"), FACTS[:2], whole.path, **FEW)
    with pytest.raises(RunFolderError, match="model weights_hash"):
        tl.sweep_facts(make_model("qwen2"), FACTS, whole.path, **FEW)
    (tmp_path / "letter.txt").write_text("dear")
    with pytest.raises(RunFolderError, match=r"holds 'letter.txt'"):
        tl.sweep_facts(make_model("llama"), FACTS, tmp_path, **FEW)
    with pytest.raises(RunFolderError, match="no run of a sweep"):
        tl.open_run(tmp_path)
    with pytest.raises(InputError, match="limit=0"):
        tl.sweep_facts(make_model("llama"), FACTS, tmp_path / "x", limit=0, **FEW)


def test_sigma_is_that_of_the_subjects(make_model):
    model = make_model("llama")
    every = [model.tokenizer.decode([n]) for n in range(5, 60)]
    assert subjects_std(model, ["Lily"]) != subjects_std(model, ["Paris"])
    assert abs(subjects_std(model, every) / embedding_std(model) - 1) < 0.2


def test_unknown_and_impossible_facts_are_marked_and_left_out(tmp_path):
    model, facts = tl.load("hamlet"), tl.hamlet.facts()[:3]
    facts[1] = facts[1] | {"attribute": "nonsense"}
    facts.append({"prompt": "word " * 600, "subject": "word", "attribute": "x"})
    facts.append({"prompt": "no subject here"})
    options = {"measure": ["lens"], "threads": 1, "progress": False}
    run = tl.sweep_facts(model, facts, tmp_path / "a", **options)
    assert run.facts["status"].to_list() == ["measured", "unknown", "measured", "failed"]
    assert run.facts["known"].to_list() == [True, False, True, None]
    assert "reads at most" in run.facts["reason"][3]
    assert run.counts()["share_known"] == 2 / 3
    assert run.cells["fact"].unique().to_list() == [0, 2]
    assert [row["line"] for row in run.rejected] == [5]
    more = tl.sweep_facts(model, facts, tmp_path / "b", unknown=True, **options)
    assert more.facts["status"].to_list() == ["measured"] * 3 + ["failed"]
    top = more.cells.filter(polars.col("fact") == 0, polars.col("layer") == 5)["top"].to_list()
    assert top[-1].strip("␣") in facts[0]["attribute"]
    with pytest.raises(FactsError, match="line 5: no subject"):
        tl.sweep_facts(model, facts, tmp_path / "c", strict=True, **options)


def test_a_counterfactual_stands_in_the_subjects_place(make_model, tmp_path):
    other = [FACTS[1] | {"counterfactual": "Lily loved to"}, FACTS[0]]
    other[0]["prompt"], other[0]["subject"] = "Paris loved to", "Paris"
    options = FEW | {"corruption": "counterfactual", "kinds": ["block"], "measure": ["trace"]}
    run = tl.sweep_facts(make_model("llama"), other, tmp_path / "run", **options)
    row = run.facts.row(0, named=True)
    if row["status"] == "failed":  # the names have different numbers of tokens here
        assert "must be as many" in row["reason"]
    assert run.facts["reason"][1] == "the row has no counterfactual"


def test_a_manifest_and_a_line_of_polars_say_it_all(whole):
    manifest = json.loads((whole.path / "manifest.json").read_text())
    assert manifest["settings"]["seed"] == 1
    assert len(manifest["model"]["weights_hash"]) == 64
    assert {"host", "versions", "resolved", "schema"} <= manifest.keys()
    cells = polars.read_parquet(whole.path / "cells.parquet")
    assert cells.columns[:6] == ["fact", "kind", "layer", "token", "role", "score"]
    assert set(cells["kind"]) == {"block", "mlp", "attn", "neurons", "lens"}
    pandas = pytest.importorskip("pandas")
    assert len(pandas.read_parquet(whole.path / "cells.parquet")) == len(cells)


def test_a_missing_extra_is_named(make_model, tmp_path, monkeypatch):
    def absent(module: str, extra: str) -> None:
        raise MissingExtraError(f"{module} is not installed; 'twinlens[{extra}]' brings it")

    monkeypatch.setattr("twinlens.sweep.folder.optional", absent)
    with pytest.raises(MissingExtraError, match=r"twinlens\[sweep\]"):
        tl.sweep_facts(make_model("llama"), FACTS, tmp_path / "run", **FEW)
