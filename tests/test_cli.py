"""The command line as a user types it: exit codes, one-line errors, JSON, settings, files."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys

import pytest
import torch
from safetensors.numpy import load_file, save_file

import twinlens as tl
from tests.conftest import SAMPLES, STORY, random_model
from twinlens import cli
from twinlens.cli.examples import EXAMPLES


def test_look_shows_both_and_writes_the_picture(run, tmp_path):
    pytest.importorskip("matplotlib")
    code, output, messages = run(
        "look", STORY, "--model", "MODEL", "--subject", "Lily", *SAMPLES, "-o", "out.png"
    )
    assert code == 0
    assert "logit lens" in output
    assert "causal trace: block" in output
    assert "wrote out.png" in messages
    assert (tmp_path / "out.png").read_bytes().startswith(b"\x89PNG")


def test_look_alone_looks_at_the_story_that_comes_with_the_package(run, tmp_path):
    pytest.importorskip("matplotlib")
    code, output, messages = run("look")
    assert code == 0
    assert "causal trace: block" in output
    assert "wrote hamlet.png" in messages
    assert (tmp_path / "hamlet.png").read_bytes().startswith(b"\x89PNG")


def test_what_is_set_stays_where_the_story_is_looked_at(run, tmp_path):
    code, output, _ = run("look", "-k", "mlp", "-s", "Pepper", "-f", "-1", *SAMPLES, "--json")
    assert code == 0
    trace = json.loads(output)["trace"]
    assert trace["kind"] == "mlp"
    assert trace["settings"]["corruption"] == "noise"
    assert trace["focus"] == len(trace["tokens"]["ids"]) - 1
    assert not list(tmp_path.iterdir()), "a script did not ask for a picture"


def test_json_is_the_whole_result_and_nothing_else(run, folder):
    code, output, _ = run(
        "look", STORY, "-m", "MODEL", "-s", "Lily", "--kind", "mlp", *SAMPLES, "--json"
    )
    assert code == 0
    made = json.loads(output)
    trace = tl.causal_trace(
        tl.load(folder), STORY, "Lily", kind="mlp", corruption=tl.Noise(samples=2)
    )
    assert made["trace"]["scores"] == trace.to_dict()["scores"]
    assert set(made) == {"lens", "trace"}


def test_quiet_prints_nothing(run):
    assert run("look", STORY, "-m", "MODEL", "-q") == (0, "", "")


def test_an_interrupt_is_said_in_one_line(run, monkeypatch):
    def interrupted(*_args, **_options):
        raise KeyboardInterrupt

    monkeypatch.setattr("twinlens.cli.look.load_model", interrupted)
    assert run("look", STORY, "-m", "MODEL") == (
        130, "", "twinlens: interrupted; files appear whole or not at all\n",
    )  # fmt: skip


@pytest.mark.parametrize("arguments", [["--json"], []])
def test_a_console_without_unicode_is_no_error(folder, arguments):
    command = [sys.executable, "-m", "twinlens", "look", STORY, "-m", str(folder), *arguments]
    settings = os.environ | {"PYTHONIOENCODING": "ascii", "COLUMNS": "200"}
    done = subprocess.run(command, capture_output=True, env=settings)
    assert done.returncode == 0, done.stderr
    assert done.stdout.isascii()


def test_every_option_of_the_trace_reaches_it(run):
    code, output, _ = run(
        "look", STORY, "-m", "MODEL", "--subject-tokens", "2:4", "--focus", "-3",
        "--answer", "#5", "--metric", "logit_difference", "--foil", "#6", "--window", 2,
        "--direction", "noise", "--seed", 7, "--rule", "t", "--df", 5, "--times-std", 2,
        "--noise-replaces", *SAMPLES, "--kind", "attn", "--json",
    )  # fmt: skip
    assert code == 0
    trace = json.loads(output)["trace"]
    asked = {"answer": 5, "foil": 6, "metric": "logit_difference", "window": 2, "kind": "attn"}
    asked |= {"direction": "noise", "seed": 7, "rule": "t", "samples": 2}
    asked |= {"df": 5.0, "times_std": 2.0, "replace": True}
    assert asked.items() <= trace["settings"].items()
    assert trace["focus"] == len(trace["tokens"]["ids"]) - 3
    assert [i for i, is_subject in enumerate(trace["subject_mask"]) if is_subject] == [2, 3]


def test_settings_come_from_a_file_and_the_command_line_wins(run, folder, tmp_path):
    (tmp_path / "s.toml").write_text(
        f'[look]\nmodel = "{folder}"\nsubject = ["Lily"]\nfocus = "-2"\nsamples = 3\nseed = 9\n'
    )
    code, output, _ = run("look", STORY, "--settings", "s.toml", "--seed", 4, "--json")
    assert code == 0
    trace = json.loads(output)["trace"]
    assert trace["focus"] == len(trace["tokens"]["ids"]) - 2
    assert (trace["settings"]["samples"], trace["settings"]["seed"]) == (3, 4)


def test_an_idle_option_is_a_default_in_a_file_and_a_slip_when_typed(run, folder, tmp_path):
    (tmp_path / "s.toml").write_text(f'[look]\nmodel = "{folder}"\ncolumns = 3\nsamples = 3\n')
    assert run("look", STORY, "--settings", "s.toml")[0] == 0
    for given in (["--columns=3"], ["--samples", 3]):
        code, _, error = run("look", STORY, "--settings", "s.toml", *given)
        assert code == 2
        assert f"{given[0].partition('=')[0]} is about" in error


def test_check_proves_a_model(run):
    code, output, _ = run("check", "MODEL")
    assert code == 0
    assert "every check holds" in output
    code, output, _ = run("check", "MODEL", "--json")
    report = json.loads(output)
    assert report["passed"] is True
    assert all(check["error"] <= check["tolerance"] for check in report["checks"])


def test_check_of_a_broken_model_ends_with_one(run, folder, tmp_path, tokenizer):
    model = random_model("llama", tokenizer)
    with torch.no_grad():
        model.model.norm.weight.fill_(float("nan"))
    model.save_pretrained(tmp_path / "nan")
    tokenizer.save_pretrained(tmp_path / "nan")
    code, output, _ = run("check", tmp_path / "nan")
    assert code == 1
    assert "FAILED" in output
    code, output, _ = run("check", tmp_path / "nan", "--json")
    assert code == 1
    assert None in [check["error"] for check in json.loads(output, parse_constant=str)["checks"]]
    code, _, messages = run("look", STORY, "-m", tmp_path / "nan", "-s", "Lily")
    assert code == 2
    assert "is refused: the check" in messages


WRONG = [
    (["loook", STORY], "loook"),
    (["look", STORY, "-m", "no/such/model"], "neither an existing directory nor a hub id"),
    (["look", "-m", "MODEL"], "a PROMPT is missing"),
    (["look", STORY, "-m", "MODEL", "-s", "Lly"], "near it: 'Lily'"),
    (["look", STORY, "-m", "MODEL", "-s", ""], "empty"),
    (["look", "", "-m", "MODEL"], "empty"),
    (["look", STORY, "-m", "MODEL", "--kind", "soul"], "soul"),
    (["look", STORY, "-m", "MODEL", "-s", "Lily", "--focus", "99"], "outside the prompt"),
    (["look", STORY, "-m", "MODEL", "-s", "Lily", "--window", "x"], "x"),
    (["look", STORY, "-m", "MODEL", "-s", "Lily", "--answer", "#x"], "no token id"),
    (["look", STORY, "-m", "MODEL", "--subject-tokens", "2-4"], "START:STOP"),
    (["look", STORY, "-m", "MODEL", "--lens-target", " Constantinople"], "expected one"),
    (["look", STORY, "-m", "MODEL", "-o", "x.bmp"], ".png, .svg, .pdf"),
    (["look", STORY, "-m", "MODEL", "-o", "no/x.png"], "does not exist"),
    (["look", STORY, "-m", "MODEL", "--crop", "5:2", "-o", "x.png"], "--crop (5, 2)"),
    (["look", STORY, "-m", "MODEL", "--speed", "3"], "--speed"),
    (["look", STORY, "-m", "MODEL", "-s", "Lily", "--samples", "2.5"], "no whole number"),
    (["look", STORY, "-m", "MODEL", "-s", "Lily", "--sigma", "1e300"], "not finite"),
    (["look", STORY, "-m", "MODEL", "--replace", "Tom"], "--replace is about the trace"),
    (["look", STORY, "-m", "MODEL", "--focus", "3"], "--focus is about the trace"),
    (["look", STORY, "-m", "MODEL", "--columns", "0"], "--columns 0"),
    (["look", STORY, "-m", "MODEL", "-o", "empty"], ".png, .svg, .pdf"),
    (["look", STORY, "-m", "MODEL", "-o", "folder.png"], "it is a folder"),
    (["look", STORY, "-m", "MODEL", "--rows", "mlp", "--lens-metric", "entropy"], "not defined"),
    (["draw", "empty"], "is a folder"),
    (["look", STORY, "--settings", "none.toml"], "does not exist"),
    (["look", STORY, "--settings", "bad.toml"], "cannot be read"),
    (["look", STORY, "--settings", "strange.toml"], "expected a table for a command"),
    (["look", STORY, "--settings", "unknown.toml", "-m", "MODEL"], "speed"),
    (["draw", "nothing.safetensors"], "does not exist"),
    (["draw", "bad.toml"], "damaged or no twinlens result"),
    (["draw"], "FILES"),
    (["check", "empty"], "config.json"),
    (["check", "MODEL", "--device", "cpu", "--device-map", "auto"], "were both given"),
    (["check", "hamelt"], "did you mean 'hamlet'"),
    (["check", ""], "the name of the model is empty"),
    (["look", STORY, "-m", "hamlet", "--revision", "main"], "--revision is about a hub id"),
    (["look", "The", "Silent", "Tower"], "'Silent Tower' has no place here; put a text"),
    (["look", STORY, "-s"], " needs a value; `twinlens look --help`"),
    (["look", STORY, "-s", "Lily", "--sigma", "x"], "--sigma: 'x' is no number"),
    (["look", STORY, "-s", "Lily", "--replace", "Tom", "--seed", "3"], "--seed is about noise"),
    (["look", STORY, "-s", "Lily", "--df", "5"], "--df is about --rule t"),
    (["look", STORY, "-s", "Lily", "--sigma", "1", "--times-std", "2"], "not both"),
    (["look", STORY, "-m", "nowhere/x", "--lens", "none.safetensors"], "none.safetensors does not"),
    (["look", STORY, "-m", "nowhere/x", "-s", "Lily", "--samples", "0"], "--samples 0"),
    (
        ["look", STORY, "-m", "nowhere/x", "--ablate", "1.MLP", "--ablate-to", "mean",
         "--ablate-text", "none.txt"], "the text none.txt does not exist",
    ),
    (["recur", STORY, "-w", "Lily", "--crop", "x"], "START:STOP"),
    (["neuron", "MODEL", "1.7", "--top-k", "99999"], "--top-k 99999 must be from 1 to"),
    (["serve", "a=hamlet", "a=hamlet", "--port", "0"], "two models are called 'a'"),
]  # fmt: skip


@pytest.mark.parametrize(("arguments", "says"), WRONG, ids=[" ".join(a) for a, _ in WRONG])
def test_wrong_input_is_one_line_and_leaves_nothing_behind(run, tmp_path, arguments, says):
    (tmp_path / "bad.toml").write_text("[look\n")
    (tmp_path / "strange.toml").write_text("prompt = 3\n")
    (tmp_path / "unknown.toml").write_text("[look]\nspeed = 3\n")
    (tmp_path / "empty").mkdir()
    (tmp_path / "folder.png").mkdir()
    before = sorted(tmp_path.rglob("*"))
    code, output, messages = run(*arguments)
    assert code == 2
    assert output == ""
    assert messages.startswith("twinlens: ")
    assert messages.count("\n") == 1
    assert says.lower() in messages.lower()
    assert sorted(tmp_path.rglob("*")) == before


def test_every_command_has_an_example_and_each_can_be_parsed():
    def leaves(node, chain=()):
        names = [n for n in node if not n.startswith("-")]
        return [leaf for n in names for leaf in leaves(node[n], (*chain, n))] or [" ".join(chain)]

    assert sorted(leaves(cli.app)) == sorted(EXAMPLES)
    for chain, lines in EXAMPLES.items():
        for line in lines:
            program, *arguments = shlex.split(line)
            assert program == "twinlens"
            assert arguments[: len(chain.split())] == chain.split()
            cli.app.parse_args(arguments, exit_on_error=False, print_error=False)


@pytest.mark.skipif(not hasattr(cli.app, "help_epilogue"), reason="needs cyclopts 4.1")
def test_the_help_shows_the_example(run):
    assert "twinlens recur" in run("recur", "--help")[1].partition("Example:")[2]


def test_truncated_weights_are_refused_in_one_line(run, folder, tmp_path):
    broken = tmp_path / "broken"
    broken.mkdir()
    for file in folder.iterdir():
        (broken / file.name).write_bytes(file.read_bytes())
    weights = broken / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])
    code, _, messages = run("look", STORY, "-m", broken)
    assert code == 2
    assert messages.count("\n") == 1


def test_missing_weights_are_refused_in_one_line(run, folder, tmp_path):
    broken = tmp_path / "broken"
    broken.mkdir()
    for file in folder.iterdir():
        (broken / file.name).write_bytes(file.read_bytes())
    arrays = load_file(broken / "model.safetensors")
    arrays.pop(next(name for name in arrays if "mlp" in name))
    save_file(arrays, broken / "model.safetensors", metadata={"format": "pt"})
    code, _, messages = run("look", STORY, "-m", broken)
    assert code == 2
    assert "mlp" in messages
