"""A word that comes back as panels: its occurrences as the lens and heads see them."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from twinlens.results import RecurrenceResult
from twinlens.show.head_panels import column_names
from twinlens.show.panels import Panel, numbers, on_rows

_WORTH_A_NUMBER = 0.05


def recurrence_panels(result: RecurrenceResult, rows: tuple[str, ...]) -> dict[str, Panel]:
    """The panels by a short name: what the lens gives each occurrence, which heads look at each,
    and what each head's output at the focus, and at the earlier occurrences, brings back."""
    of = f"{result.metric.replace('_', ' ')} of {result.label(result.answer)}"
    told = f"{of} at token {result.focus}, while all earlier occurrences are corrupted"
    return {
        "lens": _lens(result, rows),
        "attention": _attention(result, rows),
        "heads at the focus": _heads(result, rows, result.at_focus, "at the focus", told),
        "heads at the earlier": _heads(
            result, rows, result.at_earlier, "at the best token in or after an earlier one", told
        ),
    }


def story_of(result: RecurrenceResult) -> str:
    """What was found, in one sentence."""
    n, all_lost = len(result.lost), result.all_lost
    earlier = result.names[:-1]
    kept = ", ".join(f"{name} {x:+.2f}" for name, x in zip(earlier, result.kept, strict=True))
    alone = ", ".join(f"{name} {x:+.2f}" for name, x in zip(earlier, result.lost, strict=True))
    controls = "no unrelated span of as many tokens stands before it"
    if m := result.controls_together:
        controls = f"{m} unrelated of as many tokens {result.control_all_lost:+.3f}"
    return (
        f"{result.word}: corrupting all {n} earlier occurrences takes {all_lost:+.3f}, {controls};"
        f" one alone left as it is brings back {kept}; one alone corrupted takes {alone}"
    )


def _lens(result: RecurrenceResult, rows: tuple[str, ...]) -> Panel:
    bits = ", ".join(f"{value:.1f}" for value in result.surprisal_bits)
    return Panel(
        title=f"{result.word}: logit lens at each occurrence",
        subtitle=f"surprisal of the word at each occurrence: {bits} bits",
        rows=rows,
        values=on_rows(result.lens, result.layers, rows),
        meaning="probability of the explained token, read just before it",
        scale="sequential",
        low=0.0,
        high=1.0,
        texts=_texts(on_rows(result.lens, result.layers, rows)),
        columns=result.names,
        column="occurrence",
    )


def _attention(result: RecurrenceResult, rows: tuple[str, ...]) -> Panel:
    n_layers, n_heads, n_earlier = result.attention.shape
    names = tuple(str(layer) for layer in range(n_layers))
    values = on_rows(result.attention.transpose(0, 2, 1), names, rows)
    return Panel(
        title=f"{result.word}: what heads look at from the last occurrence",
        subtitle=f"from token {result.focus}, to the tokens of each of {n_earlier} earlier ones",
        rows=rows,
        values=values,
        meaning=f"share of attention (in each cell: heads 0 to {n_heads - 1})",
        scale="sequential",
        low=0.0,
        high=float(np.nanmax(result.attention, initial=0.0)) or 1.0,
        columns=result.names[:-1],
        column="occurrence",
    )


def _heads(
    result: RecurrenceResult,
    rows: tuple[str, ...],
    effects: Float[np.ndarray, "layer head"],
    where: str,
    told: str,
) -> Panel:
    limit = float(np.nanmax(np.abs(effects), initial=0.0)) or 1.0
    names = tuple(str(layer) for layer in range(len(effects)))
    return Panel(
        title=f"{result.word}: heads {where}",
        subtitle=told,
        rows=rows,
        values=on_rows(effects, names, rows),
        meaning=f"gained when this head's output {where} is restored",
        scale="diverging",
        low=-limit,
        high=limit,
        texts=numbers(effects, limit, names, rows),
        columns=column_names(effects.shape[1]),
        column="head",
    )


def _texts(values: np.ndarray) -> list[list[str]]:
    return [[f"{value:.2f}" if value >= _WORTH_A_NUMBER else "" for value in row] for row in values]
