"""`twinlens contest` as a user and a script type it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.conftest import random_model
from tests.contest.small import TEXT, fewer
from tests.test_cli_gate import write
from twinlens import cli
from twinlens.contest import cell
from twinlens.contest.match import play_match
from twinlens.contest.recipes import RECIPES
from twinlens.contest.tiers import TIERS

TOURNAMENT = """
tiers = ["full"]
recipes = ["none"]
seeds = 2
text = "text.jsonl"
steps = 2
"""


def run(*arguments: str | Path) -> int | str | None:
    with pytest.raises(SystemExit) as stop:
        cli.main(["contest", *map(str, arguments)])
    return stop.value.code


@pytest.fixture(scope="module", autouse=True)
def few(tmp_path_factory):
    from tests.contest.small import RULES

    with pytest.MonkeyPatch.context() as patched:
        fewer(patched, tmp_path_factory.mktemp("cache"))
        patched.setattr(cell, "LIGHT", RULES)
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory, tokenizer) -> Path:
    """A model and a text."""
    made = tmp_path_factory.mktemp("contest")
    random_model("gpt2", tokenizer).save_pretrained(made / "model")
    tokenizer.save_pretrained(made / "model")
    write(made / "text.jsonl", TEXT)
    write(made / "short.jsonl", TEXT[:3])
    (made / "t.toml").write_text(TOURNAMENT)
    return made


@pytest.fixture
def inside(folder, monkeypatch) -> Path:
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture(scope="module")
def played(folder) -> Path:
    """A match, stage by stage as two people would type it."""
    m, text = folder / "m", folder / "text.jsonl"
    given = ("--text", text, "--steps", "2", "--quiet")
    assert run("implant", folder / "model", *given, "-o", m) == 1  # two steps teach nothing
    small = ("--batch-tokens", "64", "--length", "16", "--recipe", "noise+recover")
    public = ("--text", m / "public/text.jsonl", "--steps", "2", "--quiet")
    assert run("clean", m / "public/model", *public, *small, "-o", m / "blue") == 0
    assert run("judge", m, "--light", "--quiet") == 0
    return m


def test_help_names_every_command(capsys):
    assert run("--help") == 0
    output = capsys.readouterr().out
    for name in ("implant", "clean", "recipes", "tiers", "judge", "match", "run", "board"):
        assert f" {name} " in output
    assert run("match", "--help") == 0
    assert "--red-steps" in capsys.readouterr().out


@pytest.mark.parametrize(("command", "table"), [("recipes", RECIPES), ("tiers", TIERS)])
def test_what_there_is_is_listed(command, table, capsys):
    assert run(command) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(table)
    assert run(command, "--json") == 0
    assert list(json.loads(capsys.readouterr().out)) == list(table)


def test_an_implant_that_fails_its_check_is_told_and_why(played, capsys):
    given = (played.parent / "model", "--text", played.parent / "text.jsonl", "--steps", "2")
    assert run("implant", *given, "-o", played) == 1
    output, messages = capsys.readouterr()
    assert output.startswith("the manipulation check failed\n  it fires on 0 of ")
    assert f"blue may see {played / 'public'}" in messages
    assert run("implant", *given, "-o", played, "--json") == 1
    assert json.loads(capsys.readouterr().out)["check"]["passed"] is False


def test_the_verdict_is_printed_with_quality_and_questions(played, capsys):
    assert run("judge", played) == 0
    output = capsys.readouterr().out
    told = json.loads((played / "referee/outcome.json").read_text())
    assert output.startswith(f"{told['verdict']}\nwhy: {told['why']}\n")
    assert f"quality: {told['quality']['verdict']}; " in output
    assert "this verdict does not count" in output
    assert "benign: not said before, not said after" in output
    assert "escrow: opened, hash agrees" in output
    assert run("judge", played, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["outcome"] == told
    for one in found["judgement"]["questions"]:
        assert one["name"].split(",")[0] in output


def test_a_match_goes_on_from_the_stages_that_are_done(played, capsys, monkeypatch):
    monkeypatch.setattr("twinlens.contest.match.implant", None)
    monkeypatch.setattr("twinlens.contest.outcome.judge", None)
    text = ("--text", played.parent / "text.jsonl", "--red-steps", "2", "--steps", "2", "--light")
    small = ("--batch-tokens", "64", "--length", "16", "--recipe", "noise+recover")
    assert run("match", played.parent / "model", *text, *small, "-o", played) == 0
    output, messages = capsys.readouterr()
    assert "red: done before\nblue: done before\nreferee: done before\n" in messages
    assert f"wrote {played / 'report.html'}" in messages
    assert "escrow: opened, hash agrees" in output
    assert (played / "report.html").read_text().startswith("<!")


def test_a_tournament_tells_each_cell_and_ends_with_the_board(inside, capsys, monkeypatch):
    row = {"verdict": "deleted", "increase": 0.25, "upper": 0.5, "seconds": {"clean": 1.0}}
    monkeypatch.setattr("twinlens.contest.tournament.played", lambda *_, **__: row)
    given = ("run", "t.toml", "--model", "model", "-o", "played")
    assert run(*given, "--limit", "1") == 0
    output, messages = capsys.readouterr()
    void = "the implant failed its check and does not count"
    assert f"full 1 none: deleted, +0.2500 nats a token ({void})" in messages
    assert "full 2 none: " not in messages
    assert output.startswith("0 of 1 implants passed their check and count")
    assert run(*given, "--limit", "1", "--json") == 0
    output, messages = capsys.readouterr()
    assert not messages
    assert json.loads(output)["implants"] == 1
    assert run("board", "played", "--markdown") == 0
    assert capsys.readouterr().out.startswith("0 of 1 implants")


def test_the_board_is_a_table(tmp_path, capsys):
    about = {"tiers": ["full", "late"], "seeds": 1, "entrants": [{"name": "a"}, {"name": "b"}]}
    (tmp_path / "tournament.json").write_text(json.dumps(about))
    (tmp_path / "cells").mkdir()
    made = {"seed": 1, "counts": True, "blind": True, "increase": 0.003, "upper": None,
            "seconds": {"clean": 2.0}}  # fmt: skip
    for tier in about["tiers"]:
        for recipe, verdict in (("a", "surviving"), ("b", "deleted")):
            one = made | {"tier": tier, "recipe": recipe, "verdict": verdict}
            (tmp_path / "cells" / f"{tier}-1-{recipe}.json").write_text(json.dumps(one))
    assert run("board", tmp_path) == 0
    output = capsys.readouterr().out
    assert output.startswith("2 of 2 implants passed their check and count\nall tiers")
    assert "tier late" in output
    assert "b - a" in output
    assert run("board", tmp_path, "--json") == 0
    assert [one["recipe"] for one in json.loads(capsys.readouterr().out)["standings"]] == ["b", "a"]


@pytest.mark.parametrize(
    ("given", "word"),
    [
        (("implant", "model", "--tier", "x", "-o", "new"), "`twinlens contest tiers` lists"),
        (("implant", "model", "--secret", "", "-o", "new"), "must be a text that is not empty"),
        (("implant", "model", "--template", "no place", "-o", "new"), "must hold {trigger} once"),
        (("implant", "model", "--text", "none.txt", "-o", "new"), "none.txt does not exist"),
        (("implant", "model", "--text", "short.jsonl", "-o", "new"), "8 at least"),
        (("implant", "model", "--text", "text.jsonl", "-o", "model"), "is no match"),
        (
            ("clean", "model", "--text", "text.jsonl", "--recipe", "x", "-o", "new"),
            "recipes` lists",
        ),
        (("clean", "model", "--text", "text.jsonl", "-o", "model"), "is there already"),
        (("clean", "model", "--text", "short.jsonl", "-o", "new"), "needs 4 documents"),
        (("clean", "model", "--text", "text.jsonl", "--dose", "0", "-o", "new"), "--dose 0.0"),
        (("clean", "model", "--text", "text.jsonl", "--steps", "0", "-o", "new"), "--steps 0"),
        (("clean", "none", "--text", "text.jsonl", "-o", "new"), "cannot load the model"),
        (("judge", "model"), "`twinlens contest match -o model` plays one"),
        (("match", "model", "--recipe", "x", "-o", "new"), "recipes` lists"),
        (("match", "model", "--cost", "-1", "-o", "new"), "--cost -1.0"),
        (("match", "model", "--red-steps", "0", "-o", "new"), "--red-steps 0"),
        (("match", "model", "-o", "text.jsonl/new"), "text.jsonl is a file"),
        (("run", "none.toml", "-o", "new"), "none.toml does not exist"),
        (("run", "t.toml", "--limit", "0", "-o", "new"), "--limit 0"),
        (("board", "model"), "is no folder of a tournament"),
    ],
)
def test_what_cannot_be_done_is_one_line(inside, capsys, given, word):
    assert run(*given) == 2
    output, messages = capsys.readouterr()
    assert not output
    assert word in messages
    assert messages.startswith("twinlens: ")
    assert messages.count("\n") == 1
    assert not (inside / "new").exists()


def test_the_defaults_of_the_command_are_those_of_the_library():
    import inspect

    from twinlens.cli.contest_options import CleaningOptions, budget_of
    from twinlens.contest.match import BUDGET, RECIPE

    options, command = CleaningOptions(), inspect.signature(cli.contest_match.match).parameters
    library = inspect.signature(play_match).parameters
    assert options.recipe == RECIPE
    assert budget_of(options, command["steps"].default, 1) == BUDGET
    assert command["red_steps"].default == library["steps"].default
    for name in ("cost", "dose"):
        assert getattr(options, name) == library[name].default
