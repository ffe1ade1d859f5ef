"""Passes with something put in at a down-projection, and the logits of chosen places."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator

import torch
from jaxtyping import Float, Int
from torch import Tensor

from twinlens.change.parts import Part, Projection, projection, refuse_missing
from twinlens.errors import ChangeError
from twinlens.model.anatomy import Site
from twinlens.model.model import Model
from twinlens.run.hooks import hooked
from twinlens.see.question import whole


def down_projection(model: Model, layer: int) -> Projection:
    """The projection by which the neurons of a layer write.

    Raises `InputError` for what is no layer of the model, `ChangeError` where it has no plain
    down-projection, or has its weights elsewhere.
    """
    whole("layer", layer, 0)
    refuse_missing(model, [Part("mlp", int(layer))])
    found = projection(model, "mlp", int(layer))
    if found.weight.device.type == "meta":
        raise ChangeError(
            f"{model.name}: {found.weight_name} is offloaded; load the model without offloading"
        )
    return found


@contextlib.contextmanager
def frozen(model: Model) -> Generator[None]:
    """Within this context no weight asks for a gradient, so a graph begins where one is put in."""
    asking = [weight for weight in model.hf.parameters() if weight.requires_grad]
    try:
        for weight in asking:
            weight.requires_grad_(False)
        yield
    finally:
        for weight in asking:
            weight.requires_grad_(True)


@contextlib.contextmanager
def projected(
    model: Model, layer: int, rows: int, change: Callable[[Tensor, Tensor], Tensor]
) -> Generator[None]:
    """Within this context `change(input, output)`, both `[row, token, width]`, takes the place of
    what the down-projection of a layer gives."""
    module = model.module(model.anatomy.path(Site("neuron", layer)))

    def after(_module: object, args: tuple[Tensor, ...], made: Tensor) -> Tensor:
        given, gives = (value.view(rows, -1, value.shape[-1]) for value in (args[0], made))
        return change(given, gives).to(made.dtype).view(made.shape)

    handle = module.register_forward_hook(after)
    try:
        yield
    finally:
        handle.remove()


def logits_at(
    model: Model, ids: Int[Tensor, "row token"], asked: Int[Tensor, "row place"]
) -> Float[Tensor, "row place vocab"]:
    """Logits (float32) at some places of each row; no others are made."""
    kept: list[Tensor] = []

    def keep(value: Tensor) -> Tensor:
        kept.append(value)
        return value

    last = Site("block", model.n_layers - 1)
    with hooked(model, {last: keep}, len(ids)):
        model.hf(input_ids=ids.to(model.device), use_cache=False, **model.last_logits_only)
    (residual,) = kept
    row = torch.arange(len(ids), device=residual.device)[:, None]
    return model.unembed(residual[row, asked.to(residual.device)]).float()


def keys_at(
    model: Model, layer: int, ids: Int[Tensor, "row token"], at: Int[Tensor, " row"]
) -> tuple[Float[Tensor, "row neuron"], Float[Tensor, "row d_model"]]:
    """What enters and what leaves the down-projection of a layer at one token of each row."""
    kept: list[tuple[Tensor, Tensor]] = []
    row = torch.arange(len(ids), device="cpu")

    def keep(given: Tensor, made: Tensor) -> Tensor:
        kept.append((given[row, at], made[row, at]))
        return made

    with torch.no_grad(), projected(model, layer, len(ids), keep):
        model.hf(input_ids=ids.to(model.device), use_cache=False, **model.last_logits_only)
    (found,) = kept
    return found
