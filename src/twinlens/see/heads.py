"""What do attention heads look at in a prompt?

The weights of a block are reduced to the chosen heads and queries before the next block runs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from twinlens.errors import InputError
from twinlens.model.anatomy import Site
from twinlens.model.model import Model
from twinlens.model.spans import focus_position
from twinlens.results import AttentionResult, Tokens
from twinlens.run.batches import Progress, counting
from twinlens.run.check import require
from twinlens.run.patterns import Strip, watch_patterns
from twinlens.see.attribution import without_bias
from twinlens.see.provenance import provenance
from twinlens.see.question import encoded

Head = str | tuple[int, int]
Query = int | str
LARGEST = 2**29  # bytes of patterns that a result holds


def attention(
    model: Model,
    prompt: str | Tokens,
    *,
    heads: Head | Sequence[Head] | None = None,
    value_weighted: bool = False,
    queries: Query | Sequence[Query] | None = None,
    progress: Progress = None,
) -> AttentionResult:
    """What do heads look at in a prompt?

    `heads`: "1.H0" or (1, 0) is head 0 of block 1; one or several; default all. `queries`: the
    tokens that look (positions, or texts as for `focus`); default all.

    `value_weighted`: each weight times the length of what the head writes of that token, and rows
    made to sum to one again (Kobayashi et al. 2020, with the output projection: |a v W_O|). A head
    that rests on a token of which it writes nothing then shows what it does write. A norm after
    the attention, where the family has one, is left out: it rescales a row as a whole but for its
    gains. Rows of which nothing is written are zero.

    Works whatever attention implementation the model was loaded with: for this pass the blocks use
    the family's plain one. At most a strip of one block's weights exists beside the result. Returns
    an `AttentionResult`, `patterns[head, query, token]`. Raises `InputError` where that would be
    over 512 MiB, `PromptError`, `FocusError`, and `AnatomyError` where weights cannot be seen.
    """
    tokens = encoded(model, prompt)
    chosen = _chosen(model, heads)
    rows = _rows(tokens, queries)
    _refuse_large(len(chosen), len(rows), len(tokens))
    require(model, ["head"] if value_weighted else ["block"])
    patterns = np.zeros((len(chosen), len(rows), len(tokens)), np.float32)
    with counting(model.n_layers, "attention", progress) as advance:
        lengths: dict[tuple[int, int], Tensor] = {}

        def length(strip: Strip, head: int) -> Tensor:
            if (strip.layer, head) not in lengths:  # the same for all strips of a block
                written = written_by(model, strip, head)[0]
                lengths[strip.layer, head] = written.float().norm(dim=-1)
            return lengths[strip.layer, head]

        def keep(strip: Strip) -> None:
            _keep(strip, chosen, rows, patterns, length if value_weighted else None)
            advance(int(strip.queries.stop == len(tokens)))

        watch_patterns(model, torch.from_numpy(tokens.ids)[None], keep)
    return AttentionResult(
        tokens=tokens,
        layers=tuple(str(layer) for layer in range(model.n_layers)),
        vocabulary=model.vocabulary(tokens.ids),
        settings={"value_weighted": value_weighted},
        provenance=provenance(model),
        patterns=patterns,
        heads=np.array(chosen, np.int64),
        queries=np.array(rows, np.int64),
        value_weighted=value_weighted,
    )


def written_by(
    model: Model, strip: Strip, head: int, tokens: slice = slice(None)
) -> Float[Tensor, "row token d_model"]:
    """What a head would write of each token if it looked at that token alone: v W_O, no bias."""
    values = strip.values_of(head)[:, tokens]
    width = values.shape[-1]
    one = values.new_zeros(width, strip.weights.shape[1] * width)
    one[:, head * width : (head + 1) * width] = torch.eye(width).to(values)
    projection = model.module(model.anatomy.path(Site("head", strip.layer)))
    return values @ without_bias(projection, one)


def _keep(
    strip: Strip,
    chosen: list[tuple[int, int]],
    rows: list[int],
    patterns: Float[np.ndarray, "head query token"],
    length: Callable[[Strip, int], Tensor] | None,
) -> None:
    """Write what a strip says of the chosen heads and queries into `patterns`.

    `length` gives how much a head writes of each token, where that is to weigh.
    """
    asked = range(strip.queries.start, strip.queries.stop)
    places = [place for place, row in enumerate(rows) if row in asked]
    if not places:
        return
    local = [rows[place] - strip.queries.start for place in places]
    for number, (layer, head) in enumerate(chosen):
        if layer != strip.layer:
            continue
        weights = strip.weights[0, head, local].float()
        if length is not None:
            weights = weights * length(strip, head)
            total = weights.sum(-1, keepdim=True)
            weights = torch.where(total > 0, weights / total, 0.0)
        patterns[number, places] = weights.cpu().numpy()


def _chosen(model: Model, heads: Head | Sequence[Head] | None) -> list[tuple[int, int]]:
    """(layer, head) of each head that was asked for, once."""
    n_layers, n_heads = model.n_layers, model.n_heads
    if heads is None:
        return [(layer, head) for layer in range(n_layers) for head in range(n_heads)]
    one = isinstance(heads, str) or (
        isinstance(heads, tuple) and all(isinstance(part, int | np.integer) for part in heads)
    )
    given: Sequence[object] = [heads] if one else list(heads)
    chosen = list(dict.fromkeys(_head(head) for head in given))
    for layer, head in chosen:
        if not (0 <= layer < n_layers and 0 <= head < n_heads):
            raise InputError(
                f"head {layer}.H{head} is not in {model.name}: it has layers 0 to {n_layers - 1}"
                f" and heads 0 to {n_heads - 1}"
            )
    if not chosen:
        raise InputError("heads is empty; give some, e.g. '1.H0', or None for all")
    return chosen


def _head(given: object) -> tuple[int, int]:
    if isinstance(given, str):
        layer, dot, head = given.partition(".")
        head = head.removeprefix("H")
        if dot and layer.isdecimal() and head.isdecimal():
            return int(layer), int(head)
    elif isinstance(given, tuple) and len(given) == 2:
        layer, head = given
        if isinstance(layer, int | np.integer) and isinstance(head, int | np.integer):
            return int(layer), int(head)
    raise InputError(f"{given!r} is no head; expected LAYER.HEAD, e.g. '1.H0' or (1, 0)")


def _rows(tokens: Tokens, queries: Query | Sequence[Query] | None) -> list[int]:
    """The positions that look, in the order of the prompt."""
    if queries is None:
        return list(range(len(tokens)))
    given = [queries] if isinstance(queries, str | int | np.integer) else list(queries)
    if not given:
        raise InputError("queries is empty; give some positions, or None for all")
    return sorted({focus_position(tokens, query) for query in given})


def _refuse_large(n_heads: int, n_rows: int, n_tokens: int) -> None:
    size = 4 * n_heads * n_rows * n_tokens
    if size > LARGEST:
        raise InputError(
            f"the patterns of {n_heads} heads, {n_rows} queries and {n_tokens} tokens take"
            f" {size / 2**30:.1f} GiB, more than {LARGEST // 2**20} MiB; choose heads=... or"
            " queries=..."
        )
