"""`twinlens shrink` as a user types it."""

from __future__ import annotations

import json
import re

import pytest

import twinlens as tl
from twinlens import cli

FAST = ("--pairs", 1, "--limit", 100)


def run(*arguments: object) -> int | str | None:
    with pytest.raises(SystemExit) as stop:
        cli.main(["shrink", *map(str, arguments)])
    return stop.value.code


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """hamlet with 700 neurons left in layer 4 and 600 in each other."""
    path = tmp_path_factory.mktemp("models") / "silenced"
    model = tl.load("hamlet")
    left = {layer: 700 if layer == 4 else 600 for layer in range(6)}
    names = [f"{layer}.N{number}" for layer in left for number in range(left[layer], 768)]
    with tl.changed(model, tl.Silence(names)):
        model.hf.save_pretrained(path)
    model.tokenizer.save_pretrained(path)
    return path


def test_widths_parameters_logits_and_speed_are_told(capsys, folder, tmp_path):
    assert run(folder, "-o", tmp_path / "new", *FAST) == 0
    output, messages = capsys.readouterr()
    new = tl.load(tmp_path / "new")
    size = sum(parameter.numel() for parameter in new.hf.parameters())
    assert new.config.n_inner == 700
    assert re.search(r"a layer +768 +700\b", output)
    assert f"{size:,}" in output
    assert "speed: " in output
    assert "500 neurons that write nothing were kept: the most are left in layer 4" in output
    assert "wrote" in messages


def test_json_has_the_same(capsys, folder, tmp_path):
    assert run(folder, "-o", tmp_path / "new", "--multiple", 64, "--json", *FAST) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["width"] == [768, 704]
    assert found["alive"] == [600, 600, 600, 600, 700, 600]
    assert found["logits"]["difference"] < 1e-5 * found["logits"]["largest"]
    assert found["speed"]["ratio"] > 0


def test_nothing_to_remove_is_said(capsys, tmp_path):
    assert run("hamlet", "-o", tmp_path / "new", *FAST) == 0
    assert "nothing was removed" in capsys.readouterr().out


def test_a_folder_that_is_there_is_refused_before_the_model_is_loaded(capsys, tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    assert run("no/model", "-o", tmp_path) == 2
    assert "is there already" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (("--pairs", "0"), "--pairs 0 must be at least 1"),
        (("--limit", "0"), "--limit 0 must be at least 1"),
        (("--text", "none.txt"), "none.txt does not exist"),
    ],
)
def test_nothing_is_written_where_it_could_not_be_compared(capsys, tmp_path, wrong, says):
    assert run("hamlet", "-o", tmp_path / "new", *wrong) == 2
    assert says in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
