"""A tournament goes on where it stopped, and is never mixed with another."""

from __future__ import annotations

import dataclasses
import json

import pytest

from tests.contest.small import fewer, small_tournament
from twinlens.contest import tournament as module
from twinlens.contest.cell import LIGHT, Entrant
from twinlens.contest.tournament import (
    Tournament,
    read_about,
    read_cells,
    run_tournament,
    tournament_of,
)
from twinlens.errors import InputError, RunFolderError, SettingsError


@pytest.fixture(scope="module", autouse=True)
def few(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patched:
        fewer(patched, tmp_path_factory.mktemp("cache"))
        yield


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> Tournament:
    return small_tournament(tmp_path_factory.mktemp("text"), "noise", "noise+recover")


@pytest.fixture(scope="module")
def done(small, gpt2, tmp_path_factory, few):
    path, before = tmp_path_factory.mktemp("tournament") / "t", gpt2.weights_hash()
    cells = []
    assert run_tournament(gpt2, small, path, told=cells.append) == path
    assert [one["recipe"] for one in cells] == ["noise", "noise+recover"]
    assert gpt2.weights_hash() == before
    return path


def test_each_cell_is_a_file_with_the_verdict(done):
    cells = read_cells(done)
    assert [(one["tier"], one["seed"], one["recipe"]) for one in cells] == [
        ("full", 1, "noise"), ("full", 1, "noise+recover"),
    ]  # fmt: skip
    check = json.loads((done / "implants/full-1.json").read_text())["check"]
    for one in cells:
        assert one["verdict"] in ("deleted", "suppressed", "surviving", "broken", "cannot tell")
        assert one["counts"] is check["passed"]
        assert one["blind"]
        assert set(one["seconds"]) == {"clean", "judge"}
    assert read_about(done)["tiers"] == ["full"]


def test_a_cell_that_is_gone_is_played_again_and_no_other(done, small, gpt2, monkeypatch):
    path = done / "cells/full-1-noise.json"
    before = {one["recipe"]: one for one in read_cells(done)}
    path.unlink()
    assert [one["recipe"] for one in read_cells(done)] == ["noise+recover"]
    cells = []
    with monkeypatch.context() as patched:
        patched.setattr(module, "played", lambda *_, **__: before["noise"] | {"verdict": "again"})
        run_tournament(gpt2, small, done, told=cells.append)
    assert [(one["recipe"], one["verdict"]) for one in cells] == [("noise", "again")]
    after = {one["recipe"]: one for one in read_cells(done)}
    assert after["noise+recover"] == before["noise+recover"]
    assert after["noise"]["verdict"] == "again"


def test_what_is_done_is_not_played_again(done, small, gpt2, monkeypatch):
    monkeypatch.setattr(module, "implant", None)
    run_tournament(gpt2, small, done)


@pytest.mark.parametrize(
    ("other", "word"),
    [({"steps": 3}, "steps"), ({"rules": LIGHT}, "rules"), ({"text": "hamlet"}, "text")],
)
def test_a_tournament_with_other_settings_does_not_go_on(done, small, gpt2, other, word):
    with pytest.raises(RunFolderError, match=f"begun with another {word}"):
        run_tournament(gpt2, dataclasses.replace(small, **other), done)


def test_another_base_is_refused(done, small, make_model):
    with pytest.raises(RunFolderError, match="another base"):
        run_tournament(make_model("gpt_neox"), small, done)


def test_more_seeds_may_join(small):
    more = dataclasses.replace(small, seeds=2, tiers=("full", "late"))
    assert more.units == [("full", 1), ("late", 1), ("full", 2), ("late", 2)]
    assert more.cells == 8


def test_two_of_one_name_and_what_is_not_known_are_refused():
    one = Entrant(name="noise", recipe="noise")
    with pytest.raises(SettingsError, match="one name"):
        Tournament(entrants=(one, one))
    with pytest.raises(SettingsError, match="one name"):
        Tournament(tiers=("full", "full"))
    with pytest.raises(SettingsError, match="tier='x' is not known"):
        Tournament(tiers=("x",))
    with pytest.raises(SettingsError, match="at least"):
        Tournament(entrants=())
    with pytest.raises(InputError, match="recipe='x' is not known"):
        Entrant(name="a", recipe="x")


def test_a_file_says_what_is_played(tmp_path):
    path = tmp_path / "t.toml"
    path.write_text("""
        tiers = ["full"]
        recipes = ["none"]
        [budget]
        steps = 7
        [rules]
        controls = 50
        [[recipe]]
        name = "longer"
        recipe = "fine-tune"
        budget = {steps = 9}
        [[recipe]]
        recipe = "oracle"
    """)
    made = tournament_of(path)
    assert made.tiers == ("full",)
    assert [(one.name, one.recipe, one.budget.steps) for one in made.entrants] == [
        ("none", "none", 7), ("longer", "fine-tune", 9), ("oracle", "oracle", 7),
    ]  # fmt: skip
    assert made.rules == dataclasses.replace(LIGHT, controls=50)
    assert [one.blind for one in made.entrants] == [True, True, False]


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("tiers = [", "cannot be read"),
        ("speed = 3", "'speed' is not known; expected budget, "),
        ('tiers = ["x"]', "tier='x' is not known"),
        ('recipes = ["x"]', "recipe='x' is not known"),
        ('recipes = ["none", "none"]', "one name"),
        ("[rules]\ncontrols = 1", "controls"),
        ('recipes = ["none"]\n[budget]\nsteps = 0', "steps"),
        ("seeds = 1.5", "seeds"),
    ],
)
def test_what_does_not_fit_is_told_with_its_place(tmp_path, text, word):
    path = tmp_path / "t.toml"
    path.write_text(text)
    with pytest.raises(SettingsError, match=word) as caught:
        tournament_of(path)
    assert str(path) in str(caught.value)
    with pytest.raises(SettingsError, match="does not exist"):
        tournament_of(tmp_path / "none.toml")
