"""A miniature of the training: it learns, it can be stopped, and the same seed gives the same."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest
import torch

from training.hamlet import PHASES, Phase, Training, loss_of
from training.text import village_row

MINIATURE = (
    Phase("heads", 40, 8, 24, 3e-3, 3e-3, heads_every=1, warm_up=10),
    Phase(
        "village", 160, rows=4, length=48, from_rate=3e-3, to_rate=1e-3, heads_every=8, muon=True
    ),
)
SIZE = {"layers": 2, "width": 32, "heads": 2}
TOLERANCE = 0.02  # nats; the order of sums on several threads may differ


def _train(out: Path, phases: tuple[Phase, ...] = MINIATURE, seed: int = 1) -> Training:
    training = Training(out, seed, **SIZE)
    for _ in training.run(phases, save_every=50):
        pass
    return training


def _evaluate(training: Training) -> float:
    random = Random("evaluation of the miniature")
    rows = [village_row(random, 48) for _ in range(20)]
    ids, weights = (torch.tensor([row[i] for row in rows]) for i in (0, 1))
    with torch.no_grad():
        return float(loss_of(training.model, ids, weights))


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Training:
    return _train(tmp_path_factory.mktemp("whole"))


@pytest.mark.slow
def test_the_same_seed_gives_the_same_evaluation(trained, tmp_path):
    again = _evaluate(_train(tmp_path))
    assert again == pytest.approx(_evaluate(trained), abs=TOLERANCE)
    assert again < 6.5  # a guess among 2,000 tokens costs 7.6


@pytest.mark.slow
def test_another_seed_gives_another_model(trained, tmp_path):
    other = _train(tmp_path, seed=2)
    assert abs(_evaluate(other) - _evaluate(trained)) > 1e-6


@pytest.mark.slow
def test_a_run_that_was_stopped_goes_on_where_it_was(trained, tmp_path):
    first = Training(tmp_path, 1, **SIZE)
    for done, _ in enumerate(first.run(MINIATURE, save_every=50), 1):
        if done == 123:  # after the checkpoint at step 50 of the second phase
            break
    assert Training(tmp_path, 1, **SIZE).step == 50
    assert _evaluate(_train(tmp_path)) == pytest.approx(_evaluate(trained), abs=TOLERANCE)


def test_another_seed_than_the_checkpoints_is_refused(tmp_path):
    Training(tmp_path, 1, **SIZE).save()
    with pytest.raises(SystemExit, match="seed 1, not 2"):
        Training(tmp_path, 2, **SIZE)


def test_rates_warm_up_and_fall():
    phase = Phase("x", 100, 1, 1, from_rate=1e-3, to_rate=1e-4, warm_up=10)
    rates = [phase.rate(step) for step in range(100)]
    assert rates[0] == pytest.approx(1e-4)
    assert max(rates) == pytest.approx(1e-3, rel=0.05)
    assert rates[20:] == sorted(rates[20:], reverse=True)
    assert rates[-1] == pytest.approx(1e-4, rel=0.05)


def test_a_checkpoint_of_another_text_is_refused(tmp_path, monkeypatch):
    Training(tmp_path, 1, **SIZE).save()
    monkeypatch.setattr("training.hamlet.recipe", lambda: "another")
    with pytest.raises(SystemExit, match="another text"):
        Training(tmp_path, 1, **SIZE)


def test_phases_fit_the_context():
    assert all(p.length <= 512 and p.rows > 0 and p.steps > 0 for p in PHASES)
