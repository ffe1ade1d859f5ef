"""What stands between the neurons of a block with experts and the residual, found by numbers.

Most blocks add what experts and shared experts write as it is. Some multiply it by a constant
(Laguna, Cohere2-MoE), by a number that each token sets (Qwen2-MoE), or norm the sum (A.X-K1). One
short pass in which all neurons are changed shows which.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from twinlens.model.anatomy import Site
from twinlens.model.experts import Mixture
from twinlens.model.model import Model
from twinlens.run.check import tolerance_of
from twinlens.run.hooks import hooked
from twinlens.run.passes import Inputs, last_logits

_TOKENS = 8


class Between(NamedTuple):
    """A neuron's row is multiplied by `times`, then passes the module at the path `norm`. `note`
    says so, and what else happens to it that is left out."""

    times: float = 1.0
    norm: str | None = None
    note: str = ""

    def passed(self, model: Model, row: Float[Tensor, " d_model"]) -> Float[Tensor, " d_model"]:
        """The row behind it, as if nothing else were written."""
        row = row * self.times
        return row if self.norm is None else alone_through(model.module(self.norm), row)


def alone_through(module: nn.Module, row: Float[Tensor, " d_model"]) -> Float[Tensor, " d_model"]:
    """What a module makes of a row, less what it makes of nothing."""
    with torch.no_grad():
        made = module(torch.stack([torch.zeros_like(row), row]))
    return made[1] - made[0]


def between(model: Model, layer: int, neuron: int) -> Between:
    """What stands between a neuron and what its block's MLP gives; found once a block."""
    mixture = model.experts(layer)
    if mixture is None:
        return Between()
    known: dict[int, tuple[Between | None, ...]] = model._memo.setdefault("between", {})
    found = known.get(layer) or _found(model, layer, mixture)
    if None not in found:  # else weights are silenced, perhaps for a while
        known[layer] = found
    return found[int(neuron >= mixture.units.routed)] or Between()


class _Seen:
    """What went into a module and what came out, `[row, token, width]`."""

    def __init__(self, given: Any, made: Any, rows: int) -> None:
        made = made[0] if isinstance(made, tuple | list) else made
        self.given, self.made = (_in_rows(one, rows) for one in (given, made))


def _in_rows(value: Any, rows: int) -> Tensor | None:
    if not isinstance(value, Tensor) or value.numel() % (rows * _TOKENS):
        return None
    return value.detach().reshape(rows, _TOKENS, -1).double()


def _found(model: Model, layer: int, mixture: Mixture) -> tuple[Between | None, ...]:
    """For the experts and for the shared ones; None for those that write nothing."""
    seen, more = _changed(model, layer, mixture)
    expected = [mixture.written(more[0, :, : mixture.units.routed])]
    if mixture.shared is not None:
        changed = more[1, :, mixture.units.routed :]
        with torch.no_grad():
            both = mixture.shared(torch.stack([torch.zeros_like(changed), changed]))
        expected.append(both[1] - both[0])
    return tuple(
        _told(model, seen, row, one.double(), ("the experts", "the shared experts")[row - 1])
        if bool(one.any())
        else None
        for row, one in enumerate(expected, 1)
    )


def _changed(model: Model, layer: int, mixture: Mixture) -> tuple[dict[str, _Seen], Tensor]:
    """What the modules from the neurons on see in a pass as it is, in one with all neurons of
    experts changed and in one with those of the shared ones; and the changes."""
    kinds = [slice(0, mixture.units.routed)]
    kinds += [slice(mixture.units.routed, None)] if mixture.shared is not None else []
    rows, seen, changes = 1 + len(kinds), dict[str, _Seen](), list[Tensor]()

    def change(value: Tensor) -> Tensor:
        """As much more as there is, so that rounding is small beside it."""
        generator = torch.Generator().manual_seed(0)
        more = torch.zeros(len(kinds), *value.shape[1:])
        for own, kind in zip(more, kinds, strict=True):
            size = float(value[0, :, kind].float().square().mean().sqrt()) or 1.0
            own[:, kind] = size * torch.randn(own[:, kind].shape, generator=generator)
        changes.append(more.to(value))
        return torch.cat([value[:1], value[1:] + changes[-1]])

    def keep(path: str) -> Any:
        def hook(_module: nn.Module, args: Any, made: Any) -> None:
            seen[path] = _Seen(args[0] if args else None, made, rows)

        return hook

    whole = model.path_of(mixture.whole)
    outer = model.anatomy.path(Site("mlp", layer)) if model.writes_alone(layer) else whole
    ids = torch.linspace(0, model.n_embeddings - 1, _TOKENS + 2)[1:-1].long()
    with hooked(model, {Site("neuron", layer): change}, rows):
        handles = [
            module.register_forward_hook(keep(f"{outer}.{path}".rstrip(".")))
            for path, module in model.module(outer).named_modules()
        ]
        try:
            last_logits(model, Inputs(ids[None].expand(rows, -1)), list(range(rows)), {})
        finally:
            for handle in handles:
                handle.remove()
    return {"": seen.pop(outer), **seen}, changes[-1]


def _told(model: Model, seen: Mapping[str, _Seen], row: int, expected: Tensor, who: str) -> Between:
    """What the difference at the end says, compared with what the neurons wrote."""
    tolerance = tolerance_of(model)

    def times(value: Tensor | None) -> Float[Tensor, " token"] | None:
        """By how much each token's row is multiplied; None where it is not only multiplied."""
        if value is None or value.shape[-1] != expected.shape[-1]:
            return None
        made = (value[row] - value[0]).to(expected.device)
        found = (made * expected).sum(-1) / expected.square().sum(-1)
        off = (made - found[:, None] * expected).norm(dim=-1)
        return found if bool((off <= tolerance * made.norm(dim=-1)).all()) else None

    end = cast(Tensor, seen[""].made)
    factor = times(end)
    if factor is not None:
        if not _alike(factor, tolerance):
            setting = [p for p, one in seen.items() if _one_number(one)]
            by = f" ({', '.join(setting)})" if setting else ""
            return Between(
                note=f"what {who} give is multiplied by a number that each token sets{by}; it is"
                " left out here"
            )
        constant = _constant(model, factor)
        said = f"what {who} give is multiplied by {constant:g} before it is added"
        return Between(constant, note="" if constant == 1 else said)
    for path, one in seen.items():
        before = times(one.given) if path and one.made is not None else None
        if before is None or one.made is None or not _alike(before, tolerance):
            continue
        if one.made.shape == end.shape and torch.equal(one.made, end):
            constant = _constant(model, before)
            return Between(
                constant, path,
                f"what {who} give passes {path} together with all else that the MLP writes; here"
                " the row passes it alone",
            )  # fmt: skip
    return Between(
        note=f"what {who} give is changed before it is added, and not by a constant factor; that"
        " is left out here"
    )


def _alike(factor: Float[Tensor, " token"], tolerance: float) -> bool:
    return float(factor.max() - factor.min()) <= tolerance * abs(float(factor.mean()))


def _constant(model: Model, factor: Float[Tensor, " token"]) -> float:
    """The constant that a configuration has: the shortest number that the pass, with its rounding,
    cannot tell from what it showed."""
    mean = float(factor.mean())
    short = (float(f"{mean:.{digits}g}") for digits in range(1, 8))
    near = 0.1 * tolerance_of(model) * abs(mean)
    return next((one for one in short if abs(one - mean) <= near), mean)


def _one_number(one: _Seen) -> bool:
    return one.made is not None and one.made.shape[-1] == 1
