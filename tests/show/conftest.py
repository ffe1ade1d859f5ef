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


FACTS = [
    {"prompt": f"Then {subject} went home to the", "subject": subject, "answer": answer}
    for subject, answer in (("Lily", None), ("The Eiffel Tower", "x"), ("Mr Dursley", None))
]


@pytest.fixture(scope="session")
def small_run(make_model, tmp_path_factory):
    """A run of four facts on a tiny model: two measured, one unknown, one that cannot be asked."""
    pytest.importorskip("pyarrow")
    pytest.importorskip("polars")
    long = {"prompt": "word " * 200, "subject": "word"}
    return tl.sweep_facts(
        make_model("gpt2"), [*FACTS, long], tmp_path_factory.mktemp("runs") / "small",
        corruption=tl.Noise(samples=2), kinds=("block", "mlp"), restored=2, top_neurons=5,
        threads=1, progress=False,
    )  # fmt: skip
