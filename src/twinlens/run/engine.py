"""Which engine restores the cells: the replay where it is proven on this model, else the hooks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from twinlens.model.model import Model
from twinlens.run.batches import is_out_of_memory
from twinlens.run.passes import Cell, Inputs, Values, restore
from twinlens.run.replay import Score, Tape, record, replay

Engine = Literal["auto", "replay", "hooks"]

_TRIED = 6  # cells that are run both ways before the replay is trusted
_EQUAL = {torch.float64: 1e-9, torch.float32: 1e-5, torch.float16: 5e-3, torch.bfloat16: 3e-2}

Done = Iterator[tuple[list[int], Float[Tensor, "cell sample"]]]


class Engines:
    """One base run, into which states of another run are put, cell by cell.

    `engine="auto"` runs a few cells by both engines, once for each model and kind of site, and
    falls back to hooks where they differ; `used` says which engine runs, `note` why where it is
    not the one that was to be expected. `first` is the first token at which the two runs differ:
    a state before it is the same in both, so its score is the base run's.
    """

    def __init__(
        self,
        model: Model,
        engine: Engine,
        base: Inputs,
        source: Values,
        cells: Sequence[Cell],
        score: Score,
        *,
        first: int,
        batch_tokens: int,
        on_smaller: Callable[[int], None] | None = None,
    ) -> None:
        self.model, self.base, self.source, self.score = model, base, source, score
        self.cells, self.first = cells, first
        self.batch_tokens, self.on_smaller = batch_tokens, on_smaller
        self.note: str | None = None
        self.used: Literal["replay", "hooks"] = "hooks"
        self._tape: Tape | None = None
        if engine == "replay" or (engine == "auto" and self._proven()):
            self.used = "replay"

    def run(self) -> Done:
        """Scores of all cells: (numbers of the cells that are done, their scores)."""
        if self.used == "hooks":
            yield from self._by_hooks(range(len(self.cells)))
            return
        same = [n for n, cell in enumerate(self.cells) if max(s.token for s in cell) < self.first]
        if same:
            yield same, self._base_scores().expand(len(same), -1)
        known = set(same)
        yield from self._by_replay([n for n in range(len(self.cells)) if n not in known])

    def _by_hooks(self, numbers: Sequence[int]) -> Done:
        done = 0
        cells = [self.cells[number] for number in numbers]
        for count, scores in restore(
            self.model, self.base, self.source, cells, self.score,
            batch_tokens=self.batch_tokens, on_smaller=self.on_smaller,
        ):  # fmt: skip
            yield list(numbers[done : done + count]), scores
            done += count

    def _by_replay(self, numbers: Sequence[int]) -> Done:
        cells = [self.cells[number] for number in numbers]
        for local, scores in replay(
            self.model, self._recorded(), self.source, cells, self.score,
            batch_tokens=self.batch_tokens, on_smaller=self.on_smaller,
        ):  # fmt: skip
            yield [numbers[at] for at in local], scores

    def _recorded(self) -> Tape:
        if self._tape is None:
            self._tape = record(self.model, self.base, batch_tokens=self.batch_tokens)
        return self._tape

    def _base_scores(self) -> Float[Tensor, "1 sample"]:
        with torch.no_grad():
            last = self._recorded().residuals[-1][:, -1]
            return self.score(self.model.unembed(last).float())[None]

    def _proven(self) -> bool:
        """Whether the replay gives the hooks' numbers, tried once a model and kind of site."""
        kinds = "+".join(sorted({state.site.kind for cell in self.cells for state in cell}))
        memo = self.model._memo.setdefault("replay", {})
        if kinds not in memo:
            memo[kinds] = self._why_not()
        if memo[kinds]:
            self.note = f"engine: hooks, since the replay does not serve here ({memo[kinds]})"
        return not memo[kinds]

    def _why_not(self) -> str:
        from_first = [n for n, c in enumerate(self.cells) if c[0].token >= self.first]
        picks = np.linspace(0, len(from_first) - 1, min(_TRIED, len(from_first))).round()
        tried = [from_first[int(at)] for at in dict.fromkeys(picks)]
        try:
            made = {
                n: s
                for ns, scores in self._by_replay(tried)
                for n, s in zip(ns, scores, strict=True)
            }
        except Exception as error:  # a block that cannot be replayed may raise anything
            if is_out_of_memory(error):
                raise
            return f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
        worst = 0.0
        for numbers, scores in self._by_hooks(tried):
            for number, expected in zip(numbers, scores, strict=True):
                scale = expected.abs().max().clamp(min=1.0)
                worst = max(worst, float((made[number] - expected).abs().max() / scale))
        allowed = _EQUAL.get(self.model.dtype, 3e-2)
        return "" if worst <= allowed else f"its scores differ by up to {worst:.1e}"
