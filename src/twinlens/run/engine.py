"""Which engine restores the cells: the replay where it is proven on this model, else the hooks."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from twinlens.model.model import Model
from twinlens.run.batches import free_memory, is_out_of_memory
from twinlens.run.cells import is_added
from twinlens.run.passes import Cell, Inputs, Score, State, Values, read, restore
from twinlens.run.replay import replay
from twinlens.run.tape import Tape, record

Engine = Literal["auto", "replay", "hooks"]

_TRIED = 6  # cells that are run both ways before the replay is trusted
_EQUAL = {torch.float64: 1e-9, torch.float32: 1e-4, torch.float16: 1e-2, torch.bfloat16: 5e-2}
_NO_MEMORY = "it does not fit the memory"
_NO_EFFECT = "no state that was tried has an effect to compare"

Done = Iterator[tuple[list[int], Float[Tensor, "cell sample"]]]


class Engines:
    """One base run, into which states of another run are put, cell by cell.

    `engine="auto"` runs a few cells by both engines, once for each model and kind of site, compares
    their logits, and falls back to hooks where they differ; `used` says which engine runs, `note`
    why where it is not the one that was to be expected. `differing` are the tokens whose embeddings
    differ between the two runs: a state that is the same in both, or that cannot reach the last
    token, is not run, since its score is the base run's.
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
        differing: Sequence[int],
        batch_tokens: int,
        on_smaller: Callable[[int], None] | None = None,
    ) -> None:
        self.model, self.base, self.source, self.score = model, base, source, score
        self.cells, self.differing = cells, frozenset(int(token) for token in differing)
        self.batch_tokens, self._tell = batch_tokens, on_smaller
        self.note: str | None = None
        self.used: Literal["replay", "hooks"] = "hooks"
        self._tape: Tape | None = None
        if engine == "replay" or (engine == "auto" and self._proven()):
            self.used = "replay"

    def run(self, cells: Sequence[Cell] | None = None) -> Done:
        """Scores of cells, of all by default: (numbers of the cells that are done, their scores).

        Cells that are given are of the kinds that the engine was made with.
        """
        cells = self.cells if cells is None else cells
        if self.used == "hooks":
            yield from self._by_hooks(cells, range(len(cells)), self.score)
            return
        same = [n for n, cell in enumerate(cells) if self.is_known(cell)]
        if same:
            base = self.score(self._recorded().logits(self.model))
            yield same, base[None].expand(len(same), -1)
        known = set(same)
        rest = [n for n in range(len(cells)) if n not in known]
        yield from self._by_replay(cells, rest, self.score)

    def scores(
        self, cells: Sequence[Cell] | None = None, advance: Callable[[int], None] | None = None
    ) -> Float[np.ndarray, "cell sample"]:
        """All scores of `run`, in the order of the cells; `advance` is told how many are done."""
        found = np.empty((len(self.cells if cells is None else cells), self.base.samples))
        for numbers, made in self.run(cells):
            found[numbers] = made.double().cpu().numpy()
            if advance is not None:
                advance(len(numbers))
        return found

    def is_known(self, cell: Cell, differing: Collection[int] | None = None) -> bool:
        """Whether the cell changes nothing at the last token, and needs no run; with `differing`,
        in those samples that differ there alone."""
        differing = self.differing if differing is None else differing
        return all(self._changes_nothing(state, differing) for state in cell)

    def _changes_nothing(self, state: State, differing: Collection[int]) -> bool:
        site, token, _ = state
        if token < min(differing) or (site.kind == "embed" and token not in differing):
            return True
        last = int(self.base.ids.shape[1]) - 1
        return site.layer == self.model.n_layers - 1 and site.kind != "embed" and token < last

    def _by_hooks(self, cells: Sequence[Cell], numbers: Sequence[int], score: Score) -> Done:
        done = 0
        for count, scores in restore(
            self.model, self.base, self.source, [cells[number] for number in numbers], score,
            batch_tokens=self.batch_tokens, on_smaller=self._smaller,
        ):  # fmt: skip
            yield list(numbers[done : done + count]), scores
            done += count

    def _by_replay(self, cells: Sequence[Cell], numbers: Sequence[int], score: Score) -> Done:
        for local, scores in replay(
            self.model, self._recorded(), self.source, [cells[number] for number in numbers], score,
            batch_tokens=self.batch_tokens, on_smaller=self._smaller,
        ):  # fmt: skip
            yield [numbers[at] for at in local], scores

    def _smaller(self, size: int) -> None:
        """Memory ran out: fewer cells a pass, from now on."""
        tokens = int(self.base.ids.shape[1]) * self.base.samples
        self.batch_tokens = min(self.batch_tokens, size * tokens)
        if self._tell is not None:
            self._tell(size)

    def _recorded(self) -> Tape:
        if self._tape is None:
            self._tape = record(self.model, self.base, batch_tokens=self.batch_tokens)
        return self._tape

    def _proven(self) -> bool:
        """Whether the replay gives the hooks' numbers, tried once a model and kind of site."""
        ways = {is_added(self.model, cell) for cell in self.cells}
        kinds = "+".join(sorted({state.site.kind for cell in self.cells for state in cell}))
        kinds += f" {sorted(ways)}"  # units of an MLP are put in another way than whole states
        memo: dict[str, str] = self.model._memo.setdefault("replay", {})
        why_not = memo[kinds] if kinds in memo else self._why_not()
        if why_not not in (_NO_MEMORY, _NO_EFFECT):  # those are about this prompt, not the model
            memo[kinds] = why_not
        if why_not:
            self._tape = None
            self.note = f"engine: hooks, since the replay does not serve here ({why_not})"
        return not why_not

    def _why_not(self) -> str:
        """What forbids the replay, found by running a few cells both ways; empty: nothing."""
        reached = [n for n, cell in enumerate(self.cells) if not self.is_known(cell)]
        picks = np.linspace(0, len(reached) - 1, min(_TRIED, len(reached))).round()
        tried = [reached[int(at)] for at in dict.fromkeys(picks)]
        score, unit = self._fingerprint()
        expected = _in_order(self._by_hooks(self.cells, tried, score), tried)
        try:
            made = _in_order(self._by_replay(self.cells, tried, score), tried)
        except Exception as error:  # a block that cannot be replayed may raise anything
            if is_out_of_memory(error):
                free_memory()
                return _NO_MEMORY
            return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
        allowed = _EQUAL.get(self.model.precision, 3e-2) * unit
        worst = float((made - expected).abs().max())
        if not worst <= allowed:  # also where it is not a number
            return f"the logits differ by up to {worst / unit:.1e} of their spread"
        effect = float((expected - expected.new_tensor(self._nothing(score))).abs().max())
        return "" if effect > 3 * allowed else _NO_EFFECT

    def _fingerprint(self) -> tuple[Score, float]:
        """One number for a row of logits, in which all of them count; and their spread."""
        n_vocab = self.model.n_vocab
        fixed = torch.randn(n_vocab, generator=torch.Generator().manual_seed(0)).double()

        def score(logits: Float[Tensor, "row vocab"]) -> Float[Tensor, " row"]:
            z = logits.double().cpu()
            return (z - z.mean(-1, keepdim=True)) @ fixed / n_vocab**0.5

        spread = read(self.model, self.base.first_sample(), []).logits.double().std()
        return score, max(float(spread), 1e-12)

    def _nothing(self, score: Score) -> list[float]:
        """The base run's own numbers."""
        logits = read(self.model, self.base, [], batch_tokens=self.batch_tokens).logits
        return score(logits).tolist()


def _in_order(done: Done, numbers: Sequence[int]) -> Float[Tensor, "cell sample"]:
    found = {n: s for ns, scores in done for n, s in zip(ns, scores.cpu(), strict=True)}
    return torch.stack([found[number] for number in numbers])
