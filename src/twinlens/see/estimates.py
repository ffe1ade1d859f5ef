"""Estimates of what each unit of an MLP would bring back, from gradients instead of runs.

The effect of putting a unit's value from the source run into the base run is taken as the
difference of its two values times a gradient of the metric. The methods differ in that gradient.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import pad

from twinlens.errors import AnatomyError
from twinlens.model.anatomy import Site, SiteKind
from twinlens.model.model import Model
from twinlens.run.batches import Progress, counting, in_batches, is_out_of_memory
from twinlens.run.hooks import Change, hooked, hooked_embedding
from twinlens.run.linear import linearised
from twinlens.run.passes import Inputs, Score, noise_of

Estimate = Literal["relp", "ig", "atp"]
STEPS = 8  # of integrated gradients


def estimate(
    model: Model,
    base: Inputs,
    source: Inputs,
    score: Score,
    kind: SiteKind,
    method: Estimate,
    *,
    batch_tokens: int,
    steps: int = STEPS,
    on_smaller: Callable[[int], None] | None = None,
    progress: Progress = False,
) -> Float[Tensor, "layer token unit"]:
    """Estimated change of the metric for every unit of every MLP, averaged over the samples.

    `atp`: the gradient at the base run (attribution patching, Nanda 2023; Kramar et al. 2024).
    `ig`: averaged over `steps` runs whose embeddings lie between both runs' (integrated gradients,
    Sundararajan et al. 2017; Hanna et al. 2024). `relp`: at the base run by the rules of relevance
    (`twinlens.run.linear`).
    """
    sites = model.sites(kind)
    runs = [_embeddings(model, inputs) for inputs in (base, source)]
    samples = max(len(run) for run in runs)
    from_base, from_source = (run.expand(samples, -1, -1) for run in runs)
    steps = steps if method == "ig" else 1
    sums: list[Tensor] = []

    def work(rows: Sequence[int], advance: Callable[[int], None]) -> None:
        e_base, e_source = from_base[rows[0] : rows[-1] + 1], from_source[rows[0] : rows[-1] + 1]
        here, there = (_values(model, base.ids, e, sites)[0] for e in (e_base, e_source))
        slopes = [torch.zeros_like(value) for value in here]
        for step in range(steps):
            part = (step + 0.5) / steps if steps > 1 else 0.0
            between = e_base + part * (e_source - e_base)
            _, gradients = _values(model, base.ids, between, sites, score, method == "relp")
            slopes = [slope + g / steps for slope, g in zip(slopes, gradients, strict=True)]
            advance(len(rows))
        made = zip(there, here, slopes, strict=True)
        sums.append(_stacked([((t - h) * g).double().sum(0).cpu() for t, h, g in made]))

    per_batch = max(1, batch_tokens // int(base.ids.shape[1]))
    with counting(samples * steps, f"neurons by {method}", progress) as advance:
        for _ in in_batches(range(samples), per_batch, lambda r: work(r, advance), on_smaller):
            pass
    return torch.stack(sums).sum(0) / samples


def _stacked(
    layers: Sequence[Float[Tensor, "token _"]],
) -> Float[Tensor, "layer token unit"]:
    """Layers as one array; those with fewer units have zeros behind them."""
    width = max(layer.shape[1] for layer in layers)
    return torch.stack([pad(layer, (0, width - layer.shape[1])) for layer in layers])


def passes_of(method: Estimate, steps: int = STEPS) -> int:
    """The cost of an estimate in forward passes; a backward pass counts as two."""
    return 2 + 3 * (steps if method == "ig" else 1)


def _embeddings(model: Model, inputs: Inputs) -> Float[Tensor, "sample token width"]:
    """What the token embedding gives, noise included."""
    kept: list[Tensor] = []

    def keep(_module: object, _args: object, made: Tensor) -> None:
        kept.append(made.detach())

    noised = noise_of(inputs, torch.arange(inputs.samples))
    with torch.no_grad(), hooked_embedding(model, noised):
        handle = model.embedding.register_forward_hook(keep)
        try:
            model.embedding(inputs.ids.to(model.device))
        finally:
            handle.remove()
    return kept[0]


def _values(
    model: Model,
    ids: Int[Tensor, "sample token"],
    embeddings: Float[Tensor, "row token width"],
    sites: Sequence[Site],
    score: Score | None = None,
    frozen: bool = False,
) -> tuple[list[Tensor], list[Tensor]]:
    """Values at sites, and with a `score` its gradient there, of runs with given embeddings."""
    rows = len(embeddings)
    kept: dict[Site, Tensor] = {}

    def keep(site: Site) -> Change:
        def change(value: Tensor) -> Tensor:
            kept[site] = value
            return value

        return change

    rules = linearised(model, rows) if frozen else contextlib.nullcontext()
    with torch.set_grad_enabled(score is not None):
        given = embeddings.detach().clone().requires_grad_(score is not None)
        # the rules come first, so that what is kept comes after a neuron's gradient is halved
        with (
            rules,
            hooked(model, {s: keep(s) for s in sites}, rows),
            hooked_embedding(model, lambda _: given),
        ):
            ids = ids[:1].expand(rows, -1).to(model.device)
            made = model.hf(input_ids=ids, use_cache=False, **model.last_logits_only)
        values = [kept[site] for site in sites]
        if score is None:
            return values, []
        total = score(made.logits[:, -1].float()).sum()
        return values, _gradients(model, total, values)


def _gradients(model: Model, total: Tensor, values: list[Tensor]) -> list[Tensor]:
    """Gradients at some values; some kernels for quantised weights have none."""
    try:
        return list(torch.autograd.grad(total, values))
    except RuntimeError as error:
        if not model.is_quantised or is_out_of_memory(error):
            raise
        raise AnatomyError(
            f"{model.name}: no gradient passes its quantised weights, so effects cannot be"
            " estimated; method='exact' needs none"
        ) from error
