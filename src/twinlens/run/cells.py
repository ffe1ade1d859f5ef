"""What a cell changes first, and which cells share passes of the replay."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from twinlens.model.model import Model
from twinlens.run.passes import Cell
from twinlens.run.tape import Tape

_SMALL = 1024  # tokens of a pass that are too few to keep the machine busy
_WASTE = 8


def groups(cells: Sequence[Cell], tape: Tape) -> list[tuple[int, list[int]]]:
    """Cells that may share passes, and the first of their tokens.

    A pass runs from its first token on, so a later one in it is waste: neighbours are joined only
    while the pass is small, and the waste at most a part in `_WASTE`.
    """
    by_token: dict[int, list[int]] = defaultdict(list)
    for number, cell in enumerate(cells):
        by_token[_token_of(cell)].append(number)
    found: list[tuple[int, list[int]]] = []
    for token in sorted(by_token):
        if found:
            first, numbers = found[-1]
            rest = tape.tokens - first
            small = len(numbers) * tape.samples * rest < _SMALL
            if small and (token - first) * _WASTE <= rest:
                numbers += by_token[token]
                continue
        found.append((token, by_token[token]))
    return found


def _token_of(cell: Cell) -> int:
    tokens = {state.token for state in cell}
    if len(tokens) != 1:
        raise ValueError(f"the states of a cell are at tokens {sorted(tokens)}; one is needed")
    return tokens.pop()


def is_added(model: Model, cell: Cell, kind: str | None = None) -> bool:
    """Whether a cell is some units of one MLP: it only adds to the residual after the block.

    Not so neurons of experts: what these give may be scaled or normed before it is added.
    """
    first = cell[0].site
    if first.kind not in ("mlp", "neuron") or not model.anatomy.adds_up:
        return False
    if kind is not None and first.kind != kind:
        return False
    if not all(state.site == first and state.unit is not None for state in cell):
        return False
    return first.kind == "mlp" or model.experts(first.layer) is None


def start(model: Model, cell: Cell) -> int:
    """The first block that must run: that of the state, or the one after a whole residual."""
    if is_added(model, cell):
        return cell[0].site.layer + 1
    return min(state.site.layer + (state.site.kind == "block") for state in cell)
