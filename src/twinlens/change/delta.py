"""What a change wrote over, kept so that it can be put back bit for bit.

The one idea: the old content of the elements whose bits changed, however they came to change: a few
rows of a pruned model, or whole tensors after noise.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from twinlens.errors import ChangeError
from twinlens.results.writing import written

_BITS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
_SPARSE = 3  # an element alone costs its place besides: about so many times its own size


def bits(tensor: Tensor) -> Tensor:
    """The same memory as whole numbers, in one row: equal where the bits are."""
    plain = tensor.detach().cpu().contiguous().reshape(-1)
    return plain.view(_BITS[plain.element_size()])


def difference(before: Mapping[str, Tensor], after: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The old content of what is not the same bit for bit.

    For each tensor that changed `NAME|all` (the old tensor), or `NAME|at` (places in it) and
    `NAME|was` (what was there), whichever is smaller.
    """
    kept: dict[str, Tensor] = {}
    for name, old in before.items():
        changed = (bits(old) != bits(after[name])).nonzero()[:, 0]
        if len(changed) * _SPARSE >= old.numel() and len(changed):
            kept[f"{name}|all"] = old.detach().cpu().clone().contiguous()
        elif len(changed):
            kept[f"{name}|at"] = changed
            kept[f"{name}|was"] = old.detach().cpu().reshape(-1)[changed].clone()
    return kept


def taken_back(
    now: Mapping[str, Tensor], kept: Mapping[str, Tensor], where: str
) -> dict[str, Tensor]:
    """The tensors as they were before the change whose `difference` is given.

    Raises `ChangeError` (about `where`) where it does not fit the tensors.
    """
    was: dict[str, Tensor] = {}
    for key, values in kept.items():
        name, _, part = key.rpartition("|")
        there = now.get(name)
        if there is None:
            raise ChangeError(f"{where} is about {name!r}, which the model does not have")
        if part == "all" and values.shape == there.shape and values.dtype == there.dtype:
            was[name] = values
        elif part == "was" and values.dtype == there.dtype:
            at, flat = kept[f"{name}|at"], there.detach().cpu().reshape(-1).clone()
            if len(at) != len(values) or int(at.max()) >= len(flat):
                raise ChangeError(f"{where} does not fit {name!r}")
            flat[at] = values
            was[name] = flat.view(there.shape)
        elif part != "at":
            raise ChangeError(f"{where} does not fit {name!r}")
    return was


def save_difference(kept: Mapping[str, Tensor], path: Path) -> str:
    """Write it whole or not at all; returns the SHA-256 of the file."""
    temporary = path.with_name(f".{path.name}.writing")
    with written(path, ChangeError):
        try:
            save_file(dict(kept), temporary)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
        return hashlib.sha256(path.read_bytes()).hexdigest()


def open_difference(path: Path, sha256: str) -> dict[str, Tensor]:
    """Read it. Raises `ChangeError` where it is missing, damaged, or not the one that was kept."""
    try:
        found = hashlib.sha256(path.read_bytes()).hexdigest()
        if found != sha256:
            raise ChangeError(f"{path} is not what was kept (SHA-256 {found[:12]}): it is damaged")
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise ChangeError(f"{path} cannot be read: {error}") from error
