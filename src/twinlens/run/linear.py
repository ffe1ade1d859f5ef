"""The model with its curves taken as the lines they are at one run: for relevance patching.

Within `linearised`, the forward pass gives the same numbers and the backward pass another rule:
norms keep their scale, activation functions are x times a constant, attention weights are
constants, and a gate and what it gates share the relevance by half (Jafari et al. 2025, "RelP",
arXiv 2508.21258; the rules are those of layer-wise relevance propagation).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from twinlens.model.anatomy import Site
from twinlens.model.model import Model
from twinlens.run.hooks import Change, hooked


@contextlib.contextmanager
def linearised(model: Model, rows: int) -> Generator[None]:
    """Within this context the backward pass of the model follows the rules above.

    Norms are known by their names, activations by transformers' list; attention is known where it
    calls torch's softmax or scaled dot product.
    """
    handles = []
    for module in [*(m for block in model.blocks for m in block.modules()), *model.tail]:
        if isinstance(module, _activations()):
            handles.append(module.register_forward_hook(_as_line))
        elif "LayerNorm" in type(module).__name__:
            handles.append(module.register_forward_hook(_as_centred_line))
        elif "Norm" in type(module).__name__:  # RMSNorm in its many names
            handles.append(module.register_forward_hook(_as_line))
    sites = model.sites("neuron") if model.anatomy.has("neuron") else []
    halved: dict[Site, Change] = {site: _half for site in sites if _is_gated(model, site)}
    try:
        with hooked(model, halved, rows), _FrozenAttention():
            yield
    finally:
        for handle in handles:
            handle.remove()


class _FrozenAttention(TorchFunctionMode):
    """Attention weights are constants: no gradient reaches queries and keys, or a softmax."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if func is functional.scaled_dot_product_attention:
            names = ("query", "key")
            args = tuple(a.detach() if i < 2 else a for i, a in enumerate(args))
            kwargs = {k: v.detach() if k in names else v for k, v in kwargs.items()}
        made = func(*args, **kwargs)
        return made.detach() if func in _SOFTMAX else made


_SOFTMAX = (functional.softmax, torch.softmax, Tensor.softmax)


def _line(x: Tensor, y: Tensor) -> Tensor:
    """x times what makes it y, held constant."""
    slope = torch.where(x == 0, torch.zeros_like(x), y / torch.where(x == 0, 1.0, x).to(x.dtype))
    return y.detach() + (x - x.detach()) * slope.detach()


def _as_line(_module: nn.Module, args: tuple[Any, ...], made: Tensor) -> Tensor:
    return _line(args[0], made)


def _as_centred_line(module: Any, args: tuple[Any, ...], made: Tensor) -> Tensor:
    centred = args[0] - args[0].mean(-1, keepdim=True)
    bias = 0.0 if getattr(module, "bias", None) is None else module.bias
    return made.detach() + _line(centred, made - bias) - (made - bias).detach()


def _half(value: Tensor) -> Tensor:
    return value / 2 + (value / 2).detach()


def _is_gated(model: Model, site: Site) -> bool:
    """Whether the neurons are products of a gate and what it gates."""
    path = model.anatomy.path(site).rpartition(".")[0]
    return any("gate" in name for name, _ in model.module(path).named_children())


@cache
def _activations() -> tuple[type[nn.Module], ...]:
    from transformers.activations import ACT2CLS

    return tuple({c[0] if isinstance(c, tuple) else c for c in ACT2CLS.values()})
