"""A summary for a terminal: a grid of layers and token roles for each kind, then the neurons."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from twinlens.sweep.summary import RoleAverage, Summary


def summary_tables(summary: Summary) -> Iterator[Any]:
    """Lines and rich tables, in the order of reading."""
    from rich.table import Table
    from rich.text import Text

    what = " − ".join(summary.names)
    mean, low, high = summary.total
    traced = f"; total effect {mean:.3f} [{low:.3f}, {high:.3f}]" if mean == mean else ""
    yield f"{what}: {summary.n_facts} facts{traced}"
    yield from summary.notes
    for kind, average in summary.kinds.items():
        layer, role, peak = average.peak()
        yield f"\n{kind}: largest mean effect {peak:.4f}, layer {layer}, {role}"
        yield _grid(average)
    if summary.neurons:
        neurons = Table(box=None, padding=(0, 2, 0, 0), title="neurons that matter most often")
        for column in ("layer.neuron", "facts", "mean effect", "writes for"):
            neurons.add_column(column, justify="left" if column != "facts" else "right")
        for one in summary.neurons:
            facts = f"{one.count} ({one.share:.0%})"
            neurons.add_row(one.name, facts, f"{one.effect:.4f}", Text("  ".join(one.promotes)))
        yield neurons


def _grid(average: RoleAverage) -> Any:
    from rich.table import Table
    from rich.text import Text

    grid = Table(box=None, padding=(0, 1, 0, 0))
    grid.add_column("")
    for role in average.roles:
        grid.add_column(role, justify="right")
    most = float(np.nanmax(np.abs(average.mean), initial=0.0)) or 1.0
    digits = int(min(max(2 - np.floor(np.log10(most)), 2), 8))
    for name, row in zip(average.layers, average.mean, strict=True):
        cells = ["" if np.isnan(v) else f"{v:.{digits}f}" for v in row]
        strong = [bool(np.isfinite(v) and abs(v) > most / 2) for v in row]
        grid.add_row(
            name, *(Text(c, "bold" if s else "") for c, s in zip(cells, strong, strict=True))
        )
    return grid
