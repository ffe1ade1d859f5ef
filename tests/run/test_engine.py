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


@pytest.mark.parametrize("kind", ["block", "mlp", "attn", "head"])
@pytest.mark.parametrize("direction", ["denoise", "noise"])
def test_both_engines_give_the_same_trace(family, kind, direction):
    given = {"kind": kind, "direction": direction, "corruption": tl.Noise(samples=2), "window": 2}
    hooks, auto = (
        tl.causal_trace(family, STORY, "girl", engine=name, **given) for name in ("hooks", "auto")
    )
    assert auto.settings["engine"] == "replay"
    assert np.abs(hooks.samples - auto.samples).max() < 1e-5
    assert hooks.clean == auto.clean
    assert hooks.corrupted == auto.corrupted


def test_a_replay_that_differs_is_not_used_and_it_is_said(fresh, monkeypatch):
    true = engine.replay

    def wrong(*given, **options):
        for numbers, scores in true(*given, **options):
            yield numbers, scores + 0.01

    monkeypatch.setattr(engine, "replay", wrong)
    trace = tl.causal_trace(fresh, STORY, "Lily")
    assert trace.settings["engine"] == "hooks"
    assert any("scores differ by up to 1.0e-02" in note for note in trace.notes)
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
    with pytest.raises(ReplayError, match="blocks take a tensor"):
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
