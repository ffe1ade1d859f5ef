"""Annealing: noise and decay at every step, then rest; the model itself stays as it was."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.contest.knowing import TEXT, knowing
from twinlens.change.recover import Budget
from twinlens.contest import anneal as module
from twinlens.contest.anneal import annealed
from twinlens.contest.blue import Blue
from twinlens.errors import InputError
from twinlens.model.model import duplicate

BUDGET = Budget(steps=6, batch_tokens=64, length=16, lr=1e-3)


@pytest.fixture(scope="module")
def blue(gpt2):
    return Blue(knowing(gpt2), TEXT, BUDGET)


def test_it_moves_the_weights_by_the_seed_and_leaves_the_model(blue):
    before = blue.model.weights_hash()
    first, again = annealed(blue), annealed(blue)
    assert blue.model.weights_hash() == before
    assert all(torch.equal(first.tensors[name], again.tensors[name]) for name in first.tensors)
    still = annealed(blue, noise=0.0, decay=0.0)
    name = next(n for n, p in blue.model.hf.named_parameters() if p.dim() > 1)
    was = dict(blue.model.hf.named_parameters())[name]
    far, near = ((made.tensors[name] - was).norm() for made in (first, still))
    assert far > near
    (step,) = first.plain()["steps"]
    assert step["noise"] == 0.01
    assert step["tokens"] > 0


def test_a_step_adds_noise_of_the_size_asked_and_takes_away_a_share(blue):
    model, former = duplicate(blue.model), duplicate(blue.model)
    module._shake(model, former, 0.1, 0.0, torch.Generator().manual_seed(1))
    before = dict(former.hf.named_parameters())
    for name, p in model.hf.named_parameters():
        if p.dim() < 2:
            assert torch.equal(p, before[name])
        elif p.numel() > 1000:
            assert float((p - before[name]).std() / before[name].std()) == pytest.approx(0.1, 0.1)
    model = duplicate(blue.model)
    module._shake(model, former, 0.0, 0.25, torch.Generator().manual_seed(1))
    name = next(n for n, p in model.hf.named_parameters() if p.dim() > 1)
    assert torch.allclose(dict(model.hf.named_parameters())[name], 0.75 * before[name])


def test_every_window_is_new_and_of_the_length_asked(blue):
    read = module._read(duplicate(blue.model), blue)
    batches = [next(read) for _ in range(40)]
    rows = [row.tolist() for batch in batches for row in batch.ids[-2:]]  # what the model wrote
    assert len({tuple(row) for row in rows}) == len(rows)
    assert all(batch.ids.shape[1] <= BUDGET.length for batch in batches)
    assert all(len(batch.ids) == 4 for batch in batches)
    assert np.mean([float(batch.real.float().mean()) for batch in batches]) > 0.5


def test_numbers_that_cannot_be_are_refused(blue):
    for wrong in ({"noise": -0.1}, {"decay": 1.0}):
        with pytest.raises(InputError, match=next(iter(wrong))):
            annealed(blue, **wrong)
