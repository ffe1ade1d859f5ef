"""What is read off a trace result."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

import twinlens as tl
from tests.conftest import STORY


@pytest.fixture(scope="module")
def trace(make_model):
    return tl.causal_trace(make_model("llama"), STORY, "Lily", corruption=tl.Noise(samples=4))


def test_scores_are_the_mean_of_the_samples(trace):
    assert np.allclose(trace.scores, trace.samples.mean(-1), atol=1e-12)
    assert np.allclose(trace.spread(), trace.samples.std(-1, ddof=1))
    assert trace.corrupted == pytest.approx(trace.corrupted_samples.mean())


def test_normalised_effects_are_shares_of_the_total(trace):
    assert np.allclose(trace.effects(), trace.scores - trace.corrupted)
    assert np.allclose(trace.effects(normalise=True) * trace.total_effect, trace.effects())


def test_no_total_effect_has_no_shares(trace):
    flat = dataclasses.replace(trace, clean=trace.corrupted)
    assert np.isnan(flat.effects(normalise=True)).all()


def test_noising_effects_are_what_is_lost(trace):
    other = dataclasses.replace(trace, direction="noise")
    assert np.allclose(other.effects(), trace.clean - trace.scores)


def test_a_divergence_is_turned_round(make_model):
    kl = tl.causal_trace(make_model("llama"), STORY, "Lily", metric="kl")
    assert kl.total_effect == pytest.approx(kl.corrupted - kl.clean)
    assert kl.total_effect > 0
    assert kl.effects()[-1, kl.focus] == pytest.approx(kl.total_effect, rel=1e-3)
    assert kl.effects(normalise=True)[-1, kl.focus] == pytest.approx(1, abs=1e-3)
    assert kl.top(1)[0][2] == kl.effects().max()


def test_top_is_sorted_and_points_at_the_cells(trace):
    top = trace.top(5)
    effects = [effect for _, _, effect in top]
    assert effects == sorted(effects, reverse=True)
    for row, token, effect in top:
        assert trace.effects()[trace.layers.index(row), token] == effect


def test_one_sample_has_no_spread(make_model):
    one = tl.causal_trace(make_model("llama"), STORY, "Lily", corruption=tl.Noise(samples=1))
    assert np.isnan(one.spread()).all()
