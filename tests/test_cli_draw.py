"""What is kept of a look and drawn again without the model: other runs' lenses, several traces."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest

import twinlens as tl
from tests.conftest import SAMPLES, STORY


def test_saved_results_are_drawn_without_the_model(run, tmp_path):
    pytest.importorskip("matplotlib")
    saved = run("look", STORY, "-m", "MODEL", "-s", "Lily", *SAMPLES, "--save", "kept", "-q")
    assert saved[0] == 0
    kept = sorted(tmp_path.glob("kept/*.safetensors"))
    assert [p.stem for p in kept] == ["lens", "trace"]
    code, output, _ = run("draw", *kept, "-o", "x.svg")
    assert code == 0
    assert "causal trace" in output
    assert (tmp_path / "x.svg").exists()
    for idle, says in ((("--reduce", "max"), "neurons"), (("--transpose",), "picture")):
        code, output, messages = run("draw", *kept, *idle)
        assert (code, output) == (2, "")
        assert f"{idle[0]} is about" in messages
        assert says in messages


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (OSError(28, "No space left on device"), "twinlens: No space left on device"),
        (ValueError("a shape"), "twinlens: b is damaged: a shape"),
    ],
)
def test_what_the_system_refuses_is_no_damage_of_what_is_drawn(run, monkeypatch, error, says):
    def opened(file):
        return SimpleNamespace(kind_of_result="lens", file=str(file))

    def failing(results, *_args):
        if [result.file for result in results] == ["b"]:
            raise error

    monkeypatch.setattr("twinlens.results.open_result", opened)
    monkeypatch.setattr("twinlens.cli.draw.view_of", failing)
    assert run("draw", "a", "b") == (2, "", says + "\n")


def test_two_results_of_a_kind_are_both_kept(run, tmp_path):
    for kind in ("block", "mlp"):
        run("look", STORY, "-m", "MODEL", "-s", "Lily", *SAMPLES, "-k", kind, "--save", kind, "-q")
    files = [f"{kind}/trace.safetensors" for kind in ("block", "mlp")]
    code, output, _ = run("draw", *files, "--save", "both", "--json")
    assert code == 0
    assert list(json.loads(output)) == ["trace", "trace-2"]
    kept = [tl.open_result(tmp_path / "both" / f"{n}.safetensors") for n in ("trace", "trace-2")]
    assert [trace.settings["kind"] for trace in kept] == ["block", "mlp"]


def test_lenses_of_other_runs_are_shown_and_kept(run, tmp_path):
    asked = ["look", STORY, "-m", "MODEL", "-s", "Lily", *SAMPLES, "--corrupted-lens"]
    code, output, _ = run(*asked, "--restored-lens", "1:4", "--save", "kept")
    assert code == 0
    for name in ("logit lens, corrupted run", "logit lens, restored block 1 at token 4"):
        assert name in output
    kept = [tl.open_result(tmp_path / "kept" / f"lens-{n}.safetensors") for n in (2, 3)]
    assert [lens.settings["run"] for lens in kept] == ["corrupted", "restored block 1 at token 4"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("-s", "Lily", "--restored-lens", "4"), "expected LAYER:TOKEN"),
        (("-s", "Lily", "--restored-lens", "9:4"), "layer '9' is not one of embed, 0"),
        (("-s", "Lily", "-k", "head", "--restored-lens", "1:4"), "expected (layer, token, head)"),
        (("--corrupted-lens",), "--corrupted-lens is about the trace"),
    ],
)
def test_lenses_of_runs_that_are_not_there(run, arguments, says):
    code, output, messages = run("look", STORY, "-m", "MODEL", *arguments)
    assert (code, output) == (2, "")
    assert says in " ".join(messages.split())
