"""A result comes back from disk as it was, or is refused by name."""

from __future__ import annotations

import dataclasses
import json
import os
import struct
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

import twinlens as tl
from tests.conftest import STORY
from twinlens.errors import ResultFileError, SchemaVersionError
from twinlens.results import writing
from twinlens.results.writing import replacing


@pytest.fixture(scope="module")
def results(make_model):
    model = make_model("gpt2")
    noise = tl.Noise(samples=3)
    return {
        "lens": tl.logit_lens(model, STORY, rows="mid", targets=[" a"]),
        "contributions": tl.logit_lens(model, STORY, rows="mlp"),
        "trace": tl.causal_trace(model, STORY, "Lily", corruption=noise),
        "heads": tl.causal_trace(model, STORY, "Lily", kind="head", corruption=noise),
    }


KINDS = ["lens", "contributions", "trace", "heads"]


def assert_same(ours, theirs):
    assert type(ours) is type(theirs)
    for field in dataclasses.fields(ours):
        a, b = getattr(ours, field.name), getattr(theirs, field.name)
        if isinstance(a, np.ndarray):
            assert a.dtype == b.dtype
            assert np.array_equal(a, b, equal_nan=a.dtype.kind == "f")
        elif dataclasses.is_dataclass(a):
            assert_same(a, b)
        else:
            assert a == b, field.name


@pytest.mark.parametrize("kind", KINDS)
def test_round_trip(results, tmp_path, kind):
    path = results[kind].save(tmp_path / "r.safetensors")
    assert_same(results[kind], tl.open_result(path))


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_result_is_the_same_bytes(results, tmp_path, kind):
    first = results[kind].save(tmp_path / "a").read_bytes()
    assert first == tl.open_result(tmp_path / "a").save(tmp_path / "b").read_bytes()


def test_another_schema_is_refused_by_name(results, tmp_path):
    path = results["trace"].save(tmp_path / "r")
    _edit_header(path, lambda header: header | {"schema": 99})
    with pytest.raises(SchemaVersionError, match="schema 99"):
        tl.open_result(path)


@pytest.mark.parametrize(
    "edit",
    [
        lambda h: h | {"result": "poem"},
        lambda h: h | {"fields": {}},
        lambda h: h | {"fields": None},
        lambda h: h | {"fields": h["fields"] | {"kind": "soul"}},
        lambda h: h | {"fields": h["fields"] | {"clean": "much"}},
        lambda h: h | {"fields": h["fields"] | {"focus": 1.5}},
        lambda h: h | {"fields": h["fields"] | {"layers": ["0"]}},
        lambda h: h | {"fields": h["fields"] | {"layers": 3}},
        lambda h: h | {"fields": h["fields"] | {"tokens": []}},
        lambda h: h | {"fields": h["fields"] | {"vocabulary": {"x": "y"}}},
        lambda h: [h],
        lambda h: "header",
    ],
)
def test_a_damaged_header_is_refused_by_name(results, tmp_path, edit):
    path = results["trace"].save(tmp_path / "r")
    _edit_header(path, edit)
    with pytest.raises(ResultFileError, match=r"twinlens|damaged"):
        tl.open_result(path)


@pytest.mark.parametrize(
    ("name", "array"),
    [
        ("scores", np.zeros((2, 2))),
        ("samples", np.zeros(3)),
        ("subject_mask", np.zeros(99, bool)),
        ("scores", np.zeros((4, 20), np.int64)),
        ("tokens.ids", np.zeros(4, np.int64)),
        ("corrupted_samples", None),
    ],
)
def test_arrays_that_do_not_fit_are_refused_by_name(results, tmp_path, name, array):
    path = results["trace"].save(tmp_path / "r")
    arrays, header = load_file(path), _header(path)
    arrays.pop(name)
    if array is not None:
        arrays[name] = array
    save_file(arrays, path, metadata={"twinlens": json.dumps(header)})
    with pytest.raises(ResultFileError, match="not a whole twinlens result"):
        tl.open_result(path)


def test_other_files_are_refused_by_name(tmp_path):
    save_file({"x": np.zeros(3)}, tmp_path / "weights.safetensors")
    (tmp_path / "text").write_text("hello")
    (tmp_path / "empty").write_bytes(b"")
    for name in ("weights.safetensors", "text", "empty", "nowhere", "."):
        with pytest.raises(ResultFileError):
            tl.open_result(tmp_path / name)


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_any_damage_to_the_file_is_refused_or_harmless(results, tmp_path_factory, data):
    """Bytes cut off or overwritten: a named error, or a whole result (numbers may differ)."""
    path = tmp_path_factory.mktemp("damage") / "r"
    whole = results["heads"].save(path).read_bytes()
    if data.draw(st.booleans()):
        broken = whole[: data.draw(st.integers(0, len(whole) - 1))]
    else:
        at = data.draw(st.integers(0, min(len(whole) - 1, 4000)))
        new = data.draw(st.binary(min_size=1, max_size=12))
        broken = whole[:at] + new + whole[at + len(new) :]
    path.write_bytes(broken)
    try:
        result = tl.open_result(path)
    except ResultFileError:
        return
    assert result.scores.shape == results["heads"].scores.shape


def test_nothing_is_half_written(results, tmp_path):
    path = tmp_path / "r"
    path.write_text("before")
    with pytest.raises(RuntimeError):
        _fail_midway(path)
    assert path.read_text() == "before"
    assert os.listdir(tmp_path) == ["r"]


def test_a_folder_that_is_not_there_is_refused_by_name(results, tmp_path):
    with pytest.raises(ResultFileError, match="cannot write"):
        results["lens"].save(tmp_path / "no" / "r")


@pytest.mark.parametrize("kind", KINDS)
def test_plain_values_are_strict_json(results, kind):
    value = results[kind].to_dict()
    assert json.loads(json.dumps(value, allow_nan=False)) == value
    assert value["tokens"]["ids"] == results[kind].tokens.ids.tolist()


def test_dataframe_has_one_row_a_cell(results):
    pytest.importorskip("pandas")
    trace, heads = results["trace"], results["heads"]
    frame = trace.to_dataframe()
    assert len(frame) == trace.scores.size
    row = frame[(frame.layer == "1") & (frame.token == 4)].iloc[0]
    assert row["score"] == trace.scores[2, 4]
    assert row["label"] == trace.tokens.labels[4]
    cells = heads.to_dataframe().set_index(["layer", "token", "head"])
    assert cells.loc[("2", 3, 1), "effect"] == heads.effects()[2, 3, 1]
    lens = results["lens"].to_dataframe()
    assert {"probability_of_final", "entropy", "top_id"} <= set(lens.columns)


def test_xarray_names_its_dimensions(results):
    pytest.importorskip("xarray")
    data = results["heads"].to_xarray()
    assert data["samples"].dims == ("layer", "token", "head", "sample")
    assert float(data["score"].sel(layer="1")[3, 2]) == results["heads"].scores[1, 3, 2]
    lens = results["lens"].to_xarray()
    assert lens["top_ids"].dims == ("layer", "token", "k")


@pytest.mark.skipif(os.name != "posix", reason="elsewhere nobody asks whether a process lives")
def test_what_a_dead_process_left_goes_and_stops_nobody_where_it_may_not(tmp_path, monkeypatch):
    monkeypatch.setattr(writing, "_lives", lambda process: process == os.getpid())
    mine = writing._mine()
    dead = tmp_path / f"{mine.rsplit('-', 2)[0]}-{2**22 + 1}-x"
    living, other = tmp_path / f"{mine}x", tmp_path / f".twinlens-00000000-{2**22 + 1}-x"
    for left in (dead, living, other):
        left.touch()

    plain = Path.unlink

    def refused(path, missing_ok=False):
        if path == dead:
            raise PermissionError(1, "Operation not permitted")
        plain(path, missing_ok=missing_ok)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", refused)
        with replacing(tmp_path / "a") as temporary:
            temporary.write_text("whole")
    assert dead.exists()
    with replacing(tmp_path / "b") as temporary:
        temporary.write_text("whole")
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"a", "b", living.name, other.name}


@pytest.mark.skipif(sys.platform != "linux", reason="process namespaces")
def test_containers_of_one_host_name_are_not_one_machine(monkeypatch):
    here = writing._mine()
    monkeypatch.setattr(writing.os, "readlink", lambda _path: "pid:[1]")
    assert writing._mine() != here


def _fail_midway(path):
    with replacing(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError


def _header(path):
    raw = path.read_bytes()
    size = struct.unpack("<Q", raw[:8])[0]
    return json.loads(json.loads(raw[8 : 8 + size])["__metadata__"]["twinlens"])


def _edit_header(path, edit):
    arrays = load_file(path)
    header = edit(_header(path))
    save_file(arrays, path, metadata={"twinlens": json.dumps(header)})
