"""Heads as panels: their scores (layers by heads), and what they look at from one token."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from twinlens.results import AttentionResult, HeadResult
from twinlens.results.heads import SCORES
from twinlens.show.panels import Panel, on_rows

_WORTH_A_NUMBER = 0.1
NAMES = {
    "prefix_matching": "prefix matching",
    "copying": "copying",
    "previous_token": "previous token",
    "duplicate_token": "duplicate token",
}
_MEANINGS = {
    "prefix_matching": "share of attention on the tokens that followed this one before",
    "copying": "share of raised logits that fall on the token looked at",
    "previous_token": "share of attention on the token just before",
    "duplicate_token": "share of attention on earlier occurrences of the same token",
}


def head_panels(result: HeadResult, rows: tuple[str, ...]) -> list[Panel]:
    """A panel for each score: layers top to bottom, heads left to right."""
    return [head_panel(result, rows, score) for score in SCORES]


def head_panel(result: HeadResult, rows: tuple[str, ...], score: str) -> Panel:
    """One score of every head; a star is a head above the threshold."""
    values = result.mean(score)
    sequences, length = result.sequences.shape
    texts = [[""] * values.shape[1] for _ in rows]
    for layer, head in np.argwhere(np.nan_to_num(values) >= _WORTH_A_NUMBER):
        number = f"{values[layer, head]:.2f}"
        texts[rows.index(result.layers[layer])][head] = number
    return Panel(
        title=f"heads: {NAMES[score]}",
        subtitle=(
            f"mean of {sequences} random sequences of {length} tokens;"
            f" ★ {meaning_of_star(result, score)}"
        ),
        rows=rows,
        values=on_rows(values, result.layers, rows),
        meaning=_MEANINGS[score],
        scale="sequential",
        low=0.0,
        high=1.0,
        texts=texts,
        stars=named(result, rows, score),
        columns=column_names(values.shape[1]),
        column="head",
    )


def named(result: HeadResult, rows: tuple[str, ...], score: str) -> np.ndarray:
    """The heads that a score names: bool `[row, head]`."""
    above = (result.mean(score) > result.threshold).astype(float)
    return on_rows(above, result.layers, rows) == 1


def meaning_of_star(result: HeadResult, score: str) -> str:
    """What a head above the threshold is called."""
    called = "induction" if score == "prefix_matching" else NAMES[score]
    return f"above {result.threshold:g}: {called} head"


def column_names(n_heads: int) -> tuple[str, ...]:
    """`H0`, `H1`, ...: so that row and column together are the head's name."""
    return tuple(f"H{head}" for head in range(n_heads))


def attention_panel(result: AttentionResult, rows: tuple[str, ...], focus: int | None) -> Panel:
    """What the heads look at from the focus, or from the last token that the result has."""
    query, weights = looked_at(result, focus)
    of = f"token {query} {result.tokens.labels[query]}"
    weighted = ", each weight times the length of what is written" * result.value_weighted
    return Panel(
        title="attention",
        subtitle=f"what each head looks at from {of} (the page shows every token's){weighted}",
        rows=rows,
        values=on_rows(weights, result.layers, rows),
        meaning=f"share of attention (in each cell: heads 0 to {weights.shape[2] - 1})",
        scale="sequential",
        low=0.0,
        high=float(np.nanmax(weights, initial=0.0)) or 1.0,
    )


def looked_at(
    result: AttentionResult, focus: int | None
) -> tuple[int, Float[np.ndarray, "layer token head"]]:
    """A token that looks, and its weights on the grid (NaN for heads that are not there)."""
    queries = result.queries.tolist()
    at = queries.index(focus) if focus in queries else len(queries) - 1
    placed = np.full(
        (len(result.layers), len(result.tokens), int(result.heads[:, 1].max()) + 1), np.nan
    )
    for (layer, head), pattern in zip(result.heads.tolist(), result.patterns, strict=True):
        placed[layer, :, head] = pattern[at]
    return queries[at], placed
