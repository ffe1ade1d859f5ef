"""Read or replace values at sites while the model runs, by plain torch hooks.

The one idea: at every hooked site a function gets the value `[row, token, width]` and gives the
value to go on with. Reading gives back what it got; replacing gives back something else.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Mapping
from typing import Any

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from twinlens.model.anatomy import Site
from twinlens.model.model import Model
from twinlens.run.experts import hook_experts

Change = Callable[[Tensor], Tensor]
IN_MLP = ("mlp", "neuron")  # the kinds of site inside a block's MLP


@contextlib.contextmanager
def hooked(model: Model, changes: Mapping[Site, Change], rows: int) -> Generator[None]:
    """Within this context every site in `changes` passes its value through its function.

    `rows` is the batch size of the passes within: some families flatten `[row, token]` into one
    axis inside a block; the functions always see `[row, token, width]`.
    """
    handles = [h for site, change in changes.items() for h in _hook(model, site, change, rows)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextlib.contextmanager
def hooked_embedding(model: Model, change: Change | None) -> Generator[None]:
    """Within this context the output of the token embedding passes through `change`."""
    handle = None
    if change is not None:
        noised = change
        handle = model.embedding.register_forward_hook(lambda *call: noised(call[-1]))
    try:
        yield
    finally:
        if handle is not None:
            handle.remove()


@contextlib.contextmanager
def mlp_of_last_token(model: Model, layer: int) -> Generator[None]:
    """Within this context a block's MLP runs at the last token alone.

    What it makes there is added to the residual of every token, which makes the others' wrong: for
    a last block, of which only the last token is read. Families whose MLP is no module of its own
    are left as they are.
    """
    mlp = mlp_module(model, layer)
    if mlp is None:
        yield
        return

    rows, tokens = 0, 0

    def last(value: Tensor) -> Tensor:
        nonlocal rows, tokens
        if value.dim() != 3:
            return value
        rows, tokens = value.shape[:2]
        return value[:, -1:]

    def before(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return _in_input(args, kwargs, last)

    def after(_module: nn.Module, _args: Any, made: Any) -> Any:
        return _in_output(made, lambda value: _at_the_end(value, rows, tokens)) if tokens else made

    handles = [
        mlp.register_forward_pre_hook(before, with_kwargs=True),
        mlp.register_forward_hook(after),
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _at_the_end(value: Tensor, rows: int, tokens: int) -> Tensor:
    """Rows of one token as rows of so many, the others at zero; two axes stay two."""
    if value.numel() != rows * value.shape[-1]:
        return value  # the module has spread it already, by adding the residual (BLOOM)
    padded = value.new_zeros(rows, tokens, value.shape[-1])
    padded[:, -1] = value.reshape(rows, -1)
    return padded if value.dim() == 3 else padded.flatten(0, 1)


def mlp_module(model: Model, layer: int) -> nn.Module | None:
    """The module that holds a block's neurons, where that is not the block itself."""
    if not model.anatomy.has("neuron"):
        return None
    holder = model.path(Site("neuron", layer)).rpartition(".")[0]
    return None if holder == model.anatomy.path(Site("block", layer)) else model.module(holder)


def _hook(model: Model, site: Site, change: Change, rows: int) -> list[RemovableHandle]:
    apply = _in_three_axes(change, rows)
    if site.kind == "neuron" and (mixture := model.experts(site.layer)) is not None:
        return hook_experts(mixture, apply)
    module = model.module(model.anatomy.path(site))
    if not model.anatomy.is_input(site.kind):
        return [module.register_forward_hook(lambda _m, _args, made: _in_output(made, apply))]

    def before(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return _in_input(args, kwargs, apply)

    return [module.register_forward_pre_hook(before, with_kwargs=True)]


def _in_three_axes(change: Change, rows: int) -> Change:
    def apply(value: Tensor) -> Tensor:
        if value.dim() == 3:
            return change(value)
        return change(value.view(rows, -1, value.shape[-1])).view(value.shape)

    return apply


def _in_output(made: Any, change: Change) -> Any:
    if isinstance(made, tuple | list):
        return type(made)((change(made[0]), *made[1:]))
    return change(made)


def _in_input(args: tuple[Any, ...], kwargs: dict[str, Any], change: Change) -> Any:
    if args:
        return (change(args[0]), *args[1:]), kwargs
    name = "hidden_states" if "hidden_states" in kwargs else next(iter(kwargs))
    return args, {**kwargs, name: change(kwargs[name])}
