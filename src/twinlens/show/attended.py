"""What heads look at, as the page is given it: whole, or the strongest weights of each row."""

from __future__ import annotations

import numpy as np

from twinlens.results import AttentionResult
from twinlens.show.arrays import array
from twinlens.show.schema import Attention

MOST_WEIGHTS = 1_000_000  # numbers in a page; of more, the strongest of each row are kept
_FEWEST = 4  # tokens of a row that are always kept


def attention_of(results: list[AttentionResult]) -> tuple[Attention | None, list[str]]:
    """What the first of some results says, and what a reader must know of what was left out."""
    if not results:
        return None, []
    result, notes = results[0], []
    if len(results) > 1:
        notes.append(f"attention: the first of {len(results)} results is shown")
    weights, tokens = result.patterns, None
    heads, queries, n = weights.shape
    keep = max(_FEWEST, MOST_WEIGHTS // max(1, heads * queries))
    if keep < n:
        order = np.argsort(-weights, axis=-1, kind="stable")[..., :keep]
        weights = np.take_along_axis(weights, order, axis=-1)
        tokens = array(order, "int32")
        notes.append(
            f"attention: of each head and token that looks, the {keep} strongest weights of {n} are"
            f" in this page: {weights.sum(-1).mean():.0%} of the attention, on average"
        )
    made = Attention(
        heads=list(result.names),
        queries=result.queries.tolist(),
        weights=array(weights),
        tokens=tokens,
        value_weighted=result.value_weighted,
    )
    return made, notes
