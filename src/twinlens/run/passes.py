"""The plain hooked reference engine: full forward passes with some states replaced.

Slow and obvious. Two calls: `read` runs inputs and gives the values at sites and the logits at the
focus; `restore` runs them again and again, each time with the states of one cell replaced by values
read in another run.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from twinlens.errors import AnatomyError
from twinlens.model.anatomy import Site
from twinlens.model.model import Model
from twinlens.run.batches import in_batches
from twinlens.run.hooks import Change, hooked, hooked_embedding


class State(NamedTuple):
    """The value of a site at one token: all of it, or the units (heads, neurons) that are named."""

    site: Site
    token: int
    unit: int | tuple[int, ...] | None = None


Cell = tuple[State, ...]
"""States that are replaced together in one run."""

Values = Mapping[Site, Float[Tensor, "sample token width"]]

Score = Callable[[Float[Tensor, "row vocab"]], Float[Tensor, " row"]]
"""A metric of the logits at the last token: one number a row."""


@dataclass(frozen=True)
class Inputs:
    """What enters the model: token ids, and noise on the embeddings of some tokens.

    `noise[sample, i]` belongs to the i-th token of `mask`; it is added to the output of the token
    embedding, or takes its place where `replace` is true.
    """

    ids: Int[Tensor, "sample token"]
    noise: Float[Tensor, "sample masked width"] | None = None
    mask: Bool[Tensor, " token"] | None = None
    replace: bool = False

    @property
    def samples(self) -> int:
        """Number of samples (rows of one cell)."""
        return int(self.ids.shape[0])

    def repeated(self, samples: int) -> Inputs:
        """The same ids as so many samples; for inputs of one sample without noise."""
        return Inputs(self.ids.expand(samples, -1))

    @staticmethod
    def stacked(parts: Sequence[Inputs]) -> Inputs:
        """Inputs of one length as one: the samples of the first, then those of the next, ...

        Noise that is added may be at different tokens: it is nothing where a part has none. Noise
        that takes the embeddings' place must be at the same tokens in all parts.
        """
        if len(parts) == 1:
            return parts[0]
        ids = torch.cat([part.ids for part in parts])
        drawn = [(p.noise, p.mask) for p in parts if p.noise is not None and p.mask is not None]
        if not drawn:
            return Inputs(ids)
        mask = torch.stack([mask for _, mask in drawn]).any(0)
        if parts[0].replace and not all(torch.equal(where, mask) for _, where in drawn):
            raise ValueError("noise in the place of embeddings is at different tokens")
        widened = []
        for noise, where in drawn:
            wide = noise.new_zeros(noise.shape[0], int(mask.sum()), noise.shape[2])
            wide[:, where[mask]] = noise
            widened.append(wide)
        return Inputs(ids, torch.cat(widened), mask, parts[0].replace)

    def first_sample(self) -> Inputs:
        """The same inputs with one sample."""
        noise = None if self.noise is None else self.noise[:1]
        return Inputs(self.ids[:1], noise, self.mask, self.replace)

    def until(self, stop: int) -> Inputs:
        """The same inputs without the tokens from `stop` on, which cannot matter before them."""
        if self.noise is None or self.mask is None:
            return Inputs(self.ids[:, :stop])
        kept = int(self.mask[:stop].sum())
        return Inputs(self.ids[:, :stop], self.noise[:, :kept], self.mask[:stop], self.replace)


class Reading(NamedTuple):
    """Values at the sites that were read and the logits at the last token."""

    values: dict[Site, Tensor]
    logits: Float[Tensor, "sample vocab"]


def read(
    model: Model,
    inputs: Inputs,
    sites: Sequence[Site],
    *,
    cell: Cell = (),
    source: Values | None = None,
    batch_tokens: int | None = None,
) -> Reading:
    """Run `inputs` and return values `[sample, token, width]` at `sites` and the last logits.

    With a `cell`, its states are set to their values in `source` first, as `restore` does.
    """
    values: dict[Site, list[Tensor]] = {site: [] for site in sites}
    logits: list[Tensor] = []

    def keep(site: Site) -> Change:
        def change(value: Tensor) -> Tensor:
            values[site].append(value.detach().clone())
            return value

        return change

    def run(rows: Sequence[int]) -> None:
        made = {site: len(values[site]) for site in sites}
        changes = _replacements(model, [cell], _of_rows(source or {}, rows), len(rows))
        for site in sites:
            changes[site] = _then(changes.get(site), keep(site))
        try:
            logits.append(last_logits(model, inputs, list(rows), changes))
        except BaseException:  # a pass that failed midway leaves nothing behind
            for site in sites:
                del values[site][made[site] :]
            raise

    per_batch = _rows_per_batch(batch_tokens, inputs)
    for _ in in_batches(range(inputs.samples), per_batch, run):
        pass
    for site in sites:
        if not values[site]:
            raise AnatomyError(
                f"{model.name}: the anatomy has {site.kind!r} of layer {site.layer} at"
                f" {model.path(site)!r}, a module that does not run in a forward pass"
            )
    return Reading({site: _joined(parts) for site, parts in values.items()}, _joined(logits))


def restore(
    model: Model,
    inputs: Inputs,
    source: Values,
    cells: Sequence[Cell],
    score: Score,
    *,
    batch_tokens: int,
    on_smaller: Callable[[int], None] | None = None,
) -> Iterator[tuple[int, Float[Tensor, "cell sample"]]]:
    """For each cell, run `inputs` with the cell's states set to their values in `source`.

    Yields (number of cells done in this batch, their scores); cells come in order. `source` has
    one sample for all, or as many as `inputs`. One forward pass holds as many cells as fit
    `batch_tokens` (cells x samples x tokens); `score` reduces its logits at once.
    """
    samples = inputs.samples

    def run(batch: Sequence[Cell]) -> Tensor:
        rows = [sample for _ in batch for sample in range(samples)]
        changes = _replacements(model, batch, source, samples)
        return score(last_logits(model, inputs, rows, changes)).view(len(batch), samples)

    per_batch = max(1, _rows_per_batch(batch_tokens, inputs) // samples)
    for done in in_batches(cells, per_batch, run, on_smaller):
        yield len(done), done


def _of_rows(source: Values, rows: Sequence[int]) -> Values:
    """The source's values of some samples; those of one sample serve all."""
    return {at: v[list(rows)] if v.shape[0] > 1 else v for at, v in source.items()}


def _then(first: Change | None, second: Change) -> Change:
    return second if first is None else lambda value: second(first(value))


def _joined(parts: list[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def _rows_per_batch(batch_tokens: int | None, inputs: Inputs) -> int:
    if batch_tokens is None:
        return inputs.samples
    return max(1, batch_tokens // int(inputs.ids.shape[1]))


def last_logits(
    model: Model, inputs: Inputs, rows: list[int], changes: Mapping[Site, Change]
) -> Float[Tensor, "row vocab"]:
    """Logits at the last token (float32) of one forward pass over the given samples."""
    index = torch.tensor(rows, device=inputs.ids.device)
    ids = inputs.ids[index].to(model.device)
    noise = noise_of(inputs, index)
    with torch.no_grad(), hooked_embedding(model, noise), hooked(model, changes, len(rows)):
        made = model.hf(input_ids=ids, use_cache=False, **model.last_logits_only)
    return made.logits[:, -1].float()


def noise_of(inputs: Inputs, index: Tensor) -> Change | None:
    """The noise of some samples, as a function of what the token embedding gives."""
    if inputs.noise is None or inputs.mask is None:
        return None
    noise, mask = inputs.noise[index], inputs.mask

    def change(value: Tensor) -> Tensor:
        where, drawn = mask.to(value.device), noise.to(value.device)
        changed = value.clone()
        before = torch.zeros_like(drawn) if inputs.replace else value[:, where].to(drawn.dtype)
        changed[:, where] = (before + drawn).to(value.dtype)
        return changed

    return change


def _replacements(
    model: Model, batch: Sequence[Cell], source: Values, samples: int
) -> dict[Site, Change]:
    """One function a site: it writes the states of all cells of the batch that lie there."""
    todo: dict[Site, list[tuple[int, State]]] = defaultdict(list)
    for number, cell in enumerate(batch):
        for state in cell:
            todo[state.site].append((number, state))
    return {site: _write(model, source[site], part, samples) for site, part in todo.items()}


def _write(model: Model, clean: Tensor, part: list[tuple[int, State]], samples: int) -> Change:
    def change(value: Tensor) -> Tensor:
        changed = value.clone()
        sample = torch.arange(samples, device=value.device)
        from_sample = sample if clean.shape[0] > 1 else torch.zeros_like(sample)
        for number, state in part:
            units = model.unit_index(state.site.kind, state.unit, value.shape[-1])
            values = clean[:, state.token, units].to(value.device, value.dtype)
            rows = changed[number * samples : (number + 1) * samples]
            rows[:, state.token, units] = values[from_sample]
        return changed

    return change
