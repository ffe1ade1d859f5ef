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

Change = Callable[[Tensor], Tensor]
IN_MLP = ("mlp", "neuron")  # the kinds of site inside a block's MLP


@contextlib.contextmanager
def hooked(model: Model, changes: Mapping[Site, Change], rows: int) -> Generator[None]:
    """Within this context every site in `changes` passes its value through its function.

    `rows` is the batch size of the passes within: some families flatten `[row, token]` into one
    axis inside a block; the functions always see `[row, token, width]`.
    """
    handles = [_hook(model, site, change, rows) for site, change in changes.items()]
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

    def before(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return _in_input(args, kwargs, lambda value: value[:, -1:] if value.dim() == 3 else value)

    handle = mlp.register_forward_pre_hook(before, with_kwargs=True)
    try:
        yield
    finally:
        handle.remove()


def mlp_module(model: Model, layer: int) -> nn.Module | None:
    """The module that holds a block's neurons, where that is not the block itself."""
    if not model.anatomy.has("neuron"):
        return None
    holder = model.anatomy.path(Site("neuron", layer)).rpartition(".")[0]
    return None if holder == model.anatomy.path(Site("block", layer)) else model.module(holder)


def _hook(model: Model, site: Site, change: Change, rows: int) -> RemovableHandle:
    module = model.module(model.anatomy.path(site))
    apply = _in_three_axes(change, rows)
    if not model.anatomy.is_input(site.kind):
        return module.register_forward_hook(lambda _m, _args, made: _in_output(made, apply))

    def before(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return _in_input(args, kwargs, apply)

    return module.register_forward_pre_hook(before, with_kwargs=True)


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
