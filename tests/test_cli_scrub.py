"""`twinlens scrub` as a user and a script type it."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pytest

import twinlens as tl
from tests.conftest import random_model
from tests.test_cli_gate import write
from twinlens import cli
from twinlens.change import scrub as scrubbing

RECIPE = """
[[stage]]
do = "prune"
by = "use"
first = 0.01
least = 0.01
most = 0.02
[[stage]]
do = "noise"
scale = 0.0001
times = 2
[[stage]]
do = "noise"
scale = 3.0
"""


def texts(first: int, count: int) -> list[str]:
    """Short documents; none comes twice, nor shares all its words with another."""
    words = ("cat", "dog", "bird", "girl", "boy")
    return [f"The {words[n % 5]} {n} sat by {words[n // 5 % 5]} {7 * n}." for n in
            range(first, first + count)]  # fmt: skip


def run(*arguments: str | Path) -> int | str | None:
    with pytest.raises(SystemExit) as stop:
        cli.main(["scrub", *map(str, arguments)])
    return stop.value.code


@pytest.fixture(scope="module")
def folder(tmp_path_factory, tokenizer) -> Path:
    """A model, a recipe, and texts."""
    made = tmp_path_factory.mktemp("scrub")
    random_model("gpt2", tokenizer).save_pretrained(made / "model")
    tokenizer.save_pretrained(made / "model")
    (made / "recipe.toml").write_text(RECIPE)
    for name, first, count in (("text", 0, 20), ("gate", 1000, 135), ("final", 5000, 105)):
        write(made / f"{name}.jsonl", texts(first, count))
    write(made / "same.jsonl", texts(0, 20))
    return made


@pytest.fixture(scope="module")
def command(folder) -> list[str | Path]:
    given = [
        folder / "model",
        "--recipe",
        folder / "recipe.toml",
        "--final",
        folder / "final.jsonl",
    ]
    return [*given, "--text", folder / "text.jsonl", "--gate", folder / "gate.jsonl"]


@pytest.fixture(scope="module")
def done(folder, command) -> Path:
    """The folder of a scrub that went to its end."""
    assert run(*command, "-o", folder / "done", "--quiet") == 0
    return folder / "done"


def untimed(told: dict) -> dict:
    """What does not depend on the clock or the place."""
    for stage in told["stages"]:
        for proposal in stage["proposals"]:
            del proposal["seconds"]
    return {k: v for k, v in told.items() if k not in ("seconds", "folder", "report", "notes")}


def test_a_scrub_that_was_stopped_goes_on_to_the_same_end(
    done, folder, command, capsys, monkeypatch
):
    given, tell = (*command, "-o", folder / "stopped"), cli.scrub._teller

    def stopping(recipe):
        told = tell(recipe)

        def stop(entry):
            told(entry)
            raise KeyboardInterrupt

        return stop

    with monkeypatch.context() as context:
        context.setattr(cli.scrub, "_teller", stopping)
        assert run(*given) == 130
    messages = capsys.readouterr().err
    assert "stage 1, prune: 1.00% of the neurons (4): accepted; " in messages
    assert f"what was judged stays in {folder / 'stopped'}; the same command goes on" in messages
    partly = tl.scrub_report(folder / "stopped")
    assert "Not finished" in partly.html()
    assert not (folder / "stopped" / "report.html").exists()
    assert run(*given) == 0
    output, messages = capsys.readouterr()
    assert "1 proposals were judged already" in messages
    assert "stage 1, prune: 2.00% of the neurons (8): " in messages
    assert "stage 3, noise: draw 1: rejected: " in messages
    assert output.startswith("Passed: quality stayed within the margin\n")
    assert run(*given, "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert untimed(told) == untimed(tl.scrub_report(done).to_dict())
    assert Path(told["report"]).read_text() == tl.scrub_report(folder / "stopped").html()


def test_the_copy_loads_and_a_finished_folder_opens_again(done, command, folder, monkeypatch):
    opened = tl.open_scrub(done)
    assert opened.final is not None
    assert opened.final["verdict"] == "pass"
    assert opened.copy.model.weights_hash() == tl.load(done).weights_hash()
    assert len(opened.removed()) == len(set(opened.entries[1].change["parts"])) == 8
    monkeypatch.setattr(scrubbing._Scrub, "_try", None)  # nothing is judged again
    assert run(*command, "-o", done, "--quiet") == 0


@pytest.mark.parametrize(("final", "code"), [("pass", 0), ("fail", 1), ("cannot tell", 3)])
def test_the_exit_code_is_the_final_verdict(done, command, monkeypatch, final, code):
    run_of = tl.open_scrub(done)
    assert run_of.final is not None
    found = tl.ScrubRun(
        run_of.copy, run_of.recipe, run_of.entries, run_of.final | {"verdict": final}, {}
    )
    monkeypatch.setattr(scrubbing, "scrub", lambda *_, **__: found)
    assert run(*command, "-o", done, "--quiet") == code


def test_the_default_recipe_is_printed_and_is_one():
    from twinlens.change.recipe_text import DEFAULT, default_recipe, toml_of

    made = default_recipe()
    assert [type(stage).__name__ for stage in made.stages] == ["Prune", "Noise"]
    assert all(stage.recover for stage in made.stages)
    assert "seed = 1" in DEFAULT
    assert tl.recipe_of(tomllib.loads(toml_of(made))) == made


@pytest.mark.parametrize(
    ("wrong", "word"),
    [
        (("--recipe", "none.toml"), "none.toml does not exist"),
        (("--recipe", "bad.toml"), "stage 1: 'frist' is not known; known are by"),
        (("--gate", "same.jsonl"), "document 0 of 'gate' and 0 of 'chosen on --text'"),
        (("--final", "same.jsonl"), "or give --drop-shared"),
        (("-o", "model"), "is there already"),
        (("--margin", "0"), "must be a positive number"),
        (("--domain", "gate.jsonl"), "is no NAME=FILE"),
    ],
)
def test_what_cannot_be_done_is_one_line(folder, command, capsys, monkeypatch, wrong, word):
    monkeypatch.chdir(folder)
    (folder / "bad.toml").write_text(RECIPE.replace("first", "frist"))
    option, value = wrong
    given = list(command)
    if option in given:
        given[given.index(option) + 1] = value
    else:
        given += [option, value]
    assert run(*given, *(() if option == "-o" else ("-o", "new")), "--quiet") == 2
    output, messages = capsys.readouterr()
    assert not output
    assert word in messages
    assert messages.startswith("twinlens: ")
    assert messages.count("\n") == 1
    assert not (folder / "new").exists()


def test_another_scrub_does_not_go_on_in_the_folder(folder, done, command, capsys):
    given = [str(one) for one in command]
    given[given.index("--text") + 1] = str(folder / "gate.jsonl")
    given[given.index("--gate") + 1] = given.pop(given.index("--final") + 1)
    given.remove("--final")
    assert run(*given, "-o", done, "--quiet") == 2
    assert "was begun with another text" in capsys.readouterr().err
