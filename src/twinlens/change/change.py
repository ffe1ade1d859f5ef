"""A change is a value: it says which tensors become what; it is put in and taken out bit for bit.

Everything that alters weights (silencing, noise, pruning, an edit, training) is a `Change`.
`changed` applies some for a while; a `Copy` keeps them in files, with the way back.
"""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from twinlens.errors import ChangeError
from twinlens.model.model import Model, find_module
from twinlens.model.weights import why_not_plain
from twinlens.run.check import checked

Values = Mapping[str, Tensor]  # name of a parameter of `model.hf` -> its new content


@runtime_checkable
class Change(Protocol):
    """What can be done to a model's weights, whatever it is."""

    def values(self, model: Model) -> Values:
        """The new content of the tensors that change; the model itself is not touched.

        A name that ends in `.bias` may be new, where the module has none.
        """
        ...

    def plain(self) -> dict[str, Any]:
        """What was done, as JSON has it: `kind`, the parts or tensors, the rule, the seed."""
        ...


@dataclass(frozen=True, eq=False)
class Assigned:
    """Tensors that were computed elsewhere (by training, by an edit), and the story of them."""

    tensors: Values
    about: Mapping[str, Any] = field(default_factory=lambda: {"kind": "assigned"})

    def values(self, model: Model) -> Values:
        """The tensors as they were given."""
        return self.tensors

    def plain(self) -> dict[str, Any]:
        """What was said of them, and their names."""
        return {"kind": "assigned", **self.about, "tensors": sorted(self.tensors)}


@contextlib.contextmanager
def changed(model: Model, *changes: Change) -> Generator[Model]:
    """Within this context the model's weights are changed, one change after the other; after it
    they are what they were, bit for bit, whatever happened.

    Yields the same model. Raises `ChangeError` where a change does not fit the model, and then
    nothing is changed. Not for use from several threads at once.
    """
    checked(model)  # now: an MLP that writes nothing any more would fail the checks of its parts
    before: dict[str, Tensor | None] = {}
    try:
        for change in changes:
            write(model, change.values(model), before)
        yield model
    finally:
        for name, tensor in before.items():
            _put(model, name, tensor)
        forget(model)


def write(model: Model, values: Values, before: dict[str, Tensor | None] | None = None) -> None:
    """Put new content into the model's tensors. `before` takes what was there, where it has none
    yet (None: there was no such bias).

    Raises `ChangeError` for a tensor that the model does not have, or of another shape or type.
    """
    for name, tensor in values.items():
        _refuse_unfit(model, name, tensor)
    for name, tensor in values.items():
        there = tensor_of(model, name)
        if before is not None and name not in before:
            before[name] = None if there is None else there.detach().clone()
        _put(model, name, tensor)
    forget(model)


def tensor_of(model: Model, name: str) -> Tensor | None:
    """The parameter with this name, or None where a module has no bias.

    Raises `ChangeError` where there is no place for such a parameter.
    """
    path, _, last = name.rpartition(".")
    module = find_module(model.hf, path)
    if module is None or last not in module._parameters:
        raise ChangeError(f"{model.name} has no parameter {name!r}")
    return module._parameters[last]


def forget(model: Model) -> None:
    """Drop what was remembered of the embedding's numbers; they may be others now."""
    for name in ("embedding_std", "embedding_moments"):
        model._memo.pop(name, None)


def _put(model: Model, name: str, tensor: Tensor | None) -> None:
    path, _, last = name.rpartition(".")
    module: Any = find_module(model.hf, path)
    there = module._parameters[last]
    if tensor is None or there is None:
        new = None if tensor is None else nn.Parameter(tensor.clone(), requires_grad=False)
        module.register_parameter(last, new)
        return
    with torch.no_grad():
        there.copy_(tensor)


def _refuse_unfit(model: Model, name: str, tensor: Tensor) -> None:
    there = tensor_of(model, name)
    if there is None:
        if not name.endswith(".bias"):
            raise ChangeError(f"{model.name} has no parameter {name!r}")
        return
    if there.device.type == "meta":
        raise ChangeError(f"{model.name}: {name} is offloaded; load the model without offloading")
    if (why := why_not_plain(there)) is not None:
        raise ChangeError(
            f"{model.name}: {name} is {why} and is not written; load the model without quantisation"
            " to change it"
        )
    if there.shape != tensor.shape or there.dtype != tensor.dtype:
        raise ChangeError(
            f"{name} is {there.dtype} {tuple(there.shape)}, the change has"
            f" {tensor.dtype} {tuple(tensor.shape)}"
        )
    if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
        raise ChangeError(f"{name} would hold values that are not finite")
