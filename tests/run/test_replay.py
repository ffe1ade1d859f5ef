"""The fast engine gives the reference's numbers, in every family, for every kind of change."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.conftest import STORY
from twinlens.model.anatomy import Site
from twinlens.run.cells import groups
from twinlens.run.passes import Inputs, State, read, restore
from twinlens.run.replay import replay
from twinlens.run.tape import record

TOKENS = (0, 1, 3, 7)  # the first two share passes


def _runs(model):
    """A base run with noise on four tokens, and the states of the clean run."""
    ids = torch.from_numpy(model.encode(STORY).ids)[None, :12]
    mask = torch.zeros(ids.shape[1], dtype=torch.bool)
    mask[0:4] = True
    noise = torch.randn(
        3, 4, model.embedding_weight.shape[1], generator=torch.Generator().manual_seed(1)
    )
    base = Inputs(ids.expand(3, -1), noise, mask)
    sites = [site for kind in model.site_kinds for site in model.sites(kind)]
    return base, read(model, Inputs(ids), sites).values


def _cells(model) -> list[tuple[State, ...]]:
    cells = [(State(Site("embed", 0), t),) for t in TOKENS]
    for kind in ("block", "attn", "mlp"):
        cells += [(State(site, t),) for site in model.sites(kind) for t in TOKENS]
        cells += [tuple(State(site, t) for site in model.sites(kind)[1:]) for t in TOKENS]
    cells += [(State(site, 3, unit),) for site in model.sites("head") for unit in (0, 3)]
    cells += [(State(site, 7, unit),) for site in model.sites("neuron") for unit in (0, 9)]
    units = [site for kind in ("head", "neuron") for site in model.sites(kind)]
    cells += [(State(site, t, 1),) for site in units for t in (0, 1)]
    mixed = [Site("attn", 1), Site("block", 1), Site("mlp", 2)]
    cells.append(tuple(State(site, 3) for site in mixed))
    cells.append((State(Site("neuron", 0), 7, 1), State(Site("neuron", 0), 7, 5)))
    cells.append((State(Site("neuron", 0), 7, 1), State(Site("neuron", 2), 7, 5)))
    cells += [(State(site, 3, unit),) for site in model.sites("mlp") for unit in (1, 6)]
    cells.append((State(Site("mlp", 1), 7, (0, 2, 4)),))
    cells.append((State(Site("neuron", 1), 3, (0, 2, 4)),))
    cells.append((State(Site("head", 1), 3, (0, 2)), State(Site("neuron", 2), 3, (1, 0))))
    return cells


def _replayed(model, base, source, cells, score, batch_tokens) -> np.ndarray:
    tape = record(model, base, batch_tokens=batch_tokens)
    scores = np.full((len(cells), base.samples), np.nan)
    for numbers, made in replay(model, tape, source, cells, score, batch_tokens=batch_tokens):
        scores[numbers] = made.numpy()
    return scores


@pytest.mark.parametrize("batch_tokens", [1, 100_000])
def test_equal_to_the_reference_in_every_family(family, batch_tokens):
    base, source = _runs(family)
    cells = _cells(family)
    answer = int(read(family, base, []).logits[0].argmax())

    def score(logits: torch.Tensor) -> torch.Tensor:
        return logits.softmax(-1)[:, answer]

    plain = restore(family, base, source, cells, score, batch_tokens=10_000)
    expected = np.concatenate([scores.numpy() for _, scores in plain])
    found = _replayed(family, base, source, cells, score, batch_tokens)
    assert np.abs(found - expected).max() < 1e-5
    nothing = score(read(family, base, []).logits).numpy()
    assert np.abs(expected - nothing).max() > 3e-4


def test_a_cell_at_two_tokens_is_refused(gpt2):
    base, source = _runs(gpt2)
    tape = record(gpt2, base, batch_tokens=999)
    cell = (State(Site("mlp", 0), 1), State(Site("mlp", 1), 2))
    with pytest.raises(ValueError, match=r"tokens \[1, 2\]"):
        list(replay(gpt2, tape, source, [cell], lambda z: z[:, 0], batch_tokens=99))


def test_neighbouring_tokens_share_passes_only_while_those_are_small(gpt2):
    base, _ = _runs(gpt2)
    tape = record(gpt2, base, batch_tokens=999)
    few = [(State(Site("block", 0), token),) for token in range(12)]
    firsts = [first for first, _ in groups(few, tape)]
    assert firsts == [0, 2, 4, 6, 7, 8, 9, 10, 11]  # a wasted token in eight at most
    many = [(State(Site("neuron", 0), token, unit),) for token in (0, 1) for unit in range(40)]
    assert [first for first, _ in groups(many, tape)] == [0, 1]
