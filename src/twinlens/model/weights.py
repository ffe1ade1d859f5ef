"""Weights as numbers: whether they are plain ones that can be written back, and their hash."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from twinlens.errors import ChangeError


def why_not_plain(tensor: Tensor) -> str | None:
    """What forbids to read a parameter as numbers and to write it; None: nothing."""
    if type(tensor) not in (Tensor, nn.Parameter):
        return f"quantised (a {type(tensor).__name__})"
    if not tensor.is_floating_point() or tensor.element_size() == 1:
        return f"quantised ({tensor.dtype})"
    return None


def refuse_other_weights(name: str, path: str, module: Any) -> None:
    """Raise `ChangeError` where a module's weights cannot be written: they are quantised, or an
    adapter stands beside them."""
    if hasattr(module, "base_layer"):
        raise ChangeError(
            f"{name}: {path} has an adapter beside its weights; merge it first:"
            " model.merge_and_unload()"
        )
    for own, tensor in module._parameters.items():
        if tensor is not None and (why := why_not_plain(tensor)) is not None:
            raise ChangeError(
                f"{name}: {path}.{own} is {why} and is not written; load the model without"
                " quantisation to change it"
            )


def plain_tensors(state: Mapping[str, Any]) -> Iterator[tuple[str, Tensor]]:
    """The tensors of a state, and of those that are made of others (torchao) these."""
    for name, tensor in state.items():
        if not isinstance(tensor, Tensor):
            continue
        if type(tensor) not in (Tensor, nn.Parameter) and hasattr(tensor, "__tensor_flatten__"):
            inner: Any = tensor
            parts = inner.__tensor_flatten__()[0]
            yield from plain_tensors({f"{name}.{part}": getattr(inner, part) for part in parts})
        else:
            yield name, tensor.detach()


def stored_tensors(root: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Parameters and lasting buffers by name, as they are in memory, and the scales that
    bitsandbytes keeps beside quantised ones: with other scales the same bytes are other numbers."""
    for path, module in root.named_modules():
        prefix = f"{path}." if path else ""
        lasting = module._buffers.keys() - module._non_persistent_buffers_set
        kept = {name: module._buffers[name] for name in lasting} | module._parameters
        for own, tensor in kept.items():
            if tensor is None:
                continue
            yield from plain_tensors({prefix + own: tensor})
            if why_not_plain(tensor) is not None:
                yield from _scales(f"{prefix}{own}", tensor)
        yield from _scales(f"{prefix}weight", getattr(module, "state", None))  # after a first pass


def _scales(name: str, holder: Any) -> Iterator[tuple[str, Tensor]]:
    if (state := getattr(holder, "quant_state", None)) is not None:
        yield from _scales(name, state)  # a weight of 4 bits shows them as its own, too
        return
    for own in ("SCB", "absmax", "code", "offset"):
        if isinstance(scale := getattr(holder, own, None), Tensor):
            yield f"{name}.{own}", scale.detach()
    if (second := getattr(holder, "state2", None)) is not None:
        yield from _scales(f"{name}.state2", second)


def hash_tensors(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 over the names, types, shapes and bytes of tensors, in hexadecimal."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name]
        if tensor.device.type == "meta":  # offloaded: its bytes are elsewhere
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)} offloaded\n".encode())
            continue
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        plain = tensor.to("cpu").contiguous().reshape(-1)
        digest.update(plain.view(torch.uint8).numpy().data)
    return digest.hexdigest()
