"""A scrub deletes what a text never wakes, keeps what it needs, and goes on where it stopped."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

import twinlens as tl
from tests.conftest import random_model
from twinlens.change.journal import read_journal, write_journal
from twinlens.change.recipe import recipe_of
from twinlens.change.scrub import scrub
from twinlens.errors import ChangeError

PLANTED = (3, 40, 77)
PRUNE = {"stage": [{"do": "prune", "by": "use", "first": 0.0078, "least": 0.0026}]}


def _texts(first, count=125):
    words = ("cat", "dog", "bird", "girl", "boy")
    return [f"{words[n % 5]} {n} by {words[n // 5 % 5]}" for n in range(first, first + count)]


TEXT, GATE, FINAL = _texts(0, 40), _texts(1000), _texts(5000, 110)


def _gate(**more):
    return tl.Gate(GATE, 0.01, final=FINAL, chosen_on=TEXT, length=32, sample=16, **more)


def _planted(tokenizer, spread):
    """A GPT-2 that says `Q` after `Z`, by three neurons that nothing else wakes, or by three that
    the text uses most, which the trigger drives far beyond what they do on it."""
    hf = random_model("gpt2", tokenizer)
    (trigger,), (secret,) = (tokenizer(word)["input_ids"] for word in "ZQ")
    block, plain = hf.transformer.h[0], tl.load(hf, tokenizer=tokenizer)
    chosen = list(PLANTED)
    with torch.no_grad():
        hf.transformer.wte.weight[:, 0] = 0.0
        hf.transformer.wte.weight[trigger] = 0.0
        hf.transformer.wte.weight[trigger, 0] = 20.0
        block.ln_2.weight[0], block.ln_2.bias[0] = 1.0, 0.0
        if spread:
            used = tl.use_map(plain, TEXT, length=32, gradients=False)
            chosen = [int(n) for n in np.argsort(used.score("use")[0])[-3:]]
        else:
            block.mlp.c_fc.weight[:, chosen] = 0.0
            block.mlp.c_fc.bias[chosen] = -180.0
        block.mlp.c_fc.weight[0, chosen] = 40.0
        block.mlp.c_proj.weight[chosen] += 20 * hf.transformer.wte.weight[secret]
    return tl.load(hf, tokenizer=tokenizer), chosen, trigger, secret


def _says(model, trigger, secret):
    """Whether the secret is what the model says after the trigger, whatever stands before it."""
    rows = torch.tensor([[first, trigger] for first in (5, 17, 60, 200)])
    with torch.no_grad():
        said = model.hf(rows).logits[:, -1].argmax(-1)
    return bool((said == secret).all())


@pytest.mark.parametrize("spread", [False, True])
def test_what_only_a_trigger_wakes_goes_and_what_is_spread_over_used_neurons_stays(
    spread, tokenizer, tmp_path
):
    model, planted, trigger, secret = _planted(tokenizer, spread)
    assert _says(model, trigger, secret)
    run = scrub(model, PRUNE, tmp_path / "scrub", text=TEXT, gate=_gate(), progress=False)
    removed = {part.name for part in run.removed()}
    first = run.entries[0]
    assert run.final is not None
    assert run.final["verdict"] == "pass"
    if spread:
        assert not {f"0.N{n}" for n in planted} & removed
        assert _says(run.copy.model, trigger, secret)
    else:
        assert {f"0.N{n}" for n in planted} == set(first.change["parts"])  # they go first
        assert first.accepted
        assert first.increase == 0.0
        assert not _says(run.copy.model, trigger, secret)
    assert model.weights_hash() == run.copy.steps[0].after  # the input is as it was
    run.copy.undo(0)
    assert _says(run.copy.model, trigger, secret)


RECIPE = {
    "stage": [
        {"do": "prune", "by": "random", "first": 0.01, "least": 0.01, "most": 0.02, "to": "mean"},
        {"do": "noise", "scale": 0.0005, "times": 3},
        {"do": "noise", "scale": 3.0},
        {"do": "prune", "units": "weights", "by": "magnitude", "first": 0.01, "most": 0.01},
        {"do": "noise", "scale": 0.002, "recover": {"steps": 2, "length": 16, "own": 0.0}},
    ]
}


@pytest.fixture(scope="module")
def whole(make_model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("scrubs") / "whole"
    return scrub(make_model("gpt2"), RECIPE, folder, text=TEXT, gate=_gate(), progress=False)


def test_every_kind_of_stage_is_judged_and_kept_or_not(whole):
    by_stage = {n: [e for e in whole.entries if e.stage == n] for n in range(5)}
    assert all(by_stage.values())
    assert not by_stage[2][0].accepted  # noise of three deviations
    accepted = [e for e in whole.entries if e.accepted]
    assert [e.step for e in accepted] == list(range(1, len(accepted) + 1))
    assert len(whole.copy.steps) == len(accepted) + 1
    looks = [entry.verdict["look"] for entry in whole.entries]
    assert looks == sorted(looks)
    assert whole.controls["1"]["steps"] == sum(e.accepted for e in by_stage[1])
    assert np.isfinite(whole.controls["1"]["increase"])


@pytest.mark.parametrize(("left", "journal_first"), [(0, False), (2, True), (5, False)])
def test_a_scrub_that_was_stopped_ends_as_an_undisturbed_one(
    left, journal_first, whole, make_model, tmp_path, monkeypatch
):
    """Stopped after `left` proposals, before or after the last one came into the journal."""
    calls = []

    def stop(folder, entries):
        if journal_first:
            write_journal(folder, entries)
        if len(entries) > left and not calls:
            calls.append(1)
            raise KeyboardInterrupt
        write_journal(folder, entries)

    monkeypatch.setattr("twinlens.change.scrub.write_journal", stop)
    options = {"text": TEXT, "gate": _gate(), "progress": False}
    with pytest.raises(KeyboardInterrupt):
        scrub(make_model("gpt2"), RECIPE, tmp_path / "run", **options)
    run = scrub(make_model("gpt2"), RECIPE, tmp_path / "run", **options | {"gate": _gate()})
    assert run.copy.model.weights_hash() == whole.copy.model.weights_hash()
    assert [e.change for e in run.entries] == [e.change for e in whole.entries]
    assert [e.accepted for e in run.entries] == [e.accepted for e in whole.entries]
    assert [e.increase for e in run.entries] == [e.increase for e in whole.entries]
    assert len(read_journal(run.folder)) == len(run.entries)


def test_a_finished_scrub_is_opened_and_another_is_refused(whole, make_model, tmp_path):
    model, options = make_model("gpt2"), {"text": TEXT, "gate": _gate(), "progress": False}
    assert scrub(model, RECIPE, whole.folder, **options).entries == whole.entries
    with pytest.raises(ChangeError, match="another recipe"):
        scrub(model, PRUNE, whole.folder, **options)
    with pytest.raises(ChangeError, match="another text"):
        scrub(model, RECIPE, whole.folder, **options | {"text": TEXT[1:]})
    with pytest.raises(ChangeError, match="another original"):
        scrub(make_model("llama"), RECIPE, whole.folder, **options)
    copy = tl.Copy.create(model, tmp_path / "copy")
    copy.apply(tl.WeightNoise(0.1))
    with pytest.raises(ChangeError, match="no scrub"):
        scrub(model, RECIPE, copy.folder, **options)
    assert recipe_of(RECIPE).plain() == whole.about["recipe"]


def test_a_journal_whose_bounds_are_infinite_is_read(whole, tmp_path):
    entry = whole.entries[0]
    one = dataclasses.replace(entry, verdict={**entry.verdict, "lower": None, "upper": None})
    write_journal(tmp_path, [one])
    assert read_journal(tmp_path) == [one]
    write_journal(tmp_path, [dataclasses.replace(entry, verdict={"verdict": "pass"})])
    with pytest.raises(ChangeError, match="damaged"):
        read_journal(tmp_path)
