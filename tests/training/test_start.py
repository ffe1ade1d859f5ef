"""The untrained model: its four set heads already look where an induction circuit looks."""

from __future__ import annotations

from random import Random

import pytest
import torch

from training.start import HEADS, new_model


@pytest.fixture(scope="module")
def patterns():
    """Attention `[layer, head, token, token]` of one untrained model over repeated tokens."""
    model = new_model(3).eval()
    model.set_attn_implementation("eager")
    once = Random(1).sample(range(1, 2000), 25)
    with torch.no_grad():
        made = model(torch.tensor([once * 4]), output_attentions=True).attentions
    return torch.stack(made)[:, 0]


def test_heads_of_block_0_look_at_the_token_before(patterns):
    looked = patterns[0].diagonal(offset=-1, dim1=-2, dim2=-1)[:, 5:].mean(-1)
    assert (looked[:HEADS] > 0.5).all()
    assert (looked[HEADS:] < 0.1).all()  # the others start at random


def test_heads_of_block_1_look_at_what_followed_the_own_token(patterns):
    looked = torch.stack(
        [
            patterns[1][:, at, [at - 25 * k + 1 for k in (1, 2, 3) if at >= 25 * k]].sum(-1)
            for at in range(26, 100)
        ]
    ).mean(0)
    chance = torch.stack([torch.tensor((at // 25) / (at + 1)) for at in range(26, 100)]).mean()
    assert (looked[:HEADS] > 5 * chance).all()
    assert (looked[HEADS:] < 1.5 * chance).all()


def test_the_same_seed_gives_the_same_weights():
    first, again, other = (new_model(seed, layers=2, width=32, heads=2) for seed in (1, 1, 2))
    for a, b in zip(first.parameters(), again.parameters(), strict=True):
        assert torch.equal(a, b)
    assert not torch.equal(first.transformer.wte.weight, other.transformer.wte.weight)
