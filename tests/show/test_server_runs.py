"""Runs in the viewer's API: listed, searched, opened; read anew; and no other folder."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

pytest.importorskip("fastapi")
pytest.importorskip("pyarrow")
pytest.importorskip("polars")

import polars
from starlette.testclient import TestClient

from tests.show.test_document import read
from tests.show.test_server import error
from twinlens.errors import InputError, RunFolderError
from twinlens.show.schema import Array
from twinlens.show.server.app import create_app
from twinlens.show.server.runs import Runs
from twinlens.show.server.service import Service


@pytest.fixture(scope="module")
def client(small_run):
    service = Service({})
    runs = Runs({"small": small_run.path, "again": small_run.path})
    yield TestClient(create_app(service, runs=runs), base_url="http://localhost")
    service.jobs.close()


def facts(client, **query) -> list[int]:
    answer = client.get("/api/runs/small/facts", params=query)
    assert answer.status_code == 200, answer.text
    return [row["fact"] for row in answer.json()["facts"]]


def test_runs_are_listed_without_any_model(client, small_run):
    assert client.get("/api/models").json() == {"models": []}
    assert error(client.get("/api/defaults"))["message"] == "no model is served here, only runs"
    first, second = client.get("/api/runs").json()["runs"]
    assert (first["name"], second["name"]) == ("small", "again")
    counts = {name: first[name] for name in ("facts", "done", "measured", "unknown", "failed")}
    assert counts == {"facts": 4, "done": 4, "measured": 2, "unknown": 1, "failed": 1}
    assert (first["served"], first["problem"]) == (None, None)
    assert first["model"] == small_run.manifest["model"]["name"]


def test_a_model_with_the_same_weights_is_named(gpt2, small_run):
    service = Service({"mine": gpt2})
    made = create_app(service, runs=Runs({"small": small_run.path}))
    client = TestClient(made, base_url="http://localhost")
    assert client.get("/api/runs").json()["runs"][0]["served"] == "mine"
    service.jobs.close()


def test_facts_are_searched_kept_sorted_and_paged(client, small_run):
    assert facts(client) == [0, 1, 2, 3]
    assert facts(client, search="EIFFEL tower") == [1]
    assert facts(client, search="(") == [], "a search is no pattern"
    assert facts(client, status="unknown") == [1]
    assert facts(client, status="failed") == [3]
    assert facts(client, status="measured", search="then") == [0, 2]
    assert facts(client, descending=True) == [3, 2, 1, 0]
    assert facts(client, sort="subject") == [0, 2, 1, 3]
    table = small_run.facts.with_columns(effect=polars.col("clean") - polars.col("corrupted"))
    for name in ("clean", "corrupted", "effect"):
        ordered = table.filter(polars.col("status") == "measured").sort(name)["fact"].to_list()
        assert facts(client, sort=name) == [*ordered, 1, 3], "without a number: last"
        assert facts(client, sort=name, descending=True) == [*ordered[::-1], 1, 3]
    page = client.get("/api/runs/small/facts", params={"offset": 1, "limit": 2}).json()
    assert (page["total"], page["offset"]) == (4, 1)
    assert [row["fact"] for row in page["facts"]] == [1, 2]
    row = client.get("/api/runs/small/facts").json()["facts"][0]
    stored = small_run.facts.row(0, named=True)
    same = ("id", "status", "known", "prompt", "subject", "clean", "corrupted", "probability")
    assert {name: row[name] for name in same} == {name: stored[name] for name in same}
    assert (row["answer"], row["said"]) == (stored["answer_label"], stored["predicted_label"])


def test_a_fact_and_the_average_are_documents(client, small_run):
    made = client.get("/api/runs/small/facts/2").json()
    assert made["tokens"]["text"] == "Then Mr Dursley went home to the"
    (look,) = made["looks"]
    assert look["name"] == "small"
    (block,) = (g for g in look["grids"] if g["id"] == "trace.block")
    np.testing.assert_allclose(
        read(Array(**block["values"])), small_run.grid(2, "block"), atol=1e-6
    )
    average = client.get("/api/runs/small/average").json()
    assert average["looks"][0]["grids"][0]["column"] == "role"


WRONG = [
    ("nothing/facts", 404, "run", "there is no run 'nothing' here; there is small, again"),
    ("nothing/average", 404, "run", "there is no run"),
    ("nothing/facts/0", 404, "run", "there is no run"),
    ("small/facts/9", 404, "fact", "has no fact 9"),
    ("small/facts/1", 404, "fact", "was not measured"),
    ("small/facts/-1", 422, "fact", "greater than or equal to 0"),
    ("small/facts/one", 422, "fact", "valid integer"),
    ("small/facts?sort=beauty", 422, "sort", "'fact', 'prompt'"),
    ("small/facts?status=true", 422, "status", "'known'"),
    ("small/facts?limit=501", 422, "limit", "500"),
    ("small/facts?offset=-1", 422, "offset", "greater than or equal to 0"),
    ("small/facts?folder=/etc", 422, "folder", "Extra inputs"),
    (f"small/facts?search={'x' * 201}", 422, "search", "200"),
]


@pytest.mark.parametrize(("path", "status", "field", "says"), WRONG)
def test_what_cannot_be_asked_is_refused(client, path, status, field, says):
    answer = client.get(f"/api/runs/{path}")
    assert (answer.status_code, error(answer)["field"]) == (status, field)
    assert says in error(answer)["message"]


def test_no_path_of_a_browser_is_opened(client, small_run, monkeypatch):
    opened = []
    monkeypatch.setattr("twinlens.show.server.runs.open_run", opened.append)
    folder = str(small_run.path)
    for name in (folder, folder.replace("/", "%2F"), "..%2Fsmall", "small%2F..%2Fsmall", "%00"):
        for path in (f"{name}/facts", f"{name}/average", f"{name}/facts/0"):
            answer = client.get(f"/api/runs/{path}")
            assert answer.status_code == 404
            assert error(answer)["type"] == "NotFoundError"
    assert opened == []


def test_a_folder_that_grows_is_read_anew_and_one_that_breaks_says_so(small_run, tmp_path):
    folder = tmp_path / "growing"
    shutil.copytree(small_run.path, folder)
    tables = ("facts", "tokens", "cells", "neurons")
    whole = {name: polars.read_parquet(folder / f"{name}.parquet") for name in tables}
    for name, table in whole.items():
        table.filter(polars.col("fact") < 1).write_parquet(folder / f"{name}.parquet")
    service = Service({})
    made = create_app(service, runs=Runs({"growing": folder}))
    client = TestClient(made, base_url="http://localhost")
    counts = ("done", "measured")

    def told() -> tuple:
        (run,) = client.get("/api/runs").json()["runs"]
        average = client.get("/api/runs/growing/average").json()
        told = average["looks"][0]["grids"][1]["subtitle"] if "looks" in average else ""
        return *(run[name] for name in counts), told.partition(":")[0], run["problem"]

    assert told() == (1, 1, "1 fact", None)
    assert client.get("/api/runs/growing/facts/2").status_code == 404
    for name in tables:
        shutil.copy(small_run.path / f"{name}.parquet", folder / f"{name}.parquet")
    assert told() == (4, 2, "2 facts", None)
    assert client.get("/api/runs/growing/facts/2").status_code == 200
    (folder / "facts.parquet").write_bytes(b"no table")
    *_, problem = told()
    assert "facts.parquet is damaged" in problem
    refused = client.get("/api/runs/growing/facts")
    assert (refused.status_code, error(refused)["type"]) == (422, "RunFolderError")
    shutil.rmtree(folder)
    assert "is no run of a sweep" in told()[-1]
    with pytest.raises(RunFolderError):
        Runs({"gone": folder})
    service.jobs.close()


def test_a_run_of_which_nothing_is_measured_has_no_average(small_run, tmp_path):
    folder = tmp_path / "unknown"
    shutil.copytree(small_run.path, folder)
    for name in ("facts", "tokens", "cells", "neurons"):
        table = polars.read_parquet(folder / f"{name}.parquet").filter(polars.col("fact") == 1)
        table.write_parquet(folder / f"{name}.parquet")
    service = Service({})
    made = create_app(service, runs=Runs({"unknown": folder}))
    refused = TestClient(made, base_url="http://localhost").get("/api/runs/unknown/average")
    assert refused.status_code == 422
    assert "no fact was measured" in error(refused)["message"]
    service.jobs.close()


def test_a_run_of_a_lens_alone_has_an_average(make_model, tmp_path):
    import twinlens as tl

    facts = [{"prompt": "Lily loved to", "subject": "Lily"}]
    options = {"measure": ["lens"], "threads": 1, "progress": False}
    run = tl.sweep_facts(make_model("gpt2"), facts, tmp_path / "lens", **options)
    runs = Runs({"lens": run.path})
    for made in (runs.average("lens"), runs.fact("lens", 0)):
        look = json.loads(made)["looks"][0]
        assert [grid["group"] for grid in look["grids"]] == ["logit lens"] * len(look["grids"])


def test_the_command_names_runs_and_refuses_folders_that_are_none(small_run, tmp_path):
    from twinlens.cli.serve import _runs

    folder = small_run.path
    assert _runs([str(folder), f"mine={folder}"]) == {"small": folder, "mine": folder}
    with pytest.raises(InputError, match="two runs are called 'small'"):
        _runs([str(folder), str(folder)])
    for wrong in (tmp_path, tmp_path / "nothing"):
        with pytest.raises(RunFolderError, match="is no run of a sweep"):
            _runs([f"x={wrong}"])
