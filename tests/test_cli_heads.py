"""`twinlens heads` as a user types it."""

from __future__ import annotations

import json

import pytest

import twinlens as tl
from twinlens import cli


def run(*arguments: str) -> int | str | None:
    with pytest.raises(SystemExit) as stop:
        cli.main(["heads", *arguments])
    return stop.value.code


def test_the_table_names_hamlets_induction_heads(capsys):
    assert run("--sequences", "3") == 0
    output, _ = capsys.readouterr()
    line = next(line for line in output.splitlines() if line.startswith("induction heads"))
    assert set(line.partition(": ")[2].split(", ")) == {"1.H0", "1.H1", "5.H2", "5.H3"}
    assert "prefix matching" in output


def test_json_and_a_saved_result(capsys, tmp_path):
    path = tmp_path / "heads.safetensors"
    assert (
        run("hamlet", "--sequences", "1", "--threshold", "0.9", "--json", "--save", str(path)) == 0
    )
    output, _ = capsys.readouterr()
    saved = tl.open_result(path)
    assert json.loads(output) == saved.to_dict()
    assert saved.threshold == 0.9


@pytest.mark.parametrize("wrong", [("--threshold", "3"), ("--length", "900"), ("--repeats", "1")])
def test_what_cannot_be_asked_is_one_line(capsys, wrong):
    assert run("hamlet", *wrong) == 2
    output, messages = capsys.readouterr()
    assert not output
    assert messages.startswith("twinlens: ")
    assert messages.count("\n") == 1


@pytest.mark.parametrize("ending", ["png", "svg", "html"])
def test_a_picture_is_written(capsys, tmp_path, ending):
    if ending != "html":
        pytest.importorskip("matplotlib")
    path = tmp_path / f"heads.{ending}"
    assert run("--sequences", "1", "--output", str(path)) == 0
    assert path.stat().st_size > 5_000
    assert str(path) in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "says"), [("no/x.safetensors", "does not exist"), ("x.json", "a name in .safetensors")]
)
def test_a_result_that_cannot_be_written_is_refused_before_the_work(capsys, tmp_path, name, says):
    assert run("--save", str(tmp_path / name)) == 2
    assert says in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_picture_that_cannot_be_written_is_refused_before_the_work(capsys, tmp_path):
    assert run("--output", str(tmp_path / "no" / "x.png")) == 2
    assert "does not exist" in capsys.readouterr().err
    assert run("--output", str(tmp_path / "x.bmp")) == 2
    assert not list(tmp_path.iterdir())
