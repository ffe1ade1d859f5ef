"""The replay is trusted only where it was tried, and whoever looks is told where it is not."""

from __future__ import annotations

import numpy as np
import pytest

import twinlens as tl
from tests.conftest import STORY, random_model
from twinlens.errors import ReplayError
from twinlens.run import engine


@pytest.fixture
def fresh(tokenizer) -> tl.Model:
    """A model on which nothing was tried yet."""
    return tl.load(random_model("llama", tokenizer), tokenizer=tokenizer)


@pytest.mark.parametrize(
    ("kind", "direction"),
    [("block", "noise"), ("mlp", "denoise"), ("attn", "noise"), ("head", "denoise")],
)
def test_both_engines_give_the_same_trace(family, kind, direction):
    given = {"kind": kind, "direction": direction, "corruption": tl.Noise(samples=2), "window": 2}
    hooks, auto = (
        tl.causal_trace(family, STORY, "girl", engine=name, **given) for name in ("hooks", "auto")
    )
    assert auto.settings["engine"] == "replay"
    assert np.abs(hooks.samples - auto.samples).max() < 1e-5
    assert hooks.clean == auto.clean
    assert hooks.corrupted == auto.corrupted


@pytest.mark.parametrize("wrong_by", [0.1, float("nan")])
def test_a_replay_that_differs_is_not_used_and_it_is_said(fresh, monkeypatch, wrong_by):
    true = engine.replay

    def wrong(*given, **options):
        for numbers, scores in true(*given, **options):
            yield numbers, scores + wrong_by

    monkeypatch.setattr(engine, "replay", wrong)
    trace = tl.causal_trace(fresh, STORY, "Lily")
    assert trace.settings["engine"] == "hooks"
    assert any("the logits differ by up to" in note for note in trace.notes)
    monkeypatch.undo()
    again = tl.causal_trace(fresh, STORY, "Lily")
    assert again.settings["engine"] == "hooks", "tried once a model"
    assert np.array_equal(again.scores, trace.scores)


def test_blocks_that_cannot_be_replayed_fall_back_unless_the_replay_was_asked_for(
    fresh, monkeypatch
):
    monkeypatch.setattr("twinlens.run.replay._PER_TOKEN", ())
    trace = tl.causal_trace(fresh, STORY, "Lily")
    assert trace.settings["engine"] == "hooks"
    assert any("ReplayError" in note for note in trace.notes)
    with pytest.raises(ReplayError, match="blocks take 'position_ids', a Tensor"):
        tl.causal_trace(fresh, STORY, "Lily", engine="replay")


def test_states_before_the_subject_are_not_run(fresh, monkeypatch):
    seen: list[int] = []
    true = engine.replay

    def counting(model, tape, source, cells, *given, **options):
        seen.extend(cell[0].token for cell in cells)
        return true(model, tape, source, cells, *given, **options)

    monkeypatch.setattr(engine, "replay", counting)
    trace = tl.causal_trace(fresh, STORY, "Lily", engine="replay")
    first = int(np.flatnonzero(trace.subject_mask)[0])
    assert min(seen) == first > 2
    assert np.allclose(trace.samples[:, :first], trace.corrupted_samples, atol=1e-6)


def test_without_an_effect_to_compare_nothing_is_proven(fresh):
    trace = tl.causal_trace(fresh, STORY, "Lily", corruption=tl.Noise(sigma=1e-9))
    assert trace.settings["engine"] == "hooks"
    assert any("no state that was tried has an effect" in note for note in trace.notes)
    assert tl.causal_trace(fresh, STORY, "Lily").settings["engine"] == "replay"


def test_out_of_memory_in_the_proof_goes_on_with_hooks(fresh, monkeypatch):
    def full(*_given, **_options):
        raise MemoryError

    monkeypatch.setattr(engine, "record", full)
    trace = tl.causal_trace(fresh, STORY, "Lily")
    assert trace.settings["engine"] == "hooks"
    assert any("does not fit the memory" in note for note in trace.notes)
    monkeypatch.undo()
    assert tl.causal_trace(fresh, STORY, "Lily").settings["engine"] == "replay"


def test_bfloat16_is_replayed(tokenizer):
    model = tl.load(random_model("llama", tokenizer), tokenizer=tokenizer, dtype="bfloat16")
    hooks, auto = (
        tl.causal_trace(model, STORY, "girl", engine=e, metric="log_probability")
        for e in ("hooks", "replay")
    )
    assert np.abs(hooks.samples - auto.samples).max() < 0.3
