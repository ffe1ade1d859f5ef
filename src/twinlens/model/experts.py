"""Experts of a block as what they are together: one wide MLP, most of whose neurons are silent.

A token's output is the sum, over the experts that the router chose, of its weight times act @ W.
That is (weight x act) @ W: with weight x act as the values of the neurons, and nothing where an
expert was not chosen, all experts are one linear map. The modules are those that transformers 5
makes, with the weights of all experts in one parameter.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from twinlens.model.weights import why_not_plain
from twinlens.results.units import ExpertUnits


@dataclass(frozen=True, eq=False)
class Mixture:
    """The experts of one block.

    `module` holds the weights of all, `whole` also the router and the shared experts, `shared` is
    the down-projection of those.
    """

    module: Any
    whole: nn.Module
    shared: Any
    units: ExpertUnits

    @classmethod
    def of(cls, block: nn.Module, path: str, shared: str | None) -> Mixture:
        """The experts at a path below a block."""
        module: Any = block.get_submodule(path)
        there = dict(block.named_modules())
        down: Any = None if shared is None else there.get(shared)
        width = 0 if down is None else int(down.in_features)
        count, *sizes = module.down_proj.shape
        units = ExpertUnits(count, sizes[0] if _transposed(module) else sizes[1], width)
        return cls(module, block.get_submodule(path.rpartition(".")[0]), down, units)

    @property
    def down(self) -> Float[Tensor, "expert width d_model"]:
        """The weights by which the neurons of each expert write; not copied."""
        return self.by_neuron(cast(Tensor, self.module.down_proj).detach())

    def by_neuron(self, weight: Tensor) -> Float[Tensor, "expert width d_model"]:
        """A tensor that is stored as the down-projections are, seen by neuron; the same memory."""
        return weight if _transposed(self.module) else weight.transpose(1, 2)

    def values(self, given: Sequence[Tensor]) -> Float[Tensor, "token neuron"]:
        """The neurons' values, for what the module is called with: states and, where it chooses,
        the numbers and the weights of the experts of each token."""
        if len(given) == 1:
            inner = self._inner(slice(None), given[0].unflatten(0, (self.units.experts, -1)))
            return inner.transpose(0, 1).flatten(1)
        states, chosen, weights = given
        found = states.new_zeros(len(states), self.units.experts, self.units.width)
        for expert in chosen.unique().tolist():
            if expert < self.units.experts:
                token, place = torch.where(chosen == expert)
                inner = self._inner(expert, states[token])
                found[token, expert] = (inner * weights[token, place, None]).to(found.dtype)
        return found.flatten(1)

    def written(self, values: Float[Tensor, "token neuron"]) -> Float[Tensor, "token d_model"]:
        """What neurons with these values write (no biases)."""
        return torch.einsum("tew,ewd->td", self._apart(values), self.down.to(values.device))

    def made(self, given: Sequence[Tensor]) -> Float[Tensor, "token d_model"]:
        """What the module's output must be, if `values` are what it computes with."""
        found = self.written(self.values(given))
        if len(given) > 1 and getattr(self.module, "has_bias", False):
            _, chosen, weights = given
            found = found + (self.module.down_proj_bias[chosen] * weights[..., None]).sum(1)
        return found

    def total(self, made: Float[Tensor, "row d_model"], tokens: int) -> Tensor:
        """The module's output, summed over the experts where it has rows for each."""
        return made.unflatten(0, (-1, tokens)).sum(0)

    def added(
        self, made: Float[Tensor, "row d_model"], more: Float[Tensor, "token neuron"]
    ) -> Float[Tensor, "row d_model"]:
        """The module's output with these values more at its neurons."""
        apart = self._apart(more)
        if len(made) != len(more):  # rows for each expert
            each = torch.einsum("tew,ewd->etd", apart, self.down)
            return made + each.flatten(0, 1).to(made.dtype)
        if torch.is_grad_enabled():
            return made + self.written(more).to(made.dtype)
        changed = made.clone()
        for expert in apart.abs().amax((0, 2)).nonzero().flatten().tolist():
            changed += (apart[:, expert] @ self.down[expert]).to(made.dtype)
        return changed

    def _apart(self, values: Tensor) -> Float[Tensor, "token expert width"]:
        return values.unflatten(1, (self.units.experts, self.units.width))

    def _inner(self, expert: int | slice, states: Tensor) -> Tensor:
        """The inner layer of an expert, or of all with states for each."""
        module = self.module
        gated = "gate_up_proj" in module._parameters
        name = "gate_up_proj" if gated else "up_proj"
        weight = module._parameters[name][expert]
        up = states @ (weight if _transposed(module) else weight.transpose(-1, -2))
        if getattr(module, "has_bias", False):
            up = up + module._parameters[f"{name}_bias"][expert]
        if not gated:
            return module.act_fn(up)
        if hasattr(module, "_apply_gate"):
            return module._apply_gate(up)
        gate, up = up.chunk(2, dim=-1)
        return up * module.act_fn(gate)


def experts_path(block: nn.Module) -> str | None:
    """The path below a block of the module with its experts' weights; None where there is none
    that is understood, or where they are elsewhere (offloaded) or quantised."""
    for path, module in block.named_modules():
        own: Any = module._parameters
        fused = own.get("down_proj"), own.get("gate_up_proj", own.get("up_proj"))
        if "." not in path or any(w is None or w.dim() != 3 for w in fused):
            continue
        if any(w.device.type == "meta" or why_not_plain(w) for w in fused):
            continue
        takes = len(inspect.signature(type(module).forward).parameters) - 1
        if takes in (1, 3) and not getattr(module, "has_post_expert_norm", False):
            return path
    return None


def shared_path(block: nn.Module, experts: str, d_model: int) -> str | None:
    """The path of the down-projection of the shared experts beside a module of experts."""
    whole = experts.rpartition(".")[0]
    found: list[str] = []
    for path, module in block.get_submodule(whole).named_modules():
        if "shared" not in path:
            continue
        if hasattr(module, "base_layer"):  # an adapter's: which map writes is not told
            return None
        if isinstance(module, nn.Linear) and module.out_features == d_model:
            found.append(f"{whole}.{path}")
    return found[-1] if found else None


def _transposed(module: Any) -> bool:
    """Whether weights are stored as [expert, input, output]."""
    stored = getattr(module, "is_transposed", None)
    return not hasattr(module, "config") if stored is None else bool(stored)
