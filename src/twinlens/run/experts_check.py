"""Do the values of the experts' neurons give what the experts gave?"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from twinlens.model.experts import Mixture
from twinlens.model.model import Model
from twinlens.run.experts import called_with
from twinlens.run.passes import Inputs, read


def error_of_experts(model: Model, inputs: Inputs) -> float | None:
    """The largest relative difference over all blocks with experts; None where there are none."""
    kept: list[tuple[Tensor, Tensor]] = []

    def gave(mixture: Mixture) -> Callable[..., None]:
        def hook(module: nn.Module, args: Any, kwargs: Any, made: Tensor) -> None:
            expected = mixture.made(called_with(module, args, kwargs))
            kept.append((expected, mixture.total(made, len(expected))))

        return hook

    mixtures = [m for layer in range(model.n_layers) if (m := model.experts(layer)) is not None]
    handles = [m.module.register_forward_hook(gave(m), with_kwargs=True) for m in mixtures]
    try:
        if mixtures:
            read(model, inputs, [])
    finally:
        for handle in handles:
            handle.remove()
    return max((relative(*pair) for pair in kept), default=None)


def relative(a: Tensor, b: Tensor) -> float:
    """Largest difference relative to the largest value; infinite where something is not finite."""
    a, b = a.double().cpu(), b.double().cpu()
    error = float((a - b).abs().max() / (b.abs().max() + 1e-12))
    return error if error == error else float("inf")
