"""The fast exact engine: only what a changed state can reach is run again.

A state changed at token t changes nothing before t and nothing below its block. So a restored run
is the base run's blocks from there on, over the tokens from t to the last, with the base run's keys
and values before them. The blocks run by their own forward, with the arguments that the base run
gave them, sliced; many cells share a pass, those of neighbouring tokens too where a pass would be
small. `twinlens.run.passes.restore` is the reference.
"""

from __future__ import annotations

import contextlib
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from twinlens.errors import ReplayError
from twinlens.model.anatomy import Site
from twinlens.model.model import Model
from twinlens.run.batches import in_batches
from twinlens.run.cells import groups, is_added, start
from twinlens.run.fused import fused
from twinlens.run.hooks import IN_MLP, Change, hooked, mlp_of_last_token
from twinlens.run.passes import Cell, Score, Values
from twinlens.run.tape import Cache, Tape

_PER_TOKEN = ("position_ids", "cache_position")  # the last axis is the token
_PER_KEY = ("alibi", "position_bias")  # ALiBi: the last axis is the key, and all keys stay


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
    scores), first tokens first. One pass attends to at most `batch_tokens` tokens, those before the
    changed one included; out of memory halves that, for all that follow.
    """
    budget = batch_tokens

    def smaller(size: int) -> None:
        nonlocal budget
        if (halved := size * tape.tokens * tape.samples) < budget:
            budget = halved
            if on_smaller is not None:
                on_smaller(size)

    for token, numbers in groups(cells, tape):
        ordered = sorted(numbers, key=lambda number: start(model, cells[number]))
        size = max(1, budget // (tape.tokens * tape.samples))
        span = max(cells[number][0].token for number in numbers) - token + 1
        known = _Known(token, span, {})

        def run(chosen: Sequence[int], known: _Known = known) -> tuple[list[int], Tensor]:
            batch = _Batch(model, tape, source, [cells[number] for number in chosen], known)
            with fused(model):
                logits = batch.logits()
            return list(chosen), score(logits).view(len(chosen), tape.samples)

        yield from in_batches(ordered, size, run, smaller)


def _is_empty(value: Any) -> bool:
    """Whether it is a store for later blocks into which none put anything."""
    return isinstance(value, Mapping) and not value


class _Known(NamedTuple):
    """What the batches of a group share: their tokens, and the base run's values there."""

    token: int
    span: int
    values: dict[Site, Tensor]


class _Batch:
    """Cells run together from one token on: a cell joins at the first block that it changes."""

    def __init__(
        self,
        model: Model,
        tape: Tape,
        source: Values,
        cells: Sequence[Cell],
        known: _Known,
    ) -> None:
        self.model, self.tape, self.source, self.token = model, tape, source, known.token
        self.cells = cells  # by first block, ascending
        self.starts = [start(model, cell) for cell in cells]
        self.known = known
        self.inside: dict[int, set[Site]] = defaultdict(set)
        for cell in cells:
            if not is_added(model, cell):
                for site, *_ in cell:
                    if site.kind not in ("block", "embed"):
                        self.inside[site.layer].add(site)

    def logits(self) -> Float[Tensor, "row vocab"]:
        """Logits at the last token: the rows of the first cell, then those of the next, ..."""
        residual, joined = None, 0
        with torch.no_grad():
            for layer in range(self.starts[0], self.model.n_layers + 1):
                if residual is not None:  # states that leave the block before, in running rows
                    self._put(residual, self.cells[:joined], {Site("block", layer - 1)})
                until = bisect_right(self.starts, layer)
                if until > joined:
                    residual = self._joined_by(residual, self.cells[joined:until], layer)
                    joined = until
                assert residual is not None
                if layer < self.model.n_layers:
                    residual = self._run(layer, residual)
            assert residual is not None
            return self.model.unembed(residual[:, -1]).float().to(self.model.device)

    def _offset(self, cell: Cell) -> int:
        """Where the cell's token is in the rows."""
        return cell[0].token - self.token

    def _joined_by(self, residual: Tensor | None, new: Sequence[Cell], layer: int) -> Tensor:
        rows = self.tape.residuals[layer][:, self.token :].repeat(len(new), 1, 1)
        self._put(rows, new, {Site("block", layer - 1)} if layer else {Site("embed", 0)})
        for kind in ("mlp", "neuron"):
            of_kind = [n for n, cell in enumerate(new) if is_added(self.model, cell, kind)]
            if of_kind:
                difference = self._difference(Site(kind, layer - 1), [new[n] for n in of_kind])
                cells = rows.view(len(new), self.tape.samples, *rows.shape[1:])
                offsets = [self._offset(new[n]) for n in of_kind]
                cells[of_kind, :, offsets] += difference.to(rows.device, rows.dtype)
        return rows if residual is None else torch.cat([residual.to(rows.device), rows])

    def _difference(self, site: Site, cells: Sequence[Cell]) -> Float[Tensor, "cell sample width"]:
        """What the cells' units of an MLP add to the residual, beyond what the base run has."""
        whole = self._base_value(site)
        offsets = [self._offset(cell) for cell in cells]
        changed = whole[:, offsets].transpose(0, 1).flatten(0, 1)[:, None].contiguous()
        self._put(changed, cells, {site}, alone=True)
        if site.kind == "neuron":
            whole = self.model.mlp_of_neurons(site.layer, whole)
            changed = self.model.mlp_of_neurons(site.layer, changed)
        base = whole[:, offsets].transpose(0, 1)
        return (changed.view(base.shape) - base) * self.model.added_times

    def _base_value(self, site: Site) -> Float[Tensor, "sample token width"]:
        """The base run's value at a site, at the group's tokens."""
        if site not in self.known.values:
            kept: list[Tensor] = []

            def keep(value: Tensor) -> Tensor:
                kept.append(value[:, : self.known.span].clone())
                return value

            self._run(site.layer, self.tape.residuals[site.layer][:, self.token :], {site: keep})
            self.known.values[site] = kept[0]
        return self.known.values[site]

    def _put(
        self, rows: Tensor, cells: Sequence[Cell], sites: Collection[Site], *, alone: bool = False
    ) -> None:
        """Write the cells' states at some sites into their rows (which have, if they stand alone,
        the cell's token only)."""
        todo: dict[tuple[Site, bool], tuple[list[int], list[int]]] = defaultdict(lambda: ([], []))
        for number, cell in enumerate(cells):
            for site, _, unit in cell:
                if site in sites:
                    numbers, units = todo[site, unit is None]
                    named = unit if isinstance(unit, tuple) else (unit or 0,)
                    numbers.extend([number] * len(named))
                    units.extend(named)
        for (site, whole), (numbers, units) in todo.items():
            size = rows.shape[-1] if whole else self.model.unit_size(site.kind, rows.shape[-1])
            offsets = [self._offset(cells[number]) for number in numbers]
            value = self.source[site].unflatten(-1, (-1, size))
            picked = value[:, [self.token + offset for offset in offsets], units].transpose(0, 1)
            parts = rows.view(-1, self.tape.samples, rows.shape[1], rows.shape[2] // size, size)
            at = [0] * len(offsets) if alone else offsets
            parts[numbers, :, at, units] = picked.to(rows.device, rows.dtype)

    def _run(
        self, layer: int, residual: Tensor, changes: Mapping[Site, Change] | None = None
    ) -> Tensor:
        arguments = self._sliced(self.tape.arguments[layer], residual)
        name = arguments.pop("cache")
        cells = residual.shape[0] // self.tape.samples
        arguments[name] = Cache(lambda at, k, v: self._before_and(at, k, v, cells), self.token)
        if changes is None:
            changes = self._changes(layer, self.cells[:cells])
        with contextlib.ExitStack() as hooks:
            hooks.enter_context(hooked(self.model, changes, residual.shape[0]))
            if layer == self.model.n_layers - 1 and not any(s.kind in IN_MLP for s in changes):
                hooks.enter_context(mlp_of_last_token(self.model, layer))
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

    def _changes(self, layer: int, cells: Sequence[Cell]) -> dict[Site, Change]:
        """Functions that write the states inside a block (units that are added are in already)."""

        def write(site: Site) -> Change:
            def change(value: Tensor) -> Tensor:
                changed = value.clone(memory_format=torch.contiguous_format)
                self._put(changed, cells, {site})
                return changed

            return change

        return {site: write(site) for site in self.inside[layer]}

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
                parts = value if isinstance(value, tuple) else (value,)
                if not all(isinstance(part, Tensor) and part.dim() == 3 for part in parts):
                    raise ReplayError(f"{self.model.name}: blocks take unknown {name!r}")
                made = tuple(part[:1, self.token :] for part in parts)
                sliced[name] = made if isinstance(value, tuple) else made[0]
            elif name in _PER_KEY and isinstance(value, Tensor):
                sliced[name] = self._bias(name, value, len(residual))
            elif value is None or isinstance(value, bool | int | float | str) or _is_empty(value):
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
            return given[:1, :, self.token :].expand(len(residual), -1, -1, -1)
        tokens = torch.arange(self.tape.tokens, device=residual.device)
        return (tokens[None] <= tokens[self.token :, None])[None, None]

    def _bias(self, name: str, given: Tensor, rows: int) -> Tensor:
        """What attention adds for the distance of a key, by head: the same for every row."""
        if name == "position_bias":  # [head, query, key], cut to size by the block itself
            return given
        if given.dim() == 4:  # [row, head, 1, key]
            return given[:1].expand(rows, -1, -1, -1)
        return given[: self.model.n_heads].repeat(rows, 1, 1)  # [row x head, 1, key]
