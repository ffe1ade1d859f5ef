"""What the units of a site write: lengths, and sums of them over the tokens of one pass.

A head's length of x @ rows is that of x @ root, a factor as small as the head is wide.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from twinlens.change.parts import projection
from twinlens.model.anatomy import Site
from twinlens.model.model import Model
from twinlens.run.hooks import Change, hooked, hooked_embedding
from twinlens.see.reduction import SLICE_NUMBERS
from twinlens.see.texts import Batch


@dataclass(frozen=True, eq=False)
class Writers:
    """The units of a site, `size` inputs each: |x @ rows| = |x @ root|."""

    root: Float[Tensor, "unit size size"]

    @classmethod
    def of(cls, model: Model, site: Site) -> Writers:
        """Those of the projection that the site's value enters."""
        kind = "head" if site.kind == "head" else "neuron"
        rows = projection(model, kind, site.layer).by_input.float()
        size = model.unit_size(kind, rows.shape[0])
        if size == 1:
            return cls(rows.norm(dim=1)[:, None, None])
        each = rows.reshape(-1, size, rows.shape[1]).transpose(1, 2)
        upper = torch.linalg.qr(each, mode="r").R  # rows.T = Q R, and Q keeps lengths
        return cls(upper.transpose(1, 2).contiguous())

    @property
    def magnitude(self) -> Float[Tensor, " unit"]:
        """Length of all weights of each unit."""
        return self.root.square().sum((1, 2)).sqrt()

    def apart(self, x: Float[Tensor, "token input"]) -> Float[Tensor, "token unit size"]:
        """The inputs by unit."""
        return x.unflatten(1, self.root.shape[:2])

    def written(self, x: Float[Tensor, "token input"]) -> Float[Tensor, "token unit size"]:
        """What each unit writes at each token, turned so that it needs `size` numbers only."""
        if self.root.shape[1] == 1:
            return (x * self.root[:, 0, 0])[..., None]
        return torch.einsum("tus,usr->tur", self.apart(x), self.root)

    def squares(self, x: Float[Tensor, "token input"]) -> Float[Tensor, "token unit"]:
        """Sum over a unit's weights of (W_ij x_j)^2."""
        return (self.apart(x).square() * self.root.square().sum(2)).sum(2)


@dataclass(eq=False)
class Sums:
    """Sums over some tokens, by site: `measures[4, unit]` (use, mean_use, effect, wanda squared),
    `peak[unit]`, `inputs[input]`, `turned[unit, size]`, the directions of what is written away from
    the centre; and the summed loss with the number of tokens predicted."""

    measures: dict[Site, Tensor] = field(default_factory=dict[Site, Tensor])
    peak: dict[Site, Tensor] = field(default_factory=dict[Site, Tensor])
    inputs: dict[Site, Tensor] = field(default_factory=dict[Site, Tensor])
    turned: dict[Site, Tensor] = field(default_factory=dict[Site, Tensor])
    loss: float = 0.0
    predicted: int = 0

    def add(self, other: Sums) -> None:
        """Take in those of further tokens."""
        for name in ("measures", "inputs", "turned"):
            mine: dict[Site, Tensor] = getattr(self, name)
            for site, value in getattr(other, name).items():
                mine[site] = mine[site] + value if site in mine else value
        for site, peak in other.peak.items():
            self.peak[site] = torch.maximum(self.peak.get(site, peak), peak)
        self.loss += other.loss
        self.predicted += other.predicted


def sums_of(
    model: Model,
    batch: Batch,
    writers: Mapping[Site, Writers],
    centres: Mapping[Site, Float[Tensor, "..."]],
    *,
    gradients: bool,
) -> Sums:
    """The sums over a batch's real tokens, in one pass forward and, with `gradients`, one back.

    `centres` are the inputs from which `mean_use` takes distances.
    """
    made = Sums()

    def kept(value: Tensor) -> Float[Tensor, "token input"]:
        return value.detach()[batch.real.to(value.device)].float()

    def reading(site: Site) -> Change:
        units = writers[site]

        def read(value: Tensor) -> Tensor:
            x = kept(value)
            lengths, away = units.written(x).norm(dim=2), units.written(x - centres[site])
            apart = away.norm(dim=2)
            columns = (lengths, apart, torch.zeros_like(apart), units.squares(x))
            made.measures[site] = torch.stack([_total(column) for column in columns])
            made.peak[site], made.inputs[site] = lengths.amax(0).cpu(), _total(x)
            made.turned[site] = _total(away / apart.clamp(min=1e-30)[..., None])
            if gradients:
                value.register_hook(lambda grad: effect(site, value, grad))
            return value

        return read

    def effect(site: Site, value: Tensor, grad: Tensor) -> None:
        products = writers[site].apart(kept(value) * kept(grad)).sum(2).abs()
        made.measures[site][2] = _total(products)

    changes = {site: reading(site) for site in writers}
    if gradients:
        made.loss, made.predicted = _backwards(model, batch, changes)
    else:
        with torch.no_grad(), hooked(model, changes, len(batch.ids)):
            _run(model, batch)
        for measures in made.measures.values():
            measures[2] = torch.nan
    return made


def _backwards(model: Model, batch: Batch, changes: Mapping[Site, Change]) -> tuple[float, int]:
    """A pass forward, and the gradient of the summed loss back to the embeddings.

    The logits of a slice of tokens at a time are made, reduced and dropped.
    """
    ends: dict[str, Tensor] = {}

    def start(value: Tensor) -> Tensor:
        ends["embed"] = value.detach().requires_grad_()
        return ends["embed"]

    def final(value: Tensor) -> Tensor:
        ends["final"] = value
        return value

    last = Site("block", model.n_layers - 1)
    with ExitStack() as stack:
        stack.enter_context(torch.enable_grad())
        stack.enter_context(hooked_embedding(model, start))
        stack.enter_context(hooked(model, {**changes, last: final}, len(batch.ids)))
        _run(model, batch)
        residual = ends["final"]
        loss, predicted, slope = _loss(model, batch, residual)
        torch.autograd.grad(residual, ends["embed"], slope)
    return loss, predicted


def _loss(
    model: Model, batch: Batch, residual: Float[Tensor, "row token d_model"]
) -> tuple[float, int, Float[Tensor, "row token d_model"]]:
    """The summed loss of the next tokens, how many there are, and its gradient at the residual."""
    slope = torch.zeros_like(residual)
    places = batch.real[:, 1:].nonzero().tolist()  # row, and the position before the one predicted
    size, total = max(1, SLICE_NUMBERS // model.n_vocab), 0.0
    for start in range(0, len(places), size):
        rows, tokens = map(torch.tensor, zip(*places[start : start + size], strict=True))
        at = residual.detach()[rows, tokens].requires_grad_()
        targets = batch.ids[rows, tokens + 1].to(at.device)
        logits = model.unembed(at).float()
        loss = torch.nn.functional.cross_entropy(logits, targets.to(logits.device), reduction="sum")
        (slope[rows, tokens],) = torch.autograd.grad(loss, at)
        total += float(loss.detach())
    return total, len(places), slope


def _run(model: Model, batch: Batch) -> None:
    model.hf(input_ids=batch.ids.to(model.device), use_cache=False, **model.last_logits_only)


def _total(values: Float[Tensor, "token *any"]) -> Float[Tensor, "*any"]:
    return values.sum(0, dtype=torch.float64).cpu()
