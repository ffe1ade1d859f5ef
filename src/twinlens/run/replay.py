"""The fast exact engine: only what a changed state can reach is run again.

A state changed at token t changes nothing before t and nothing below its block. So a restored run
is the base run's blocks from there on, over the tokens from t to the last, with the base run's keys
and values before them. The blocks run by their own forward, with the arguments that the base run
gave them, sliced; many cells share a pass. `twinlens.run.passes.restore` is the reference.
"""

from __future__ import annotations

import contextlib
import inspect
from collections import defaultdict
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from twinlens.errors import ReplayError
from twinlens.model.anatomy import Site
from twinlens.model.model import Model
from twinlens.run.batches import in_batches
from twinlens.run.hooks import Change, hooked
from twinlens.run.passes import Cell, Inputs, State, Values, last_logits

_CACHE_NAMES = ("past_key_values", "past_key_value", "layer_past")
_PER_TOKEN = ("position_ids", "cache_position")  # the last axis is the token
Score = Callable[[Float[Tensor, "row vocab"]], Float[Tensor, " row"]]


@dataclass(frozen=True)
class Tape:
    """What the base run gave to every block: residuals, arguments, keys and values.

    `residuals[l]` enters block l; the last one leaves the last block.
    """

    residuals: list[Float[Tensor, "sample token d_model"]]
    arguments: list[dict[str, Any]]
    keys: list[Float[Tensor, "sample head token width"]]
    values: list[Float[Tensor, "sample head token width"]]

    @property
    def samples(self) -> int:
        """Number of samples of the base run."""
        return int(self.residuals[0].shape[0])

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
            last_logits(model, inputs, list(rows), {})
        parts.append(recorder)

    size = max(1, batch_tokens // int(inputs.ids.shape[1]))
    for _ in in_batches(range(inputs.samples), size, run):
        pass
    for part in parts:
        part.refuse_gaps()

    def joined(name: str) -> list[Tensor]:
        return [torch.cat(layer) for layer in zip(*(getattr(p, name) for p in parts), strict=True)]

    return Tape(joined("residuals"), parts[0].arguments, joined("keys"), joined("values"))


def replay(
    model: Model,
    tape: Tape,
    source: Values,
    cells: Sequence[Cell],
    score: Score,
    *,
    batch_tokens: int,
    on_smaller: Callable[[int], None] | None = None,
) -> Iterator[tuple[list[int], Float[Tensor, "cell sample"]]]:
    """For each cell, the base run with the cell's states set to their values in `source`.

    All states of a cell must be at one token. Yields (numbers of the cells that are done, their
    scores), grouped by token. One pass holds at most `batch_tokens` tokens; out of memory halves
    it.
    """
    by_token: dict[int, list[int]] = defaultdict(list)
    for number, cell in enumerate(cells):
        by_token[_token_of(cell)].append(number)
    for token, numbers in by_token.items():
        ordered = sorted(numbers, key=lambda number: _start(cells[number]))
        size = max(1, batch_tokens // ((tape.tokens - token) * tape.samples))

        def run(chosen: Sequence[int], token: int = token) -> tuple[list[int], Tensor]:
            batch = _Batch(model, tape, source, [cells[number] for number in chosen], token)
            return list(chosen), score(batch.logits()).view(len(chosen), tape.samples)

        yield from in_batches(ordered, size, run, on_smaller)


def _token_of(cell: Cell) -> int:
    tokens = {state.token for state in cell}
    if len(tokens) != 1:
        raise ValueError(f"the states of a cell are at tokens {sorted(tokens)}; one is needed")
    return tokens.pop()


def _start(cell: Cell) -> int:
    """The first block that must run: that of the state, or the one after a whole residual."""
    return min(_block_of(state) for state in cell)


def _block_of(state: State) -> int:
    return state.site.layer + (state.site.kind == "block")


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
            cache = next((name for name in _CACHE_NAMES if name in names), _CACHE_NAMES[0])
            self.residuals.append(residual.detach())
            self.arguments.append(given | {"cache": cache})
            return (residual,), given | {cache: _Cache(self._keep)}

        return hook

    def _after(self, _block: Any, _args: Any, made: Any) -> None:
        self.residuals.append((made[0] if isinstance(made, tuple | list) else made).detach())

    def _keep(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        self._kept[layer] = keys.detach(), values.detach()
        return keys, values


class _Cache:
    """What an attention takes for its cache: it is given new keys and values, and gives all."""

    is_compileable = False

    def __init__(self, update: Callable[[int, Tensor, Tensor], tuple[Tensor, Tensor]]) -> None:
        self._update = update

    def update(
        self, key_states: Tensor, value_states: Tensor, layer_idx: int, *_: Any, **__: Any
    ) -> tuple[Tensor, Tensor]:
        return self._update(layer_idx, key_states, value_states)


class _Batch:
    """Cells at one token, run together: a cell joins at the first block that it changes."""

    def __init__(
        self, model: Model, tape: Tape, source: Values, cells: Sequence[Cell], token: int
    ) -> None:
        self.model, self.tape, self.source, self.token = model, tape, source, token
        self.cells = cells  # by first block, ascending
        self.samples = torch.arange(tape.samples)

    def logits(self) -> Float[Tensor, "row vocab"]:
        """Logits at the last token: the rows of the first cell, then those of the next, ..."""
        residual, joined = None, 0
        with torch.no_grad():
            for layer in range(_start(self.cells[0]), self.model.n_layers + 1):
                if residual is not None:  # states that leave the block before, in running rows
                    residual = self._with_block_states(residual, layer - 1)
                new = [c for c in self.cells[joined:] if _start(c) == layer]
                if new:
                    residual = self._joined_by(residual, new, layer)
                    joined += len(new)
                assert residual is not None
                if layer < self.model.n_layers:
                    residual = self._run(layer, residual)
            assert residual is not None
            return self.model.unembed(residual[:, -1]).float()

    def _joined_by(self, residual: Tensor | None, new: Sequence[Cell], layer: int) -> Tensor:
        rows = self.tape.residuals[layer][:, self.token :]
        rows = rows.repeat(len(new), 1, 1)
        entering = {Site("block", layer - 1)} if layer else {Site("embed", 0)}
        for number, cell in enumerate(new):
            for state in cell:
                if state.site in entering:
                    self._put(rows, number, state)
        if residual is None:
            return rows
        return torch.cat([residual.to(rows.device), rows])

    def _with_block_states(self, residual: Tensor, layer: int) -> Tensor:
        for number, cell in enumerate(self.cells[: residual.shape[0] // self.tape.samples]):
            for state in cell:
                if state.site == Site("block", layer):
                    self._put(residual, number, state)
        return residual

    def _put(self, rows: Tensor, number: int, state: State) -> None:
        """Write a state into all samples of a cell, at the first token of the rows."""
        n = self.tape.samples
        units = self.model.unit_slice(state.site.kind, state.unit, rows.shape[-1])
        value = self.source[state.site][:, state.token, units]
        rows[number * n : (number + 1) * n, 0, units] = value.to(rows.device, rows.dtype)

    def _run(self, layer: int, residual: Tensor) -> Tensor:
        arguments = self._sliced(self.tape.arguments[layer], residual)
        name = arguments.pop("cache")
        cells = residual.shape[0] // self.tape.samples
        arguments[name] = _Cache(lambda at, k, v: self._before_and(at, k, v, cells))
        with hooked(self.model, self._changes(layer, cells), residual.shape[0]):
            made = self.model.blocks[layer](residual, **arguments)
        return made[0] if isinstance(made, tuple | list) else made

    def _before_and(
        self, layer: int, keys: Tensor, values: Tensor, cells: int
    ) -> tuple[Tensor, Tensor]:
        """The base run's keys and values of the earlier tokens, and the new ones."""
        earlier = (t[layer][:, :, : self.token] for t in (self.tape.keys, self.tape.values))
        whole = [
            torch.cat([kept.repeat(cells, 1, 1, 1), made], dim=2)
            for kept, made in zip(earlier, (keys, values), strict=True)
        ]
        return whole[0], whole[1]

    def _changes(self, layer: int, cells: int) -> dict[Site, Change]:
        todo: dict[Site, list[tuple[int, State]]] = defaultdict(list)
        for number, cell in enumerate(self.cells[:cells]):
            for state in cell:
                if state.site.layer == layer and state.site.kind not in ("block", "embed"):
                    todo[state.site].append((number, state))

        def write(part: list[tuple[int, State]]) -> Change:
            def change(value: Tensor) -> Tensor:
                changed = value.clone()
                for number, state in part:
                    self._put(changed, number, state)
                return changed

            return change

        return {site: write(part) for site, part in todo.items()}

    def _sliced(self, arguments: dict[str, Any], residual: Tensor) -> dict[str, Any]:
        """The base run's arguments for the tokens from `token` on, for any number of rows."""
        sliced: dict[str, Any] = {}
        for name, value in arguments.items():
            if name == "attention_mask":
                sliced[name] = self._mask(value, residual)
            elif name in _PER_TOKEN and isinstance(value, Tensor):
                sliced[name] = (
                    value[..., self.token :][:1] if value.dim() > 1 else value[self.token :]
                )
            elif name == "position_embeddings" and value is not None:
                sliced[name] = tuple(part[:1, self.token :] for part in value)
            elif isinstance(value, Tensor):
                raise ReplayError(f"{self.model.name}: blocks take a tensor {name!r}")
            else:
                sliced[name] = value
        sliced.setdefault("attention_mask", self._mask(None, residual))
        return sliced

    def _mask(self, given: Tensor | None, residual: Tensor) -> Tensor:
        if given is not None:
            if given.dim() != 4:
                raise ReplayError(f"{self.model.name}: a mask of {given.dim()} axes")
            return given[:1, :, self.token :]
        tokens = torch.arange(self.tape.tokens, device=residual.device)
        return (tokens[None] <= tokens[self.token :, None])[None, None]
