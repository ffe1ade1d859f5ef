"""`twinlens use` as a user types it."""

from __future__ import annotations

import json

import numpy as np
import pytest

import twinlens as tl
from twinlens import cli


def run(*arguments: object) -> int | str | None:
    with pytest.raises(SystemExit) as stop:
        cli.main(["use", *map(str, arguments)])
    return stop.value.code


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    path = tmp_path_factory.mktemp("text") / "some.jsonl"
    lines = (json.dumps(document) for document in tl.hamlet.text("validation")[:3])
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def test_the_table_the_picture_and_the_result(capsys, text, tmp_path):
    pytest.importorskip("matplotlib")
    files = [tmp_path / name for name in ("map.png", "use.safetensors")]
    outputs = [option for file in files for option in ("-o", file)]
    assert run("hamlet", "--text", text, "--score", "mean_use", "--sort", *outputs) == 0
    output, messages = capsys.readouterr()
    saved = tl.open_result(files[1])
    assert isinstance(saved, tl.UseResult)
    assert saved.n_tokens == int(output.split(" tokens")[0].split()[-1].replace(",", ""))
    for kind in ("neuron", "head"):
        for values in (saved.score("mean_use", kind), -saved.score("mean_use", kind)):
            layer, unit = np.unravel_index(values.argmin(), values.shape)
            assert f"{layer}.{kind[0].upper()}{unit} " in output
    assert "rank correlation" in output
    assert files[0].read_bytes().startswith(b"\x89PNG")
    assert all(str(file) in messages for file in files)


def test_json_has_every_unit(capsys, text):
    assert run("--text", text, "--no-gradients", "--json", "--lowest", "0.2") == 0
    found = json.loads(capsys.readouterr().out)
    assert np.shape(found["neurons"]["use"]) == (6, 768)
    assert np.shape(found["heads"]["silent"]) == (6, 6)
    assert found["neurons"]["effect"][0][0] is None
    assert found["neurons"]["stability"]["use"]["by_chance"] == 0.2


@pytest.mark.parametrize(
    "wrong",
    [
        ("--text", "missing.txt"),
        ("--text", "hamlet", "-o", "map.gif"),
        ("--text", "hamlet", "-o", "nowhere/map.png"),
        ("--text", "hamlet", "--score", "effect", "--no-gradients"),
        ("--text", "hamlet", "--lowest", "2"),
        ("--text", "hamlet", "--length", "5000"),
    ],
)
def test_what_cannot_be_asked_is_one_line(capsys, wrong, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run(*wrong) == 2
    output, messages = capsys.readouterr()
    assert not output
    assert messages.startswith("twinlens: ")
    assert messages.count("\n") == 1
    assert not list(tmp_path.iterdir())
