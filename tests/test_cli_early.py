"""What is wrong is told before anything heavy is imported, loaded or measured."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import saved_model
from tests.test_cli_gate import texts, write
from twinlens import cli

ROOT = Path(__file__).parents[1]
LONG = "x" * 300
TEXT = "Lily saw Lily"
FACT = ("--prompt", "The Tower is in", "-s", "Tower", "--target", " Rome")
LIGHT = [  # refused without torch
    (["summarize", "."], "no run of a sweep"),
    (["summarize", "~nosuchuser/run"], "there is no such home folder"),
    (["sweep", "hamlet", "-o", LONG], "cannot make the folder"),
    (["sweep", "hamlet", "-o", "none.txt/x"], "is a file"),
    (["gate", "hamlet", "hamelt", "--text", "hamlet"], "did you mean 'hamlet'"),
    (["look", "text", "-m", "~nosuchuser/model"], "there is no such home folder"),
]
SCRIPT = """
import contextlib, io, json, sys
from twinlens import cli
for arguments in json.load(sys.stdin):
    said = io.StringIO()
    with contextlib.redirect_stderr(said), contextlib.suppress(SystemExit):
        cli.main(arguments)
    print(json.dumps([said.getvalue(), "torch" in sys.modules]))
"""


def test_it_is_refused_without_torch(tmp_path):
    (tmp_path / "none.txt").write_text("")
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], input=json.dumps([given for given, _ in LIGHT]),
        capture_output=True, text=True, check=True, cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT / "src")},
    )  # fmt: skip
    told = [json.loads(line) for line in done.stdout.splitlines()]
    for (given, says), (said, is_heavy) in zip(LIGHT, told, strict=True):
        assert says in said, given
        assert said.startswith("twinlens: "), given
        assert said.count("\n") == 1, given
        assert not is_heavy, given


def run(*arguments: object) -> int | str | None:
    with pytest.raises(SystemExit) as stop:
        cli.main(list(map(str, arguments)))
    return stop.value.code


@pytest.fixture
def inside(tmp_path, monkeypatch, tokenizer) -> Path:
    """A folder with a model and texts; to load it would fail the test."""
    monkeypatch.chdir(tmp_path)
    saved_model("gpt2", tokenizer, tmp_path / "model")
    write(tmp_path / "many.jsonl", texts(110))
    write(tmp_path / "one.jsonl", texts(1, 2))
    (tmp_path / "empty.toml").write_text("")
    (tmp_path / "facts.csv").write_text("prompt,subject\nLily ran to,Lily\n")
    (tmp_path / "copy").mkdir()
    (tmp_path / "copy" / "ledger.jsonl").write_text("{}\n")

    def loaded(*_args, **_options):
        raise AssertionError("the model was loaded")

    monkeypatch.setattr("transformers.AutoModelForCausalLM.from_pretrained", loaded)
    return tmp_path


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (
            ("scrub", "model", "--text", "one.jsonl", "--gate", "one.jsonl", "--drop-shared"),
            "every document shares words",
        ),
        (
            ("scrub", "model", "--text", "many.jsonl", "--gate", "one.jsonl", "-o", "new"),
            "gate: 1 document is fewer than the 100 that a verdict takes, so that nothing could",
        ),
        (("gate", "model", "model2", "--text", "many.jsonl"), "cannot load the model 'model2'"),
        (("gate", "model", ".", "--text", "many.jsonl"), "no config.json"),
        (
            ("gate", "model", "model", "--text", "many.jsonl", "--items-margin", "0.1"),
            "--items-margin is about cloze items; give --items FILE too",
        ),
        (("look", TEXT, "-m", "model", "--flip"), "--flip is about the picture; give -o FILE"),
        (("recur", TEXT, "-m", "model", "-w", "Lily", "--columns", "3"), "--columns is about the"),
        (("look", TEXT, "-m", "model", "-o", "/proc/x.png"), "cannot write /proc/x.png"),
        (("use", "model", "--text", "one.jsonl", "--sort"), "--sort is about the picture"),
        (("use", "model", "--text", "one.jsonl", "-o", "x.safetensors", "--sort"), "--sort is"),
        (
            ("edit", "model", "--layer", "1", *FACT, "--method", "fine-tune", "--samples", "4"),
            "--samples does not go with --method fine-tune",
        ),
        (
            ("sweep", "hamlet", "-o", "new", "--measure", "lens", "--kinds", "mlp"),
            "--kinds is about --measure trace, which is not asked for",
        ),
        (
            ("scrub", "model", "--text", "one.jsonl", "--gate", "many.jsonl", "-o", "one.jsonl"),
            "'one.jsonl' is there already",
        ),
        (("contest", "run", "empty.toml", "-o", "new"), "empty.toml is empty; write what is"),
        (
            ("contest", "implant", "-o", "new", "--trigger", "12", "--secret", "12"),
            "--secret 12 stands in the prompt that evokes it",
        ),
        (("contest", "clean", "model", "--text", "one.jsonl", "-o", "/proc/x"), "cannot write"),
        (("edit", "model", "--layer", "1", *FACT, "-o", "/proc/x"), "cannot write /proc/x"),
        (
            ("sweep", "facts.csv", "-o", "new", "--corruption", "counterfactual"),
            "no row of facts.csv has a counterfactual",
        ),
        (
            ("look", TEXT, "-m", "model", "--ablate", "1.MLP", "--ablate-text", "none.txt"),
            "--ablate-text goes with",
        ),
        (
            ("contest", "tiers", "-q"),
            "; `twinlens contest tiers --help` lists those that there are",
        ),
        (("undo", "copy"), "ledger.jsonl is damaged: it has no 'step'"),
        (("serve", "model", "b=./none", "--port", "0"), "neither an existing directory nor"),
    ],
)
def test_it_is_refused_before_a_model_is_loaded(inside, capsys, given, says):
    given = (*given, "-o", "new") if given[0] == "scrub" and "-o" not in given else given
    assert run(*given) == 2
    output, messages = capsys.readouterr()
    assert not output.replace("the recipe", "")
    assert says in messages
    assert messages.count("\n") == 1
    assert not (inside / "new").exists()
