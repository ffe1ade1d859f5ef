"""A result as a panel: one value, one text and one mark a cell, and what the colours mean.

Figures, tables and pages draw panels; they need not know which result a panel came from.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float

from twinlens.errors import InputError
from twinlens.results import LensResult, NeuronResult, Result, Tokens, TraceResult

_LENS_WORDS = {
    "probability": "probability of {target}",
    "log_probability": "log probability of {target} (nats)",
    "logit": "logit of {target}",
    "rank": "rank of {target} (1 = first)",
    "surprisal": "surprisal of {target} (nats)",
    "entropy": "entropy (nats)",
    "top_probability": "probability of the cell's own top token",
    "top_logit": "logit of the cell's own top token",
    "kl_final_to_layer": "KL from the last row to the cell (nats)",
    "kl_layer_to_final": "KL from the cell to the last row (nats)",
}
_TARGET_WORDS = {
    "final": "the model's final prediction",
    "next": "the true next token",
    "targets": "the source's targets",
    "anti_targets": "the source's anti-targets",
}
_LOG_SCALED = ("rank",)
_WORTH_A_NUMBER = 0.2  # of the largest effect: from here on a cell shows its number


@dataclass(frozen=True, eq=False)
class Panel:
    """One grid of the picture.

    `values` may have a last axis of parts inside a cell (heads), or two of pixels (neurons).
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


@dataclass(frozen=True, eq=False)
class Picture:
    """Panels over the same tokens and rows, and what is marked on the tokens."""

    tokens: Tokens
    panels: tuple[Panel, ...]
    surprisal_bits: Float[np.ndarray, " token"] | None
    subject: Bool[np.ndarray, " token"]
    focus: int | None
    notes: tuple[str, ...]


def picture(
    results: Sequence[Result],
    *,
    lens_metric: str | None = None,
    lens_target: str | int = "final",
    reduce: str = "mean",
) -> Picture:
    """Panels of results of the same prompt, on the same rows: lens first, trace, then neurons.

    Results of two models (before and after a change) may stand side by side. Raises `InputError`
    where the results are not of the same tokens and rows.
    """
    same_prompt(results)
    rows = rows_of(results)
    lenses = [r for r in results if isinstance(r, LensResult)]
    traces = [r for r in results if isinstance(r, TraceResult)]
    panels = [lens_panel(r, rows, lens_metric, lens_target) for r in lenses]
    panels += [trace_panel(r, rows) for r in traces]
    neurons = [r for r in results if isinstance(r, NeuronResult)]
    if neurons:
        from twinlens.show.neuron_panels import neuron_panels

        panels += [panel for r in neurons for panel in neuron_panels(r, rows, reduce)]
    subjects = [r.subject_mask for r in (*traces, *neurons)]
    focuses = {r.focus for r in (*traces, *neurons)}
    return Picture(
        tokens=results[0].tokens,
        panels=tuple(panels),
        surprisal_bits=lenses[0].surprisal_bits if lenses else None,
        subject=np.logical_or.reduce(subjects)
        if subjects
        else np.zeros(len(panels[0].values[0]), bool),
        focus=focuses.pop() if len(focuses) == 1 else None,
        notes=tuple(dict.fromkeys(note for r in results for note in r.notes)),
    )


def rows_of(results: Sequence[Result]) -> tuple[str, ...]:
    """The rows of the picture: those of the result that has most."""
    return max((result.layers for result in results), key=len)


def same_prompt(results: Sequence[Result]) -> None:
    """Raises `InputError` where there is nothing to show, or it is of different prompts or rows."""
    if not results:
        raise InputError("nothing to show; give a LensResult, a TraceResult, or several results")
    for result in results:
        if not isinstance(result, LensResult | TraceResult | NeuronResult):
            raise InputError(
                f"cannot show a {type(result).__name__}; expected a LensResult, TraceResult or"
                " NeuronResult"
            )
    first = results[0]
    for other in results[1:]:
        if not np.array_equal(first.tokens.ids, other.tokens.ids):
            raise InputError(
                f"the results are of different prompts ({len(first.tokens)} and"
                f" {len(other.tokens)} tokens); one picture needs the same tokens"
            )
    rows = set(rows_of(results))
    if not all(set(result.layers) <= rows for result in results):
        raise InputError("the results have different layers: they are of different models")


def lens_panel(
    lens: LensResult, rows: tuple[str, ...], metric: str | None, target: str | int
) -> Panel:
    """The lens, coloured by a metric (default: probability; logit for contributions)."""
    contributions = lens.rows in ("attn", "mlp")
    metric = metric or ("logit" if contributions else "probability")
    values = on_rows(lens.metric(metric, target), lens.layers, rows)
    low, high = _range(values)
    if metric in ("probability", "top_probability"):
        low, high = 0.0, 1.0
    diverging = metric in ("logit", "top_logit") and low < 0
    name = _TARGET_WORDS.get(str(target), f"the token {target}")
    if diverging:
        low, high = -max(-low, high), max(-low, high)
    texts = [[lens.label(i) for i in row] for row in lens.top_ids[:, :, 0]]
    by_row = dict(zip(lens.layers, texts, strict=True))
    stars = on_rows(lens.right().astype(float), lens.layers, rows) == 1
    what = f"contribution of {lens.rows}" if contributions else "what each layer would say"
    return Panel(
        title="logit lens" if lens.settings.get("decoder", "final") == "final" else "lens",
        subtitle=f"{what}; text: the cell's top token, ★ where it is the true next one",
        rows=rows,
        values=values,
        meaning=_LENS_WORDS[metric].format(target=name),
        scale="diverging" if diverging else "log" if metric in _LOG_SCALED else "sequential",
        low=low,
        high=high,
        texts=[by_row.get(row, [""] * len(lens.tokens)) for row in rows],
        stars=stars,
    )


def trace_panel(trace: TraceResult, rows: tuple[str, ...]) -> Panel:
    """The effects of a trace."""
    effects = trace.effects()
    limit = float(np.nanmax(np.abs(effects), initial=0.0)) or 1.0
    verb = "restored" if trace.direction == "denoise" else "corrupted"
    window = f", {trace.window} layers together" if trace.window > 1 else ""
    heads = f" (in each cell: heads 0 to {effects.shape[-1] - 1})" if effects.ndim > 2 else ""
    effect = "gained" if trace.direction == "denoise" else "lost"
    of = f" of {trace.label(trace.answer)}"
    metric = trace.metric.replace("_", " ")
    if trace.metric == "kl":
        metric, of = "KL from the clean prediction (nats)", ""
        effect = "removed" if trace.direction == "denoise" else "made"
    return Panel(
        title=f"causal trace: {trace.kind}",
        subtitle=(
            f"{metric}{of}: clean {trace.clean:.3f}, corrupted {trace.corrupted:.3f}"
            f" ({corruption_of(trace)})"
        ),
        rows=rows,
        values=on_rows(effects, trace.layers, rows),
        meaning=(f"{metric}{of} {effect} when this {trace.kind} state is {verb}{window}{heads}"),
        scale="diverging",
        low=-limit,
        high=limit,
        texts=None if effects.ndim > 2 else numbers(effects, limit, trace.layers, rows),
    )


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


def _range(values: np.ndarray) -> tuple[float, float]:
    known = values[np.isfinite(values)]
    if not known.size:
        return 0.0, 1.0
    low, high = float(known.min()), float(known.max())
    return (low, high) if high > low else (low - 0.5, high + 0.5)
