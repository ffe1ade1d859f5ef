"""One base run on tape: what entered every block, with which arguments, and its keys and values."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from twinlens.errors import ReplayError
from twinlens.model.model import Model
from twinlens.run.batches import in_batches
from twinlens.run.passes import Inputs, last_logits

_CACHE_NAMES = ("cache", "past_key_values", "past_key_value", "layer_past")


@dataclass(frozen=True)
class Tape:
    """What the base run gave to every block: residuals, arguments, keys and values.

    `residuals[l]` enters block l; the last one leaves the last block.
    """

    residuals: list[Float[Tensor, "sample token d_model"]]
    arguments: list[dict[str, Any]]
    keys: list[Float[Tensor, "sample head token width"]]
    values: list[Float[Tensor, "sample heads token size"]]

    @property
    def samples(self) -> int:
        """Number of samples of the base run."""
        return int(self.residuals[0].shape[0])

    def logits(self, model: Model) -> Float[Tensor, "sample vocab"]:
        """The base run's logits at the last token."""
        with torch.no_grad():
            return model.unembed(self.residuals[-1][:, -1]).float().to(model.device)

    @property
    def tokens(self) -> int:
        """Number of tokens of the base run."""
        return int(self.residuals[0].shape[1])


def record(model: Model, inputs: Inputs, *, batch_tokens: int) -> Tape:
    """Run `inputs` once and keep what a replay needs. Raises `ReplayError` where it cannot."""
    parts: list[_Recorder] = []

    def run(rows: Sequence[int]) -> None:
        recorder = _Recorder(model)
        with recorder.listening():
            try:
                last_logits(model, inputs, list(rows), {})
            except (TypeError, AttributeError) as error:
                raise ReplayError(
                    f"{model.name}: keys and values do not tell all: {error}"
                ) from error
        parts.append(recorder)

    size = max(1, batch_tokens // int(inputs.ids.shape[1]))
    for _ in in_batches(range(inputs.samples), size, run):
        pass
    for part in parts:
        part.refuse_gaps()

    def joined(name: str) -> list[Tensor]:
        return [torch.cat(layer) for layer in zip(*(getattr(p, name) for p in parts), strict=True)]

    return Tape(joined("residuals"), parts[0].arguments, joined("keys"), joined("values"))


class _Recorder:
    """Keeps what enters each block and what its attention would put into a cache."""

    def __init__(self, model: Model) -> None:
        self.model = model
        n = model.n_layers
        self.residuals: list[Tensor] = []
        self.arguments: list[dict[str, Any]] = []
        self._kept: list[tuple[Tensor, Tensor] | None] = [None] * n

    @property
    def keys(self) -> list[Tensor]:
        return [kept[0] for kept in self._kept if kept is not None]

    @property
    def values(self) -> list[Tensor]:
        return [kept[1] for kept in self._kept if kept is not None]

    @contextlib.contextmanager
    def listening(self) -> Generator[None]:
        blocks = self.model.blocks
        handles = [
            block.register_forward_pre_hook(self._before(layer), with_kwargs=True)
            for layer, block in enumerate(blocks)
        ]
        handles.append(blocks[-1].register_forward_hook(self._after))
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def refuse_gaps(self) -> None:
        for layer, kept in enumerate(self._kept):
            if kept is None:
                raise ReplayError(
                    f"{self.model.name}: the attention of block {layer} asks for no cache"
                )

    def _before(self, layer: int) -> Callable[..., Any]:
        names = list(inspect.signature(self.model.blocks[layer].forward).parameters)

        def hook(_block: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            given = dict(zip(names, args, strict=False)) | kwargs
            residual = given.pop(names[0])
            cache = next((n for n in _CACHE_NAMES if n in names or n in given), _CACHE_NAMES[1])
            self.residuals.append(residual.detach())
            self.arguments.append(given | {"cache": cache})
            return (residual,), given | {cache: Cache(self._keep)}

        return hook

    def _after(self, _block: Any, _args: Any, made: Any) -> None:
        self.residuals.append((made[0] if isinstance(made, tuple | list) else made).detach())

    def _keep(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        self._kept[layer] = keys.detach(), values.detach()
        return keys, values


class Cache:
    """What an attention takes for its cache: it is given new keys and values, and gives all."""

    def __init__(
        self, update: Callable[[int, Tensor, Tensor], tuple[Tensor, Tensor]], before: int = 0
    ) -> None:
        self._update, self._before = update, before

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(
            f"a block asks its cache for more than keys and values ({name!r}), as one does that"
            " keeps a state of its own from token to token"
        )

    def get_seq_length(self, *_: Any) -> int:
        """How many tokens were read before."""
        return self._before

    def update(
        self, key_states: Tensor, value_states: Tensor, layer_idx: int, *_: Any, **__: Any
    ) -> tuple[Tensor, Tensor]:
        """All keys and values of a layer, the new ones at the end."""
        return self._update(layer_idx, key_states, value_states)
