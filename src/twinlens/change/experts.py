"""Experts' weights with some neurons writing a fraction of what they wrote."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from twinlens.change.parts import Part
from twinlens.model.experts import Mixture
from twinlens.model.model import Model
from twinlens.model.weights import refuse_other_weights
from twinlens.results.units import SHARED


def silenced_experts(
    model: Model, mixture: Mixture, layer: int, parts: Sequence[Part], factor: float
) -> dict[str, Tensor]:
    """The tensors of a block's experts by which some of its neurons, or the whole (`3.MLP`, with
    its biases), write `factor` times what they wrote."""
    whole = any(part.kind == "mlp" for part in parts)
    made: dict[str, Tensor] = {}
    routed = [part for part in parts if part.expert is not None and part.expert != SHARED]
    if routed or whole:
        path = model.path_of(mixture.module)
        refuse_other_weights(model.name, path, mixture.module)
        every: dict[str, Any] = mixture.module._parameters
        weight = every["down_proj"].detach().clone()
        seen = mixture.by_neuron(weight)
        if whole:
            seen *= factor
            if "down_proj_bias" in every:
                made[f"{path}.down_proj_bias"] = every["down_proj_bias"].detach() * factor
        else:
            at = torch.tensor(sorted({(part.expert or 0, part.number) for part in routed})).T
            seen[tuple(at.to(weight.device))] *= factor
        made[f"{path}.down_proj"] = weight
    shared = sorted({part.number for part in parts if part.expert == SHARED})
    if mixture.shared is not None and (shared or whole):
        path = model.path_of(mixture.shared)
        refuse_other_weights(model.name, path, mixture.shared)
        weight = mixture.shared.weight.detach().clone()
        weight[:, slice(None) if whole else shared] *= factor
        made[f"{path}.weight"] = weight
        if whole and mixture.shared.bias is not None:
            made[f"{path}.bias"] = mixture.shared.bias.detach() * factor
    return made
