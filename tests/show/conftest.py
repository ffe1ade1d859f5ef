from __future__ import annotations

import pytest

import twinlens as tl
from tests.conftest import STORY


@pytest.fixture(scope="session")
def results(make_model):
    """A lens and a trace of the same prompt."""
    model = make_model("gpt2")
    noise = tl.Noise(samples=2)
    return tl.logit_lens(model, STORY), tl.causal_trace(model, STORY, "Lily", corruption=noise)


@pytest.fixture(scope="session")
def hamlet_model():
    """The model that comes with the package."""
    return tl.load("hamlet")
