from __future__ import annotations

import pytest
import torch

from twinlens.model.anatomy import Site
from twinlens.run.passes import Inputs, State, read, restore

IDS = torch.tensor([[5, 9, 33, 70, 21, 8]])


def hooks_of(model):
    """Hooks on any module (transformers leaves some of its own where hidden states were asked)."""
    return [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.hf.modules()]


def test_reading_changes_nothing_and_leaves_no_hook(family):
    hooks = hooks_of(family)
    with torch.no_grad():
        before = family.hf(input_ids=IDS).logits[:, -1]
    sites = [s for kind in family.site_kinds for s in family.sites(kind)]
    reading = read(family, Inputs(IDS), sites)
    assert torch.allclose(reading.logits, before, atol=1e-6)
    assert hooks_of(family) == hooks
    for site, value in reading.values.items():
        assert value.shape[:2] == IDS.shape, site


def test_a_unit_is_restored_alone(family):
    """One head or neuron set by hand in a plain pass gives the same logits."""
    other = read(family, Inputs(IDS.flip(1)), [Site("head", 1), Site("neuron", 1)])
    for kind, unit in (("head", 2), ("neuron", 7)):
        site = Site(kind, 1)
        cell = (State(site, 4, unit),)
        [(_, got)] = restore(
            family, Inputs(IDS), other.values, [cell], lambda z: z[:, 3], batch_tokens=99
        )
        values = other.values[site]
        size = values.shape[-1] // family.n_heads if kind == "head" else 1
        part = slice(unit * size, (unit + 1) * size)

        def put(module, args, values=values, part=part):
            x = args[0].clone()
            flat = x.view(-1, x.shape[-1])  # one row: position is the token
            flat[4, part] = values[0, 4, part]
            return (x,)

        handle = family.module(family.anatomy.path(site)).register_forward_pre_hook(put)
        try:
            with torch.no_grad():
                expected = family.hf(input_ids=IDS).logits[0, -1, 3]
        finally:
            handle.remove()
        assert got.item() == pytest.approx(float(expected), abs=1e-5)


def test_hooks_are_removed_when_a_pass_fails(gpt2):
    hooks = hooks_of(gpt2)
    with pytest.raises(IndexError):
        read(gpt2, Inputs(torch.tensor([[10**6]])), gpt2.sites("mlp"))
    assert hooks_of(gpt2) == hooks


def test_out_of_memory_in_a_pass_goes_on_with_less(gpt2):
    cells = [(State(Site("block", 0), token),) for token in range(6)]
    source = read(gpt2, Inputs(IDS.flip(1)), [Site("block", 0)]).values
    expected = [
        s
        for _, s in restore(gpt2, Inputs(IDS), source, cells, lambda z: z[:, 3], batch_tokens=9999)
    ]
    sizes, told = [], []

    def full(_module, args, kwargs):
        rows = kwargs["input_ids"].shape[0]
        sizes.append(rows)
        if rows > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")

    handle = gpt2.hf.register_forward_pre_hook(full, with_kwargs=True)
    try:
        got = list(
            restore(
                gpt2, Inputs(IDS), source, cells, lambda z: z[:, 3], batch_tokens=9999,
                on_smaller=told.append,
            )
        )  # fmt: skip
    finally:
        handle.remove()
    assert max(sizes) == 6
    assert told == [3, 1]
    scores = torch.cat([s for _, s in got])
    assert torch.allclose(scores, torch.cat(expected), atol=1e-6)


def test_noise_is_added_or_put_in_place(gpt2):
    mask = torch.tensor([False, True, True, False, False, False])
    noise = torch.randn(4, 2, 32, generator=torch.Generator().manual_seed(0)).double()
    ids = IDS.expand(4, -1)
    embedded = gpt2.embedding_weight[ids] + gpt2.hf.transformer.wpe.weight[: IDS.shape[1]]
    for replace in (False, True):
        values = read(gpt2, Inputs(ids, noise, mask, replace), [Site("embed", 0)]).values
        expected = embedded.detach().clone()
        if replace:
            expected[:, mask] -= gpt2.embedding_weight[ids][:, mask].detach()
        expected[:, mask] += noise.float()
        assert torch.allclose(values[Site("embed", 0)], expected, atol=1e-5)
    cut = Inputs(ids, noise, mask).until(2)
    assert cut.noise is not None
    assert cut.noise.shape == (4, 1, 32)
