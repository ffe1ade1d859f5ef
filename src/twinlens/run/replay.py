"""The fast exact engine: only what a changed state can reach is run again.

A state changed at token t changes nothing before t and nothing below its block. So a restored run
is the base run's blocks from there on, over the tokens from t to the last, with the base run's keys
and values before them. The blocks run by their own forward, with the arguments that the base run
gave them, sliced; many cells share a pass. `twinlens.run.passes.restore` is the reference.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from twinlens.errors import ReplayError
from twinlens.model.anatomy import Site
from twinlens.model.model import Model
from twinlens.run.batches import in_batches
from twinlens.run.hooks import Change, hooked
from twinlens.run.passes import Cell, Score, State, Values
from twinlens.run.tape import Cache, Tape

_PER_TOKEN = ("position_ids", "cache_position")  # the last axis is the token


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
    scores), grouped by token. One pass attends to at most `batch_tokens` tokens, those before the
    changed one included; out of memory halves that, for all that follow.
    """
    budget = batch_tokens

    def smaller(size: int) -> None:
        nonlocal budget
        if (halved := size * tape.tokens * tape.samples) < budget:
            budget = halved
            if on_smaller is not None:
                on_smaller(size)

    by_token: dict[int, list[int]] = defaultdict(list)
    for number, cell in enumerate(cells):
        by_token[_token_of(cell)].append(number)
    for token, numbers in by_token.items():
        ordered = sorted(numbers, key=lambda number: _start(cells[number]))
        size = max(1, budget // (tape.tokens * tape.samples))

        def run(chosen: Sequence[int], token: int = token) -> tuple[list[int], Tensor]:
            batch = _Batch(model, tape, source, [cells[number] for number in chosen], token)
            return list(chosen), score(batch.logits()).view(len(chosen), tape.samples)

        yield from in_batches(ordered, size, run, smaller)


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


class _Batch:
    """Cells at one token, run together: a cell joins at the first block that it changes."""

    def __init__(
        self, model: Model, tape: Tape, source: Values, cells: Sequence[Cell], token: int
    ) -> None:
        self.model, self.tape, self.source, self.token = model, tape, source, token
        self.cells = cells  # by first block, ascending

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
            return self.model.unembed(residual[:, -1]).float().to(self.model.device)

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
        arguments[name] = Cache(lambda at, k, v: self._before_and(at, k, v, cells))
        with hooked(self.model, self._changes(layer, cells), residual.shape[0]):
            made = self._block(layer, residual, arguments)
        return made[0] if isinstance(made, tuple | list) else made

    def _block(self, layer: int, residual: Tensor, arguments: dict[str, Any]) -> Any:
        try:
            return self.model.blocks[layer](residual, **arguments)
        except (TypeError, AttributeError, IndexError) as error:
            raise ReplayError(
                f"{self.model.name}: block {layer} cannot be replayed: {error}"
            ) from error

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
                if not (isinstance(value, tuple) and all(part.dim() == 3 for part in value)):
                    raise ReplayError(f"{self.model.name}: blocks take unknown {name!r}")
                sliced[name] = tuple(part[:1, self.token :] for part in value)
            elif value is None or isinstance(value, bool | int | float | str):
                sliced[name] = value
            else:
                raise ReplayError(
                    f"{self.model.name}: blocks take {name!r}, a {type(value).__name__}"
                )
        sliced.setdefault("attention_mask", self._mask(None, residual))
        return sliced

    def _mask(self, given: Tensor | None, residual: Tensor) -> Tensor:
        if given is not None:
            if not isinstance(given, Tensor) or given.dim() != 4:
                raise ReplayError(f"{self.model.name}: blocks take an unknown 'attention_mask'")
            return given[:1, :, self.token :]
        tokens = torch.arange(self.tape.tokens, device=residual.device)
        return (tokens[None] <= tokens[self.token :, None])[None, None]
