"""Read or replace the neurons of experts, which no module of their own takes or gives.

What the experts are called with says what their neurons are. To replace some, the module that holds
router, experts and shared experts runs once more, with the difference added to what the experts
give and the shared neurons in their place.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from twinlens.model.experts import Mixture


def called_with(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Tensor]:
    """The arguments of a call in the order of the signature."""
    return list(inspect.signature(module.forward).bind(*args, **kwargs).arguments.values())


def hook_experts(mixture: Mixture, apply: Callable[[Tensor], Tensor]) -> list[RemovableHandle]:
    """Pass the values of a block's neurons, `[token, neuron]`, through `apply`."""
    seen: dict[str, Any] = {}

    def experts_called(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        seen["given"] = called_with(module, args, kwargs)

    def shared_called(_module: nn.Module, args: tuple[Any, ...]) -> None:
        seen["shared"] = args[0]

    def after(whole: Any, args: tuple[Any, ...], kwargs: dict[str, Any], made: Any) -> Any:
        value = mixture.values(seen["given"])
        if mixture.shared is not None:
            value = torch.cat([value, seen["shared"].flatten(0, -2)], dim=1)
        # what comes back is a node of its own, so that gradients are those at the neurons
        passed = value.clone() if torch.is_grad_enabled() else value
        changed = apply(passed)
        if changed.data_ptr() == value.data_ptr():
            return made
        handles = _replacing(mixture, value, changed)
        try:
            return whole.forward(*args, **kwargs)
        finally:
            for handle in handles:
                handle.remove()

    handles = [mixture.module.register_forward_pre_hook(experts_called, with_kwargs=True)]
    if mixture.shared is not None:
        handles.append(mixture.shared.register_forward_pre_hook(shared_called))
    # first, since a hook at what the MLP gives sees what its neurons were replaced by
    return [*handles, mixture.whole.register_forward_hook(after, prepend=True, with_kwargs=True)]


def _replacing(mixture: Mixture, value: Tensor, changed: Tensor) -> list[RemovableHandle]:
    """Hooks that put the changed values in, for one more run of the module."""
    routed = mixture.units.routed

    def experts_gave(_module: nn.Module, _args: Any, made: Tensor) -> Tensor:
        return mixture.added(made, (changed - value)[:, :routed])

    def shared_called(_module: nn.Module, args: tuple[Any, ...]) -> Any:
        return (changed[:, routed:].view(args[0].shape), *args[1:])

    handles = [mixture.module.register_forward_hook(experts_gave)]
    if mixture.shared is not None:
        handles.append(mixture.shared.register_forward_pre_hook(shared_called))
    return handles
