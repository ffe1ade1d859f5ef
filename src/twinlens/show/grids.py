"""The grids of a result: its panels with ids, a place on the page, and what a card tells."""

from __future__ import annotations

import dataclasses
import math
from typing import Literal

import numpy as np

from twinlens.results import (
    HeadResult,
    LensResult,
    NeuronResult,
    RecurrenceResult,
    Result,
    TraceResult,
)
from twinlens.results.effects import RestoredResult
from twinlens.results.heads import SCORES
from twinlens.results.lens import CONTRIBUTION_METRICS
from twinlens.results.neurons import REDUCTIONS
from twinlens.results.units import plain_numbering
from twinlens.show.arrays import array
from twinlens.show.head_panels import NAMES, head_panel, meaning_of_star, named
from twinlens.show.lens_panels import lens_panel
from twinlens.show.neuron_panels import layer_view, map_panel
from twinlens.show.panels import Panel, on_rows, trace_panel
from twinlens.show.recurrence_panels import recurrence_panels
from twinlens.show.schema import Asked, Grid

MOST_UNITS = 1_000_000  # numbers of a neuron map; a larger one keeps the strongest of each cell
_LENS_GRIDS: tuple[tuple[str, str], ...] = (
    ("probability", "final"), ("probability", "next"), ("rank", "final"), ("rank", "next"),
    ("top_probability", "final"), ("entropy", "final"), ("kl_final_to_layer", "final"),
)  # fmt: skip


def grids_of(result: Result, rows: tuple[str, ...]) -> list[Grid]:
    """The grids of a result; a lens has its own way (`lens_grids`), attention has none."""
    if isinstance(result, TraceResult):
        return [_trace_grid(result, rows)]
    if isinstance(result, NeuronResult):
        return _neuron_grids(result, rows)
    if isinstance(result, HeadResult):
        return _head_grids(result, rows)
    if isinstance(result, RecurrenceResult):
        return _recurrence_grids(result, rows)
    return []


def grid_of(
    panel: Panel, name: str, side: Literal["left", "right"], group: str, short: str
) -> Grid:
    """A panel as a grid; what only some grids have is put in with `dataclasses.replace`."""
    return Grid(
        id=name, side=side, group=group, name=short, title=panel.title, subtitle=panel.subtitle,
        meaning=panel.meaning, scale=panel.scale, low=panel.low, high=panel.high,
        values=array(panel.values), columns=None if panel.columns is None else list(panel.columns),
        column=panel.column,
    )  # fmt: skip


def lens_grids(lens: LensResult, rows: tuple[str, ...], key: str, name: str) -> list[Grid]:
    """A grid for each metric that is worth a look; `key` and `name` are the lens' own in a look."""
    extra = dict.fromkeys(lens.targets[2:])
    wanted = list(_LENS_GRIDS) + [("probability", target) for target in extra]
    if lens.rows in ("attn", "mlp"):
        wanted = [(metric, "final") for metric in CONTRIBUTION_METRICS]
    prefix = "lens" if key == "final" else f"lens.{key}"
    return [
        dataclasses.replace(
            grid_of(
                lens_panel(lens, rows, metric, target),
                f"{prefix}.{lens.rows}.{metric}.{target}",
                "left",
                name,
                _lens_name(lens, metric, target),
            ),
            title=name,
            lens=key,
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
    grid = grid_of(
        trace_panel(trace, rows), f"trace.{trace.kind}", "right", "causal trace", trace.kind
    )
    parts = "head" if trace.kind == "head" else "none"
    return dataclasses.replace(grid, parts=parts, details=details, asked=_asked(trace))


def _neuron_grids(result: NeuronResult, rows: tuple[str, ...]) -> list[Grid]:
    effects, numbers, exact = _strongest(result)
    details = {"exact": array(on_rows(exact.astype(float), result.layers, rows) == 1)}
    if numbers is not None:
        details["unit"] = array(on_rows(numbers.astype(float), result.layers, rows), "int32")
    group = f"{result.basis}s"
    grids = [
        dataclasses.replace(
            grid_of(map_panel(result, rows), "neurons.map", "right", group, f"{result.basis} map"),
            values=array(on_rows(effects, result.layers, rows)), parts="unit", details=details,
            experts=plain_numbering(result.numbering),
        )
    ]  # fmt: skip
    for reduce in REDUCTIONS:
        view, name = layer_view(result, rows, reduce), f"neurons.{reduce}"
        grids.append(grid_of(view, name, "right", group, f"layer {reduce}"))
    return [dataclasses.replace(grid, asked=_asked(result)) for grid in grids]


def _head_grids(result: HeadResult, rows: tuple[str, ...]) -> list[Grid]:
    """A grid for each score; layers top to bottom, heads left to right."""
    return [
        dataclasses.replace(
            grid_of(
                head_panel(result, rows, score), f"heads.{score}", "right", "scores of heads",
                NAMES[score],
            ),
            details={
                "spread": array(on_rows(result.spread(score), result.layers, rows)),
                "marked": array(named(result, rows, score)),
            },
            marked=meaning_of_star(result, score),
        )
        for score in SCORES
    ]  # fmt: skip


def _recurrence_grids(result: RecurrenceResult, rows: tuple[str, ...]) -> list[Grid]:
    """The occurrences read by the lens on the left; looked at, and the heads, on the right."""
    found: list[Grid] = []
    for name, panel in recurrence_panels(result, rows).items():
        side = "left" if name == "lens" else "right"
        grid = grid_of(panel, f"recurrence.{name}", side, result.word, name)
        found.append(dataclasses.replace(grid, parts="head" if panel.values.ndim > 2 else "none"))
    return found


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


def _asked(result: RestoredResult) -> Asked:
    return Asked(
        result.metric, result.direction, result.focus, result.label(result.answer),
        _number(result.clean), _number(result.corrupted),
    )  # fmt: skip


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None
