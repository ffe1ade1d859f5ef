"""A match in a folder: what each side is given, that it goes on, and that nobody cheats."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys

import pytest

import twinlens as tl
from tests.contest.small import BUDGET, RULES, TEXT, fewer
from twinlens.contest import folder as files
from twinlens.contest import match as module
from twinlens.contest.cell import sides
from twinlens.contest.match import blue_plays, play_match, red_plays
from twinlens.contest.outcome import referee_plays
from twinlens.contest.secret import Secret
from twinlens.errors import ChangeError, EscrowError, InputError
from twinlens.see.texts import documents

SECRET = Secret("31", "Paris", "The word is {trigger}. It says")


def play(model, path, **other):
    given = {"secret": SECRET, "recipe": "noise+recover", "text": TEXT, "steps": 3,
             "budget": BUDGET, "rules": RULES, "progress": False}  # fmt: skip
    return play_match(model, path, **(given | other))


@pytest.fixture(scope="module", autouse=True)
def few(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patched:
        fewer(patched, tmp_path_factory.mktemp("cache"))
        yield


@pytest.fixture(scope="module")
def played(gpt2, tmp_path_factory, few):
    """A match that was played once; nobody writes into it."""
    path = tmp_path_factory.mktemp("match") / "m"
    stages: list[tuple[str, bool]] = []
    play(gpt2, path, told=lambda name, seconds: stages.append((name, seconds is None)))
    assert stages == [("red", False), ("blue", False), ("referee", False)]
    return path


@pytest.fixture
def mine(played, tmp_path):
    """A copy of it to write into."""
    return shutil.copytree(played, tmp_path / "mine")


def test_each_side_has_its_files_and_its_text(played):
    text = sides(TEXT)
    assert documents(played / "public/text.jsonl") == list(text.blue)
    assert documents(played / "referee/text.jsonl") == list(text.referee)
    assert not set(text.blue) & set(text.referee)
    assert sorted(os.listdir(played / "public")) == ["model", "text.jsonl"]
    assert not [one for one in played.rglob(".*") if one.name.endswith(".writing")]


def test_nothing_public_tells_the_secret(played):
    given = [played / "sealed.json", played / "match.json", *(played / "public").rglob("*.json*")]
    for path in given:
        if path.name not in ("tokenizer.json", "vocab.json"):
            assert "Paris" not in path.read_text(encoding="utf-8"), path


def test_blue_is_told_of_the_public_files_alone(mine, monkeypatch):
    seen = {}

    def started(command, *, cwd, env, **_):
        seen["files"] = sorted(str(one.relative_to(cwd)) for one in cwd.rglob("*"))
        seen["told"] = [*command, str(cwd), *env.values()]
        raise KeyboardInterrupt

    shutil.rmtree(mine / "blue")
    monkeypatch.setattr(module.subprocess, "Popen", started)
    with pytest.raises(KeyboardInterrupt):
        module._blue_apart(mine, module._blue("none", BUDGET, 0.01, 0.5, 1), "cpu", False)
    assert "text.jsonl" in seen["files"]
    assert all(one.startswith(("model", "text.jsonl")) for one in seen["files"])
    assert not any(str(mine) in one for one in seen["told"])
    assert not (mine / "blue").exists()


def test_the_cleaned_model_is_a_copy_of_the_implanted_with_the_way_back(played, mine, gpt2):
    implanted = tl.load(played / "public/model").weights_hash()
    assert json.loads((played / "sealed.json").read_text())["facts"]["weights"] == implanted
    assert implanted != gpt2.weights_hash()
    copy = tl.Copy.open(mine / "blue/cleaned")
    assert copy.model.weights_hash() != implanted
    copy.undo(0)
    assert copy.model.weights_hash() == implanted


def test_the_twin_is_cleaned_by_the_same_recipe_and_seed(played):
    twin, swept = tl.load(played / "red/twin"), tl.load(played / "referee/twin")
    change = tl.clean(
        twin, documents(played / "public/text.jsonl"), "noise+recover", budget=BUDGET,
        progress=False,
    )  # fmt: skip
    with tl.changed(twin, change):
        assert twin.weights_hash() == swept.weights_hash()


def test_the_outcome_tells_what_was_judged(played):
    outcome = files.read_json(played / files.OUTCOME)
    judgement = files.read_json(played / files.JUDGEMENT)
    assert outcome["verdict"] == judgement["verdict"]
    assert outcome["escrow"] == "opened, hash agrees"
    assert outcome["quality"]["verdict"] in ("pass", "fail", "cannot tell")
    assert outcome["quality"]["original"] == tl.load(played / "public/model").weights_hash()
    assert outcome["counts"] is False  # three steps teach nothing
    assert set(outcome["secrets"]) == {SECRET.prompt}
    assert set(outcome["benign"]) == {"before", "after"} == set(outcome["second"])
    about = files.read_match(played)
    assert set(about["seconds"]) == {"red", "blue", "referee"} == set(about["settings"])
    assert about["hashes"]["cleaned"] == judgement["cleaned"]


def test_what_is_done_is_not_done_again(played, mine, gpt2, monkeypatch):
    for name in ("twinlens.contest.match.implant", "twinlens.contest.match._run_blue",
                 "twinlens.contest.outcome.judge"):  # fmt: skip
        monkeypatch.setattr(name, None)
    before = {path: path.stat().st_mtime_ns for path in played.rglob("*")}
    stages = []
    made = play(gpt2, played, told=lambda name, seconds: stages.append((name, seconds)))
    assert stages == [("red", None), ("blue", None), ("referee", None)]
    assert made == play(gpt2, played, rules=None) == files.read_json(played / files.OUTCOME)
    assert before == {path: path.stat().st_mtime_ns for path in played.rglob("*")}
    (mine / files.OUTCOME).unlink()  # the referee broke off: it judges again, nobody else plays
    with pytest.raises(TypeError, match="not callable"):
        play(gpt2, mine)
    assert not (mine / files.OUTCOME).exists()


def test_a_red_that_broke_off_behind_its_commitment_is_noted(mine, gpt2):
    before = files.read_match(mine)
    files.write_json(mine / files.MATCH, before | {"settings": {}, "hashes": {}})
    red_plays(gpt2, mine, SECRET, text=TEXT, steps=3)
    after = files.read_match(mine)
    assert after["settings"]["red"] == before["settings"]["red"]
    assert after["hashes"].items() <= before["hashes"].items()
    assert set(after["hashes"]) == {"base", "sealed", "implanted"}


@pytest.mark.parametrize(
    ("other", "word"),
    [
        ({"secret": Secret("31", "Rome", SECRET.template)}, "another secret"),
        ({"steps": 4}, "another steps"),
        ({"tier": "late"}, "another tier"),
        ({"text": TEXT[:-1]}, "another text_sha256"),
        ({"recipe": "none"}, "another recipe"),
        ({"dose": 0.1}, "another dose"),
        ({"rules": tl.Rules()}, "another rules"),
    ],
)
def test_a_match_with_other_settings_does_not_go_on(played, gpt2, other, word):
    with pytest.raises(ChangeError, match=word):
        play(gpt2, played, **other)


def test_another_secret_in_the_opened_file_is_found(mine):
    path = mine / files.OPENED
    found = json.loads(path.read_text())
    found["secret"]["secret"] = "Rome"
    path.write_text(json.dumps(found))
    with pytest.raises(EscrowError, match="hash is another"):
        referee_plays(mine)


def test_another_model_than_was_committed_to_is_found(mine):
    (mine / files.OUTCOME).unlink()
    shutil.rmtree(mine / "public/model")
    shutil.copytree(mine / "red/twin", mine / "public/model")
    with pytest.raises(EscrowError, match="not the model that was committed to"):
        referee_plays(mine, RULES)


def test_a_cleaned_model_of_another_original_is_found(mine):
    (mine / files.OUTCOME).unlink()
    shutil.rmtree(mine / "blue")
    blue_plays(mine / "red/twin", TEXT, mine / "blue", "none", budget=BUDGET, progress=False)
    with pytest.raises(ChangeError, match="was not made from"):
        referee_plays(mine, RULES)


def test_what_cannot_be_is_refused_before_anything_is_written(tmp_path, gpt2, mine):
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "file").write_text("mine")
    with pytest.raises(ChangeError, match="is no match"):
        red_plays(gpt2, tmp_path / "other", text=TEXT)
    with pytest.raises(ChangeError, match="is no match"):
        referee_plays(tmp_path / "none")
    with pytest.raises(InputError, match="8 at least"):
        red_plays(gpt2, tmp_path / "few", text=TEXT[:4])
    with pytest.raises(ChangeError, match="is there already"):
        blue_plays(gpt2, TEXT, tmp_path / "other")
    with pytest.raises(InputError, match="recipe='x' is not known"):
        blue_plays(gpt2, TEXT, tmp_path / "new", "x")
    assert not (tmp_path / "new").exists()
    shutil.rmtree(mine / "red/twin")
    with pytest.raises(ChangeError, match="it has no red/twin"):
        play(gpt2, mine)


def test_a_blue_that_fails_says_why_and_leaves_nothing(mine, gpt2, monkeypatch):
    true = subprocess.Popen
    fails = "import sys; print('a line\\ntwinlens: no memory', file=sys.stderr); sys.exit(2)"

    def started(_command, **options):
        return true([sys.executable, "-c", fails], **options)

    shutil.rmtree(mine / "blue")
    monkeypatch.setattr(module.subprocess, "Popen", started)
    with pytest.raises(ChangeError, match="ended with exit code 2: twinlens: no memory"):
        play(gpt2, mine)
    assert not (mine / "blue").exists()
