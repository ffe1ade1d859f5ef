"""A lens as a panel: which lens it is, a metric of it as the colour, its top tokens as texts."""

from __future__ import annotations

import numpy as np

from twinlens.results import LensResult
from twinlens.show.panels import Panel, on_rows

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
_DECODERS = {
    "final": "logit lens",
    "tuned": "tuned lens",
    "jacobian": "Jacobian lens",
    "unknown": "lens",
}


def lens_name(lens: LensResult) -> str:
    """Which lens it is: how a row became logits, and of which run where it is not the clean one."""
    decoder, run = key_of(lens)
    name = _DECODERS.get(decoder, decoder if "lens" in decoder else f"{decoder} lens")
    if run in ("clean", "corrupted"):
        return name if run == "clean" else f"{name}, corrupted run"
    return f"{name}, {run}"


def key_of(lens: LensResult) -> tuple[str, str]:
    """The decoder and the run of a lens, as its settings call them."""
    return (
        str(lens.settings.get("decoder", "final")),
        str(lens.settings.get("run", "clean")),
    )


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
    name = _TARGET_WORDS.get(str(target)) or (
        f"the token {target}" if isinstance(target, str) else lens.label(target)
    )
    if diverging:
        low, high = -max(-low, high), max(-low, high)
    texts = [[lens.label(i) for i in row] for row in lens.top_ids[:, :, 0]]
    by_row = dict(zip(lens.layers, texts, strict=True))
    stars = on_rows(lens.right().astype(float), lens.layers, rows) == 1
    what = f"contribution of {lens.rows}" if contributions else "what each layer would say"
    return Panel(
        title=lens_name(lens),
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


def _range(values: np.ndarray) -> tuple[float, float]:
    known = values[np.isfinite(values)]
    if not known.size:
        return 0.0, 1.0
    low, high = float(known.min()), float(known.max())
    return (low, high) if high > low else (low - 0.5, high + 0.5)
