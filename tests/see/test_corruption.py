"""The corrupted run's inputs: the noise is exactly what is written down, on the subject alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import twinlens as tl
from tests.conftest import STORY
from twinlens.errors import CorruptionError
from twinlens.model.spans import subject_mask
from twinlens.see.corruption import corrupt, embedding_moments, embedding_std


@pytest.fixture
def prompt(gpt2):
    tokens = gpt2.encode(STORY)
    return tokens, subject_mask(tokens, "little girl", len(tokens) - 1)


def noise_of(model, prompt, **settings):
    return corrupt(model, prompt[0], tl.Noise(**settings), prompt[1]).inputs.noise.numpy()


def test_gaussian_noise_is_numpys_own_stream(gpt2, prompt):
    span, width = int(prompt[1].sum()), gpt2.embedding_weight.shape[1]
    expected = 0.7 * np.random.RandomState(5).randn(4, span, width)
    assert np.array_equal(noise_of(gpt2, prompt, sigma=0.7, samples=4, seed=5), expected)


def test_default_sigma_is_three_deviations_of_the_whole_embedding(gpt2, prompt):
    weight = gpt2.embedding_weight.detach().double().numpy()
    made = corrupt(gpt2, prompt[0], tl.Noise(), prompt[1])
    assert made.settings["sigma"] == pytest.approx(3 * weight.std(ddof=1), rel=1e-12)
    assert made.inputs.samples == 10


def test_embeddings_that_the_family_scales_are_measured_as_they_come_out(make_model):
    model = make_model("gemma2")  # multiplies its embeddings by the root of d_model
    with torch.no_grad():
        out = model.embedding(torch.arange(model.n_embeddings)[None]).double()
    assert embedding_std(model) == pytest.approx(float(out.std()), rel=1e-6)


def test_uniform_noise_fills_its_interval(gpt2, prompt):
    noise = noise_of(gpt2, prompt, rule="uniform", sigma=2.0, samples=200)
    assert np.abs(noise).max() <= 2.0
    assert noise.std() == pytest.approx(2 / 3**0.5, rel=0.02)


@pytest.mark.parametrize("rule", ["multivariate", "t"])
def test_multivariate_rules_have_the_covariance_of_the_embeddings(gpt2, prompt, rule):
    noise = noise_of(gpt2, prompt, rule=rule, times_std=1.0, samples=20_000, df=12.0)
    flat = noise.reshape(-1, noise.shape[-1])
    weight = gpt2.embedding_weight.detach().double().numpy()
    wanted = np.cov(weight.T, bias=True)
    assert np.abs(np.cov(flat.T) - wanted).max() < 0.05 * wanted.max()


def test_t_has_heavier_tails_than_the_normal(gpt2, prompt):
    def kurtosis(noise):
        x = noise.reshape(-1)
        return (x**4).mean() / (x**2).mean() ** 2

    normal = noise_of(gpt2, prompt, rule="multivariate", samples=3000)
    heavy = noise_of(gpt2, prompt, rule="t", df=5.0, samples=3000)
    assert kurtosis(heavy) > 1.5 * kurtosis(normal)


def test_replacing_noise_stands_around_the_mean_embedding(gpt2, prompt):
    noise = noise_of(gpt2, prompt, rule="multivariate", times_std=0.1, replace=True, samples=5000)
    assert np.allclose(noise.mean((0, 1)), embedding_moments(gpt2)[0], atol=0.01)


def test_noise_falls_on_the_subject_alone(gpt2, prompt):
    _, mask = prompt
    clean = tl.causal_trace(gpt2, STORY, "little girl", corruption=tl.Noise(sigma=5.0))
    assert np.array_equal(clean.subject_mask, mask)
    before = int(np.flatnonzero(mask)[0])
    assert np.allclose(clean.scores[:, :before], clean.corrupted, atol=1e-6)


TOM = STORY.replace("Lily", "Tom")  # Tom and Sam are two tokens each


def test_other_subjects_are_one_sample_each(gpt2):
    others = ["Sam", "Sn", "Sx"]  # as many tokens as Tom
    trace = tl.causal_trace(gpt2, TOM, "Tom", corruption=tl.Replace(subjects=others))
    assert trace.samples.shape[-1] == len(others)
    for name, score in zip(others, trace.corrupted_samples, strict=True):
        ids = gpt2.encode(TOM.replace("Tom", name)).ids
        logits = gpt2.hf(torch.from_numpy(ids)[None]).logits[0, -1]
        assert score == pytest.approx(float(logits.softmax(-1)[trace.answer]), abs=1e-6)


def test_a_counterfactual_prompt_is_the_corrupted_run(gpt2):
    other = TOM.replace("Tom", "Sam")
    trace = tl.causal_trace(gpt2, TOM, corruption=tl.Replace(prompt=other))
    differs = gpt2.encode(TOM).ids != gpt2.encode(other).ids
    assert np.array_equal(trace.subject_mask, differs)
    assert differs.sum() == 2


def test_a_replacement_that_reaches_beyond_the_subject_is_refused(gpt2):
    other = TOM.replace("Tom", "Sam").replace(".", ",")
    with pytest.raises(CorruptionError, match="outside the subject"):
        tl.causal_trace(gpt2, TOM, "Tom", corruption=tl.Replace(prompt=other))
