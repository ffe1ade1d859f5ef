"""A run of a sweep as documents: one fact, tokens left to right, or the average, roles left to
right; on the same rows, by the same names of grids, so that one can take the other's place."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from twinlens.errors import InputError
from twinlens.results.storage import plain
from twinlens.show.arrays import array
from twinlens.show.grids import grid_of
from twinlens.show.panels import Panel, gained, measured, on_rows, restored
from twinlens.show.run_grids import FactRows, effect_grids, lens_of, writes_of
from twinlens.show.schema import SCHEMA, Document, Grid, LensTop, Look, TokenList
from twinlens.show.summary_figure import corruption_of
from twinlens.sweep.store import SweepRun
from twinlens.sweep.summary import RoleAverage, Summary

_GRIDS = {
    "block": ("trace.block", "causal trace", "block", "block states"),
    "mlp": ("trace.mlp", "causal trace", "mlp", "MLPs"),
    "attn": ("trace.attn", "causal trace", "attn", "attention"),
    "neurons": ("neurons.mean", "neurons", "layer mean", "neurons, layer mean"),
}


def fact_document(run: SweepRun, fact: int, name: str = "") -> Document:
    """One fact of a run as a look at its prompt, called `name` (the folder's name).

    Raises `InputError` where the run has no such fact, or did not measure it.
    """
    facts, tokens, cells, neurons = (
        run.of_fact(table, fact) for table in ("facts", "tokens", "cells", "neurons")
    )
    if not len(facts):
        raise InputError(f"{run.path.name} has no fact {fact}, or it is not done yet")
    row = facts.row(0, named=True)
    if row["status"] != "measured":
        raise InputError(f"fact {fact} was not measured: {row['reason'] or row['status']}")
    rows = FactRows(run, row, tokens, cells, neurons)
    listed = TokenList(
        row["prompt"], *(tokens[column].to_list() for column in ("token_id", "label", "special"))
    )
    return _document(listed, _look_of_fact(rows, name or run.path.name))


def _look_of_fact(fact: FactRows, name: str) -> Look:
    run, row = fact.run, fact.row
    rows = max((run.layers(kind) for kind in fact.kinds), key=len)
    lenses: list[LensTop] = []
    grids: list[Grid] = []
    vocabulary: dict[str, str] = {}
    if "lens" in fact.kinds:
        top, grids, vocabulary = lens_of(fact, rows)
        lenses = [top]
    same = ("fact", "id", "answer_id", "counterfactual")
    about = {"result": "sweep"} | {name: row[name] for name in same}
    return Look(
        name=name,
        rows=list(rows),
        vocabulary=vocabulary,
        grids=grids + effect_grids(fact, rows),
        subject=fact.tokens["subject"].to_list(),
        notes=list(row["notes"] or []),
        settings=[about | _settings(run.manifest)],
        provenance=_provenance(run.manifest),
        lenses=lenses,
        focus=row["focus"],
        neurons=writes_of(fact),
    )


def average_document(summary: Summary, lens: RoleAverage | None = None, name: str = "") -> Document:
    """A summary on the grid: layers top to bottom, token roles left to right, called `name`.

    `lens` is the answer's probability in the lens (`averaged_lens`).
    """
    averages = ([lens] if lens is not None else []) + list(summary.kinds.values())
    if not averages:
        raise InputError("nothing was measured that could be averaged")
    rows, roles = max((made.layers for made in averages), key=len), averages[0].roles
    grids = [] if lens is None else [_lens_average(summary, lens, rows)]
    grids += [_average(summary, kind, made, rows) for kind, made in summary.kinds.items()]
    look = Look(
        name=name or " − ".join(summary.names),
        rows=list(rows),
        vocabulary={},
        grids=grids,
        subject=["subject" in role for role in roles],
        notes=list(summary.notes),
        settings=[{"result": "average", "level": summary.level} | _settings(summary.about)],
        provenance=_provenance(summary.about),
    )
    n = len(roles)  # the roles stand in the tokens' place
    return _document(TokenList("", list(range(n)), list(roles), [False] * n), look)


def _average(summary: Summary, kind: str, made: RoleAverage, rows: tuple[str, ...]) -> Grid:
    settings = summary.about["settings"]
    metric, direction = settings["metric"], settings["direction"]
    name, group, short, title = _GRIDS[kind]
    limit = float(np.nanmax(np.abs(made.mean), initial=0.0)) or 1.0
    done = restored(direction, 1 if kind in ("block", "neurons") else settings["window"])
    what = "each neuron" if kind == "neurons" else f"the {kind} state"
    mean, low, high = (f"{value:.3f}" for value in summary.total)
    effect = f"{measured(metric, 'the answer')} {gained(metric, direction)}"
    if summary.is_difference:
        effect = f"difference of: {effect}"
    panel = Panel(
        title=f"{title}: average over facts",
        subtitle=(
            f"{_facts(summary)}: total effect {mean} [{low}, {high}]"
            f" ({corruption_of(summary.about)}); a cell's card has its {summary.level:.0%} interval"
        ),
        rows=rows, values=on_rows(made.mean, made.layers, rows),
        meaning=f"{effect} when {what} is {done}; mean over facts",
        scale="diverging", low=-limit, high=limit, columns=made.roles, column="role",
    )  # fmt: skip
    grid = grid_of(panel, name, "right", group, short)
    return dataclasses.replace(grid, details=_interval(made, rows))


def _lens_average(summary: Summary, made: RoleAverage, rows: tuple[str, ...]) -> Grid:
    panel = Panel(
        title="logit lens: average over facts",
        subtitle=f"{_facts(summary)}: the probability of each one's answer",
        rows=rows, values=on_rows(made.mean, made.layers, rows),
        meaning="probability of the answer; mean over facts",
        scale="sequential", low=0.0, high=1.0, columns=made.roles, column="role",
    )  # fmt: skip
    name = "lens.block.probability.answer"
    grid = grid_of(panel, name, "left", "logit lens", "answer's probability")
    return dataclasses.replace(grid, details=_interval(made, rows))


def _interval(made: RoleAverage, rows: tuple[str, ...]) -> dict[str, Any]:
    """What a card tells of a mean: its interval, and of how many facts it is."""
    count = np.broadcast_to(made.count.astype(float), made.mean.shape)
    numbers = {"low": made.low, "high": made.high, "facts": count}
    return {name: array(on_rows(value, made.layers, rows)) for name, value in numbers.items()}


def _facts(summary: Summary) -> str:
    return f"{summary.n_facts:,} fact{'s' if summary.n_facts != 1 else ''}"


def _settings(about: Mapping[str, Any]) -> dict[str, Any]:
    """The run's settings, with the sigma that was resolved."""
    return plain({**about["settings"], "sigma": about["resolved"]["sigma"]})


def _provenance(about: Mapping[str, Any]) -> dict[str, Any]:
    model = about["model"]
    return plain({"model": model["name"], **model, "versions": about.get("versions", {})})


def _document(tokens: TokenList, look: Look) -> Document:
    from twinlens import __version__

    return Document(SCHEMA, __version__, tokens, [look])
