"""Results as a document: what the page shows, as plain values and base64 arrays."""

from __future__ import annotations

import base64
import dataclasses
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np

from twinlens.errors import InputError
from twinlens.results import LensResult, NeuronResult, Result, TraceResult
from twinlens.results.effects import RestoredResult
from twinlens.results.lens import CONTRIBUTION_METRICS
from twinlens.results.neurons import REDUCTIONS
from twinlens.results.storage import plain
from twinlens.show.neuron_panels import layer_view, map_panel
from twinlens.show.panels import Panel, lens_panel, on_rows, rows_of, same_prompt, trace_panel
from twinlens.show.schema import (
    SCHEMA,
    Array,
    Asked,
    Document,
    Grid,
    LensTop,
    Look,
    TokenList,
    Writes,
)

MOST_UNITS = 1_000_000  # numbers of a neuron map; a larger one keeps the strongest of each cell
_LENS_GRIDS: tuple[tuple[str, str], ...] = (
    ("probability", "final"), ("probability", "next"), ("rank", "final"), ("rank", "next"),
    ("top_probability", "final"), ("entropy", "final"), ("kl_final_to_layer", "final"),
)  # fmt: skip


def document(
    looks: Mapping[str, Sequence[Result]], *, flip: bool = False, transpose: bool = False
) -> Document:
    """The document of some named sets of results, all of the same tokens.

    Raises `InputError` where they are not, or where there are none.
    """
    from twinlens import __version__

    results = [result for named in looks.values() for result in named]
    same_prompt(results)
    tokens = results[0].tokens
    listed = TokenList(
        tokens.text, tokens.ids.tolist(), list(tokens.labels), tokens.special.tolist()
    )
    made = [_look(name, of_one) for name, of_one in looks.items()]
    return Document(SCHEMA, __version__, listed, made, flip, transpose)


def _look(name: str, results: Sequence[Result]) -> Look:
    if not results:
        raise InputError(f"nothing to show under {name!r}")
    rows = rows_of(results)
    lenses = [r for r in results if isinstance(r, LensResult)]
    restored = [r for r in results if isinstance(r, RestoredResult)]
    vocabulary = {str(i): label for r in results for i, label in r.vocabulary.items()}
    focuses = {r.focus for r in restored}
    return Look(
        name=name,
        rows=list(rows),
        vocabulary=vocabulary,
        grids=_unlike([grid for result in results for grid in _grids(result, rows)]),
        subject=np.logical_or.reduce([r.subject_mask for r in restored]).tolist()
        if restored
        else [False] * len(results[0].tokens),
        notes=list(dict.fromkeys(note for r in results for note in r.notes)),
        settings=[{"result": r.kind_of_result, **plain(r.settings)} for r in results],
        provenance=plain(results[0].provenance),
        surprisal=array(lenses[0].surprisal_bits) if lenses else None,
        top=_top(lenses[0], rows) if lenses else None,
        focus=focuses.pop() if len(focuses) == 1 else None,
        neurons=_writes([r for r in results if isinstance(r, NeuronResult)]),
    )


def _unlike(grids: Sequence[Grid]) -> list[Grid]:
    """The grids with ids and names of their own, where several results are of one kind."""
    seen: Counter[str] = Counter()
    found: list[Grid] = []
    for grid in grids:
        seen[grid.id] += 1
        if (n := seen[grid.id]) > 1:
            grid = dataclasses.replace(grid, id=f"{grid.id}~{n}", name=f"{grid.name} ({n})")
        found.append(grid)
    return found


def _asked(result: RestoredResult) -> Asked:
    return Asked(
        result.metric, result.direction, result.focus, result.label(result.answer),
        _number(result.clean), _number(result.corrupted),
    )  # fmt: skip


def _writes(results: Sequence[NeuronResult]) -> dict[str, Writes]:
    return {
        f"{layer}.{unit}": Writes(
            [result.label(i) for i in result.promoted[at]],
            [result.label(i) for i in result.suppressed[at]],
        )
        for result in results
        for at, (layer, unit) in enumerate(result.named.tolist())
    }


def _grids(result: Result, rows: tuple[str, ...]) -> list[Grid]:
    if isinstance(result, LensResult):
        return _lens_grids(result, rows)
    if isinstance(result, TraceResult):
        return [_trace_grid(result, rows)]
    assert isinstance(result, NeuronResult)
    return _neuron_grids(result, rows)


def _lens_grids(lens: LensResult, rows: tuple[str, ...]) -> list[Grid]:
    extra = dict.fromkeys(lens.targets[2:])
    wanted = list(_LENS_GRIDS) + [("probability", target) for target in extra]
    if lens.rows in ("attn", "mlp"):
        wanted = [(metric, "final") for metric in CONTRIBUTION_METRICS]
    return [
        _grid(
            lens_panel(lens, rows, metric, target),
            f"lens.{lens.rows}.{metric}.{target}",
            "left",
            _lens_name(lens, metric, target),
        )
        for metric, target in wanted
    ]


def _lens_name(lens: LensResult, metric: str, target: str) -> str:
    name = metric.replace("_", " ")
    if metric not in ("probability", "rank", "logit"):
        return name
    if target in ("final", "next"):
        return f"{name} of the {target} token"
    named = lens.label(int(target)) if target.isdecimal() else target  # asked for by id or by text
    return f"{name} of {named}"


def _trace_grid(trace: TraceResult, rows: tuple[str, ...]) -> Grid:
    details = {
        "score": array(on_rows(trace.scores, trace.layers, rows)),
        "spread": array(on_rows(trace.spread(), trace.layers, rows)),
    }
    return _grid(
        trace_panel(trace, rows), f"trace.{trace.kind}", "right", trace.kind,
        "head" if trace.kind == "head" else "none", details, asked=_asked(trace),
    )  # fmt: skip


def _neuron_grids(result: NeuronResult, rows: tuple[str, ...]) -> list[Grid]:
    effects, numbers, exact = _strongest(result)
    details = {"exact": array(on_rows(exact.astype(float), result.layers, rows) == 1)}
    if numbers is not None:
        details["unit"] = array(on_rows(numbers.astype(float), result.layers, rows), "int32")
    panel = map_panel(result, rows)
    grids = [
        _grid(
            panel, "neurons.map", "right", f"{result.basis} map", "unit", details,
            on_rows(effects, result.layers, rows), asked=_asked(result),
        )
    ]  # fmt: skip
    for reduce in REDUCTIONS:
        view, name = layer_view(result, rows, reduce), f"neurons.{reduce}"
        grids.append(_grid(view, name, "right", f"layer {reduce}", asked=_asked(result)))
    return grids


def _strongest(result: NeuronResult) -> tuple[np.ndarray, np.ndarray | None, np.ndarray]:
    """Effects, unit numbers (None: all, in order) and what is exact, few enough for a page."""
    effects, exact = result.effects(), result.exact_mask
    numbers = result.kept if result.kept.size else None
    keep = max(1, MOST_UNITS // max(1, math.prod(effects.shape[:2])))
    if keep >= effects.shape[2]:
        return effects, numbers, exact
    order = np.argsort(-np.nan_to_num(np.abs(effects), nan=-1.0), axis=-1, kind="stable")
    order = order[..., :keep]
    if numbers is not None:
        numbers = np.take_along_axis(numbers, order, axis=2)
    effects, exact = (np.take_along_axis(a, order, axis=2) for a in (effects, exact))
    return effects, order if numbers is None else numbers, exact


def _grid(
    panel: Panel,
    name: str,
    side: Literal["left", "right"],
    short: str,
    parts: Literal["none", "head", "unit"] = "none",
    details: dict[str, Array] | None = None,
    values: np.ndarray | None = None,
    *,
    asked: Asked | None = None,
) -> Grid:
    return Grid(
        id=name, side=side, name=short, title=panel.title, subtitle=panel.subtitle,
        meaning=panel.meaning, scale=panel.scale, low=panel.low, high=panel.high,
        values=array(panel.values if values is None else values), parts=parts,
        details=details or {}, asked=asked,
    )  # fmt: skip


def _top(lens: LensResult, rows: tuple[str, ...]) -> LensTop:
    contributions = lens.rows in ("attn", "mlp")
    values = lens.top_logits if contributions else lens.top_probs
    ids = on_rows(lens.top_ids.astype(float), lens.layers, rows)
    return LensTop(
        "logit" if contributions else "probability",
        array(np.nan_to_num(ids, nan=-1.0), "int32"),
        array(on_rows(values, lens.layers, rows)),
    )


def array(values: np.ndarray, dtype: Literal["float32", "int32"] = "float32") -> Array:
    """Numbers for the page: float32 or int32; booleans as bytes; small whole numbers as uint16."""
    if values.dtype == bool:
        kept, name = values.astype("u1"), "uint8"
    elif dtype == "int32":
        whole = np.nan_to_num(values, nan=-1.0)
        small = bool(whole.size) and whole.min() >= 0 and whole.max() < 2**16
        kept, name = whole.astype("<u2" if small else "<i4"), "uint16" if small else "int32"
    else:
        kept, name = values.astype("<f4"), "float32"
    return Array(name, list(values.shape), base64.b64encode(kept.tobytes()).decode("ascii"))


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None
