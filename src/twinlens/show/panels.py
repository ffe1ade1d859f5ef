"""A result as a panel: one value, one text and one mark a cell, and what the colours mean.

Figures, tables and pages draw panels; they need not know which result a panel came from.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float

from twinlens.results import NeuronResult, TraceResult

_WORTH_A_NUMBER = 0.2  # of the largest effect: from here on a cell shows its number


@dataclass(frozen=True, eq=False)
class Panel:
    """One grid of the picture.

    `values` may have a last axis of parts inside a cell (heads), or two of pixels (neurons).
    `columns` names the columns where they are not the prompt's tokens; `column` says what one is.
    """

    title: str
    subtitle: str
    rows: tuple[str, ...]
    values: Float[np.ndarray, "row token *part"]
    meaning: str
    scale: Literal["sequential", "diverging", "log", "symlog"]
    low: float
    high: float
    texts: Sequence[Sequence[str]] | None = None
    stars: Bool[np.ndarray, "row token"] | None = None
    columns: tuple[str, ...] | None = None
    column: str = "token"


def trace_panel(trace: TraceResult, rows: tuple[str, ...]) -> Panel:
    """The effects of a trace."""
    effects = trace.effects()
    limit = float(np.nanmax(np.abs(effects), initial=0.0)) or 1.0
    heads = f" (in each cell: heads 0 to {effects.shape[-1] - 1})" if effects.ndim > 2 else ""
    label = trace.label(trace.answer)
    return Panel(
        title=f"causal trace: {trace.kind}",
        subtitle=(
            f"{measured(trace.metric, label)}: clean {trace.clean:.3f}, corrupted"
            f" {trace.corrupted:.3f} ({corruption_of(trace)})"
        ),
        rows=rows,
        values=on_rows(effects, trace.layers, rows),
        meaning=(
            f"{measured(trace.metric, label)} {gained(trace.metric, trace.direction)} when this"
            f" {trace.kind} state is {restored(trace.direction, trace.window)}{heads}"
        ),
        scale="diverging",
        low=-limit,
        high=limit,
        texts=None if effects.ndim > 2 else numbers(effects, limit, trace.layers, rows),
    )


def measured(metric: str, label: str) -> str:
    """What was measured at the focus, in words."""
    if metric == "kl":
        return "KL from the clean prediction (nats)"
    return f"{metric.replace('_', ' ')} of {label}"


def gained(metric: str, direction: str) -> str:
    """What a state that matters does to it."""
    if metric == "kl":
        return "removed" if direction == "denoise" else "made"
    return "gained" if direction == "denoise" else "lost"


def restored(direction: str, window: int) -> str:
    """What is done to a state."""
    verb = "restored" if direction == "denoise" else "corrupted"
    return f"{verb}, {window} layers together" if window > 1 else verb


def corruption_of(result: TraceResult | NeuronResult) -> str:
    """How the subject was corrupted, in a few words."""
    settings, n = result.settings, len(result.corrupted_samples)
    if "source" in settings:  # made elsewhere: how is not known
        return f"from {settings['source']}"
    if settings.get("corruption") == "replace":
        return f"mean of {n} replacements" if n > 1 else "subject replaced"
    sigma = settings.get("sigma")
    return f"mean of {n} noise samples" + (f", σ = {sigma:.3g}" if sigma else "")


def numbers(
    effects: Float[np.ndarray, "layer token"],
    limit: float,
    layers: tuple[str, ...],
    rows: tuple[str, ...],
) -> list[list[str]]:
    """The effect as text where it is large, so that the strongest cells can be read off."""
    texts = [[""] * effects.shape[1] for _ in rows]
    shown = (np.abs(effects) >= _WORTH_A_NUMBER * limit) & (effects != 0)
    for layer, token in np.argwhere(shown):
        number = f"{effects[layer, token]:+#.2g}".removesuffix(".")
        texts[rows.index(layers[layer])][token] = number.replace("-", "−")
    return texts


def on_rows(
    values: Float[np.ndarray, "layer token *part"], layers: tuple[str, ...], rows: tuple[str, ...]
) -> Float[np.ndarray, "row token *part"]:
    """The values on the picture's rows; rows that the result does not have are NaN."""
    placed = np.full((len(rows), *values.shape[1:]), np.nan)
    for layer, value in zip(layers, values, strict=True):
        placed[rows.index(layer)] = value
    return placed
