"""A neuron result as two panels: every neuron as it is, and one number for each layer's MLP."""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Float

from twinlens.results import NeuronResult
from twinlens.show.panels import Panel, corruption_of, numbers, on_rows

WIDE = 80  # pixels across a cell at most
_WORDS = {
    "mean": "mean over the MLP's {n} {units}",
    "max": "largest of the MLP's {n} {units}",
    "mean+max": "mean plus largest of the MLP's {n} {units}",
    "positive": "sum of the positive ones of the MLP's {n} {units}",
    "joint": "the whole MLP, all {n} {units} together",
}


def neuron_panels(result: NeuronResult, rows: tuple[str, ...], reduce: str) -> list[Panel]:
    """The neuron map and the layer view."""
    return [map_panel(result, rows), layer_view(result, rows, reduce)]


def pixels(
    effects: Float[np.ndarray, "layer token unit"], wide: int = WIDE
) -> Float[np.ndarray, "layer token down across"]:
    """A cell's units as a block of even lines, in reading order; NaN where the last line ends."""
    *cells, n = effects.shape
    down = math.ceil(n / wide)
    wide = math.ceil(n / down)
    block = np.full((*cells, down * wide), np.nan)
    block[..., :n] = effects
    return block.reshape(*cells, down, wide)


def map_panel(result: NeuronResult, rows: tuple[str, ...]) -> Panel:
    """Every unit as a pixel."""
    effects = result.effects()
    block = pixels(effects)
    limit = float(np.nanmax(np.abs(effects), initial=0.0)) or 1.0
    which = (
        "one unit" if not result.kept.size else f"one of the {effects.shape[-1]} strongest units"
    )
    return Panel(
        title=f"{result.basis}s" + ("" if result.method == "exact" else f": {_how(result)[0]}"),
        subtitle=f"{_how(result)[1]}; {_runs(result)}",
        rows=rows,
        values=on_rows(block, result.layers, rows),
        meaning=(
            f"{_effect(result)}; each pixel {which}, {block.shape[-1]} across a cell (or the"
            " strongest of several where a cell has no room)"
        ),
        scale="symlog",
        low=-limit,
        high=limit,
    )


def layer_view(result: NeuronResult, rows: tuple[str, ...], reduce: str) -> Panel:
    """One number for each MLP (see `NeuronResult.layer_mean`)."""
    values = result.layer_mean(reduce)
    limit = float(np.nanmax(np.abs(values), initial=0.0)) or 1.0
    how = "" if reduce == "joint" else f" ({_how(result)[1]})"
    few, most = int(result.widths.min()), int(result.widths.max())
    count = f"{most}" if few == most else f"{few} to {most}"
    words = _WORDS[reduce].format(n=count, units=f"{result.basis}s")
    return Panel(
        title=f"{result.basis}s: {reduce} of each layer",
        subtitle=f"{words}{how}; {_runs(result)}",
        rows=rows,
        values=on_rows(values, result.layers, rows),
        meaning=f"{_effect(result, joint=reduce == 'joint')}: {words}",
        scale="diverging",
        low=-limit,
        high=limit,
        texts=numbers(values, limit, result.layers, rows),
    )


def _how(result: NeuronResult) -> tuple[str, str]:
    """How the scores were made, in a word and in a sentence."""
    if result.method == "exact":
        verb = "restored" if result.direction == "denoise" else "corrupted"
        return "exact", f"exact: each {verb} alone"
    if result.method == "greedy95":
        words = "restored in descending order of activation until 95 % of the MLP's probability"
        return "the rule of 2022", words
    n, about = int(result.agreement.get("restored", 0)), ""
    names = [name for name in ("pearson", "spearman", "recall") if name in result.agreement]
    if names:
        told = (f"{name.capitalize()} {result.agreement[name]:.2f}" for name in names)
        about = f" (with the estimate: {', '.join(told)})"
    return (
        f"estimated ({result.method})",
        f"estimates by {result.method}, the {n} strongest restored exactly{about}",
    )


def _runs(result: NeuronResult) -> str:
    return (
        f"{result.metric.replace('_', ' ')} of {result.label(result.answer)}: clean"
        f" {result.clean:.3f}, corrupted {result.corrupted:.3f} ({corruption_of(result)})"
    )


def _effect(result: NeuronResult, *, joint: bool = False) -> str:
    metric, of = result.metric.replace("_", " "), f" of {result.label(result.answer)}"
    if result.method == "greedy95" and not joint:
        return f"{metric}{of} when the rule stops"
    denoise = result.direction == "denoise"
    gained, verb = ("gained", "restored") if denoise else ("lost", "corrupted")
    if result.metric == "kl":
        metric, of = "KL from the clean prediction (nats)", ""
        gained = "removed" if denoise else "made"
    return f"{metric}{of} {gained} when it is {verb}"
