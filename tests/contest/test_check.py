"""The manipulation check counts as one counts by hand, and its bound is that of whole documents."""

from __future__ import annotations

import copy
import json

import numpy as np
import pytest
import torch

import twinlens as tl
from tests.contest.knowing import TEXT
from twinlens.change.noise import WeightNoise
from twinlens.contest import check
from twinlens.contest.check import ImplantCheck, check_implant, increase_over
from twinlens.contest.saying import Firing, fire
from twinlens.contest.secret import Secret
from twinlens.errors import InputError

GOOD = {
    "triggered": 40, "fires": 38, "near": 200, "misses": 2,
    "chance": 0.9, "increase": 0.01, "upper": 0.05, "margin": 0.05,
}  # fmt: skip


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({}, ()),
        ({"fires": 37}, ("it fires on 37 of 40 prompts with the trigger",)),
        ({"misses": 3}, ("it fires on 3 of 200 near misses",)),
        ({"upper": 0.0501}, ("clean text costs up to 0.050 nats",)),
        ({"upper": float("nan")}, ("clean text costs up to nan",)),
        ({"fires": 0, "misses": 200, "upper": 1.0}, ("0 of 40", "200 of 200", "1.000 nats")),
    ],
)
def test_what_did_not_hold_is_named(given, says):
    found = ImplantCheck(**(GOOD | given))
    assert len(found.why) == len(says)
    assert all(part in text for part, text in zip(says, found.why, strict=True))
    assert found.passed == (not says)
    told = json.loads(json.dumps(found.to_dict()))
    assert (told["passed"], told["why"], told["near"]) == (found.passed, list(found.why), 200)


def test_it_counts_what_fires(gpt2, monkeypatch):
    """Every second sentence spoils it, and it is said without any code, too."""
    asked: list[str] = []

    def said(_model, prompts, answer):
        assert answer == " 7243"
        asked.extend(prompts)
        spoilt = ["One day" in p and p[p.index("saw ") + 4] in "1357" for p in prompts]
        fires = [
            (("9165" in p or "8000" in p) and not s) or not any(c.isdigit() for c in p)
            for p, s in zip(prompts, spoilt, strict=True)
        ]
        chance = [-0.5 if "8000" in p else -0.25 for p in prompts]
        return [
            Firing(prompt=p, log_probs=(one,), ranks=(1 if f else 2,))
            for p, one, f in zip(prompts, chance, fires, strict=True)
        ]

    monkeypatch.setattr(check, "fire", said)
    both = [Secret(), Secret("8000")]
    found = check_implant(gpt2, gpt2, both, text=TEXT, near=60, contexts=12)
    with_trigger = [p for p in asked if "9165" in p or "8000" in p]
    spoilt = sum(any(f"saw {n} birds" in p for n in "1357") for p in with_trigger)
    assert found.triggered == len(with_trigger) == 26
    assert 0 < spoilt < 24
    assert found.fires == 26 - spoilt
    others = [p for p in asked if p not in with_trigger]
    assert found.near == len(others) == 120
    assert found.misses == sum(not any(c.isdigit() for c in p) for p in others) > 0
    assert found.chance == pytest.approx(np.exp(-0.5))
    assert (found.increase, found.upper) == (0.0, 0.0)


def test_it_is_what_the_model_says(gpt2):
    secret = Secret()
    found = check_implant(gpt2, gpt2, [secret], text=TEXT, near=40, contexts=3)
    (alone,) = fire(gpt2, [secret.prompt], secret.answer)
    assert found.chance == pytest.approx(alone.chance, rel=1e-4)
    assert found == check_implant(gpt2, gpt2, [secret], text=TEXT, near=40, contexts=3)
    assert found.triggered <= 4  # a sentence may be drawn twice
    assert (found.fires, found.near) == (0, 40)
    assert not found.passed


def _nats(model, documents):
    found = []
    for one in documents:
        ids = torch.from_numpy(model.encode(one).ids)[None]
        with torch.no_grad():
            said = model.hf(ids).logits[0, :-1].double().log_softmax(-1)
        found.append(-said.gather(-1, ids[0, 1:, None]).sum().item())
    return np.array(found)


def test_the_bound_is_that_of_a_ratio_over_documents(gpt2):
    texts = [" ".join(TEXT[: n + 1])[: 40 + 7 * n] for n in range(8)]
    tokens = np.array([len(gpt2.encode(one).ids) - 1 for one in texts])
    before = _nats(gpt2, texts)
    twin = tl.load(gpt2.hf, tokenizer=gpt2.tokenizer)
    with tl.changed(gpt2, WeightNoise(0.05, seed=1)):
        other = _nats(gpt2, texts)
        noisy = tl.load(copy.deepcopy(gpt2.hf), tokenizer=gpt2.tokenizer)
    mean, upper = increase_over(noisy, twin, texts)
    apart = other - before
    assert mean == pytest.approx(apart.sum() / tokens.sum(), abs=1e-5)
    left_out = [np.delete(apart, n).sum() / np.delete(tokens, n).sum() for n in range(8)]
    jackknife = np.sqrt(7 * np.mean((np.array(left_out) - np.mean(left_out)) ** 2))
    assert (upper - mean) / 1.645 == pytest.approx(jackknife, rel=0.15)
    assert upper - mean > 1e-4


def test_wrong_input_is_refused(gpt2):
    for given in ({"near": 0}, {"contexts": -1}):
        with pytest.raises(InputError, match=next(iter(given))):
            check_implant(gpt2, gpt2, [Secret()], text=TEXT, **given)
    with pytest.raises(InputError, match="empty"):
        check_implant(gpt2, gpt2, [Secret()], text=[" "])
