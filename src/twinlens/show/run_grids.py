"""The grids of one fact of a run: tokens left to right, as those of a look at its prompt."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np

from twinlens.results.base import optional
from twinlens.results.units import plain_numbering
from twinlens.show.arrays import array
from twinlens.show.grids import grid_of
from twinlens.show.panels import Panel, gained, measured, on_rows, restored
from twinlens.show.schema import Asked, Grid, LensTop, Writes
from twinlens.show.summary_figure import corruption_of
from twinlens.sweep.store import SweepRun

TRACED = ("block", "mlp", "attn")
LENS = "final"
_NAMELESS = 2**30  # a run keeps what a lens says as labels: from here on numbers stand for them


@dataclasses.dataclass(frozen=True)
class FactRows:
    """One fact's rows of all four tables (polars), and the row of the table of facts."""

    run: SweepRun
    row: dict[str, Any]
    tokens: Any
    cells: Any
    neurons: Any

    @property
    def kinds(self) -> list[str]:
        """The kinds that were measured, in their order."""
        return self.cells["kind"].unique(maintain_order=True).to_list()

    def values(self, kind: str, rows: tuple[str, ...], value: str = "effect") -> np.ndarray:
        """A kind's numbers on the rows of the picture."""
        made = self.run.grid(self.row["fact"], kind, value, cells=self.cells)
        return on_rows(made, self.run.layers(kind), rows)


def lens_of(fact: FactRows, rows: tuple[str, ...]) -> tuple[LensTop, list[Grid], dict[str, str]]:
    """The lens as far as a run keeps it: the first token of each cell, the answer's probability
    and rank; and the labels of what is first. The first token's own probability is known only
    where it is the answer (NaN elsewhere)."""
    polars: Any = optional("polars", "sweep")
    cells = fact.cells.filter(polars.col("kind") == "lens").sort("layer", "token")
    said = cells["top"].to_list()
    number = {label: _NAMELESS + n for n, label in enumerate(dict.fromkeys(said))}
    shape = (len(fact.run.layers("lens")), len(fact.tokens), 1)
    ids = np.array([number[label] for label in said], dtype=float).reshape(shape)
    score, rank = (fact.values("lens", rows, name) for name in ("score", "rank"))
    top = LensTop(
        LENS, "logit lens", "none",
        array(np.nan_to_num(on_rows(ids, fact.run.layers("lens"), rows), nan=-1.0), "int32"),
        array(np.where(rank == 1, score, np.nan)[..., None]),
    )  # fmt: skip
    answer = fact.row["answer_label"]
    grids = [
        _lens_grid(rows, score, "probability", f"probability of {answer}", rank),
        _lens_grid(rows, rank, "rank", f"rank of {answer} (1 = first)", rank),
    ]
    return top, grids, {str(n): label for label, n in number.items()}


def _lens_grid(
    rows: tuple[str, ...], values: np.ndarray, metric: str, meaning: str, rank: np.ndarray
) -> Grid:
    panel = Panel(
        title="logit lens",
        subtitle="what each layer would say; text: the cell's top token, ★ where it is the answer",
        rows=rows, values=values, meaning=meaning,
        scale="log" if metric == "rank" else "sequential",
        low=1.0 if metric == "rank" else 0.0,
        high=float(np.nanmax(rank, initial=2.0)) if metric == "rank" else 1.0,
    )  # fmt: skip
    name = f"lens.block.{metric}.answer"
    made = grid_of(panel, name, "left", "logit lens", f"answer's {metric}")
    star = {"marked": array(rank == 1), "rank": array(rank)}
    return dataclasses.replace(made, lens=LENS, details=star, marked="the answer is first")


def effect_grids(fact: FactRows, rows: tuple[str, ...]) -> list[Grid]:
    """A grid for each kind of state, the layer mean of the neurons, and the strongest of them."""
    found = [_trace_grid(fact, rows, kind) for kind in fact.kinds if kind in TRACED]
    if "neurons" in fact.kinds:
        found += [_neuron_map(fact, rows), _neuron_mean(fact, rows)]
    return [dataclasses.replace(grid, asked=_asked(fact)) for grid in found]


def writes_of(fact: FactRows) -> dict[str, Writes]:
    """What the kept neurons write."""
    return {
        row["name"]: Writes(row["promotes"] or [], row["suppresses"] or [])
        for row in fact.neurons.to_dicts()
    }


def _trace_grid(fact: FactRows, rows: tuple[str, ...], kind: str) -> Grid:
    effects = fact.values(kind, rows)
    limit = _limit(effects)
    panel = Panel(
        title=f"causal trace: {kind}", subtitle=_runs(fact), rows=rows, values=effects,
        meaning=_meaning(fact, f"this {kind} state", 1 if kind == "block" else None),
        scale="diverging", low=-limit, high=limit,
    )  # fmt: skip
    details = {name: array(fact.values(kind, rows, name)) for name in ("score", "spread")}
    made = grid_of(panel, f"trace.{kind}", "right", "causal trace", kind)
    return dataclasses.replace(made, details=details)


def _neuron_mean(fact: FactRows, rows: tuple[str, ...]) -> Grid:
    effects = fact.values("neurons", rows)
    limit = _limit(effects)
    panel = Panel(
        title="neurons: mean of each layer",
        subtitle=f"mean over the MLP's neurons ({_how(fact)}); {_runs(fact)}",
        rows=rows, values=effects,
        meaning=f"{_meaning(fact, 'one neuron', 1)}: mean over the MLP's neurons",
        scale="diverging", low=-limit, high=limit,
    )  # fmt: skip
    return grid_of(panel, "neurons.mean", "right", "neurons", "layer mean")


def _neuron_map(fact: FactRows, rows: tuple[str, ...]) -> Grid:
    """The neurons that the run keeps, as units of their cells, strongest first."""
    kept: dict[tuple[int, int], list[dict[str, Any]]] = {}
    for one in sorted(fact.neurons.to_dicts(), key=lambda one: -abs(one["effect"])):
        place = rows.index(str(one["layer"])), one["token"]
        kept.setdefault(place, []).append(one)
    most = max(map(len, kept.values()), default=1)
    shape = (len(rows), len(fact.tokens), most)
    effects, units, exact = np.full(shape, np.nan), np.full(shape, -1.0), np.zeros(shape, bool)
    for place, found in kept.items():
        for n, one in enumerate(found):
            at = (*place, n)
            effects[at], units[at], exact[at] = one["effect"], one["neuron"], one["exact"]
    limit = _limit(effects)
    panel = Panel(
        title=f"the {len(fact.neurons)} strongest neurons",
        subtitle=f"those that the run keeps, each at its best token; {_how(fact)}; {_runs(fact)}",
        rows=rows, values=effects, meaning=f"{_meaning(fact, 'it', 1)}; each pixel one neuron",
        scale="symlog", low=-limit, high=limit,
    )  # fmt: skip
    made = grid_of(panel, "neurons.map", "right", "neurons", "neurons, the strongest")
    details = {"unit": array(units, "int32"), "exact": array(exact)}
    experts = plain_numbering(fact.run.numbering)
    return dataclasses.replace(made, parts="unit", details=details, experts=experts)


def _asked(fact: FactRows) -> Asked:
    settings, row = fact.run.manifest["settings"], fact.row
    clean, corrupted = (_number(row[name]) for name in ("clean", "corrupted"))
    return Asked(
        settings["metric"], settings["direction"], row["focus"], row["answer_label"], clean,
        corrupted,
    )  # fmt: skip


def _meaning(fact: FactRows, what: str, window: int | None) -> str:
    settings = fact.run.manifest["settings"]
    metric, direction = settings["metric"], settings["direction"]
    done = restored(direction, settings["window"] if window is None else window)
    words = measured(metric, fact.row["answer_label"])
    return f"{words} {gained(metric, direction)} when {what} is {done}"


def _runs(fact: FactRows) -> str:
    """The scores with nothing restored, and how the subject was corrupted."""
    words = measured(fact.run.manifest["settings"]["metric"], fact.row["answer_label"])
    clean, corrupted = (_told(fact.row[name]) for name in ("clean", "corrupted"))
    how = corruption_of(fact.run.manifest)
    return f"{words}: clean {clean}, corrupted {corrupted} ({how})"


def _how(fact: FactRows) -> str:
    settings = fact.run.manifest["settings"]
    if settings["method"] == "exact":
        return "exact: each restored alone"
    return f"estimates by {settings['method']}, the {settings['restored']} strongest exact"


def _told(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.3f}"


def _number(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _limit(values: np.ndarray) -> float:
    return float(np.nanmax(np.abs(values), initial=0.0)) or 1.0
