"""The reading side of a run's folder: four tables as polars frames, grids of one fact as arrays."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from twinlens.errors import InputError, RunFolderError
from twinlens.paths import expanded
from twinlens.results.base import optional
from twinlens.results.reading import read_objects, sound
from twinlens.results.units import Numbering, numbering_in, unit_name
from twinlens.sweep.manifest import REJECTED, read_manifest
from twinlens.sweep.tables import EMBED, TABLES, of_part, read_table, schema

_TRIES = 5


def open_run(path: str | Path) -> SweepRun:
    """Open the folder that a sweep wrote, finished or not.

    Raises `RunFolderError` where it is none, `SchemaVersionError` where it is of another schema,
    and `MissingExtraError` without polars and pyarrow (`pip install twinlens[sweep]`).
    """
    folder = expanded(path)
    optional("polars", "sweep")
    optional("pyarrow", "sweep")
    manifest = read_manifest(folder)
    if manifest is None:
        raise RunFolderError(
            f"{folder} is no run of a sweep: it has no manifest.json; `twinlens sweep FACTS -o"
            f" {folder}` makes one"
        )
    run = SweepRun(folder, manifest)
    with sound(folder / "manifest.json", RunFolderError):
        _ = run.numbering
    return run


def state_of(path: Path) -> tuple[int, ...]:
    """The same while nothing is written into a run's folder: when its files were changed."""
    names = ("manifest.json", "parts", *(f"{name}.parquet" for name in TABLES))
    return tuple(
        at.stat().st_mtime_ns if at.exists() else 0 for at in (path / name for name in names)
    )


@dataclass(frozen=True)
class SweepRun:
    """A run of a sweep: `manifest` (settings, model, versions) and four tables.

    `facts`: one row a fact: `status` (`measured`, `unknown` to the model, or `failed` with a
    `reason`), its prompt, answer and scores. `tokens`: one row a token. `cells`: one row a kind
    (`block`, `mlp`, `attn`, `neurons`: the mean over an MLP's neurons, `lens`), layer (-1: the
    embedding), and token: `score` (trace: the metric with the cell restored; lens: the answer's
    probability), `effect`, `corrupted`, `clean`, `spread` over the samples, and of the lens `rank`
    and `top`. `neurons`: the strongest neurons of each fact, each at its token; `neuron` counts in
    the block, `name` is as everywhere (`3.112`; of experts `3.E2.N17`). `fact` joins them: the row
    of the data set, from 0.
    """

    path: Path
    manifest: Mapping[str, Any]

    @cached_property
    def facts(self) -> Any:
        """One row a fact that is done (polars)."""
        return self._frame("facts")

    @cached_property
    def tokens(self) -> Any:
        """One row a token of each measured fact (polars)."""
        return self._frame("tokens")

    @cached_property
    def cells(self) -> Any:
        """One row a cell of each measured fact (polars)."""
        return self._frame("cells")

    @cached_property
    def neurons(self) -> Any:
        """The strongest neurons of each measured fact, with their names (polars)."""
        return self._named(self._frame("neurons"))

    @cached_property
    def numbering(self) -> Numbering:
        """How the neurons of experts are numbered, by block; empty where there are none, or where
        the run was made before twinlens kept it."""
        return numbering_in(self.manifest["model"])

    def unit_name(self, layer: int, neuron: int) -> str:
        """`3.112`, or of experts `3.E2.N17` and, of shared ones, `3.S.N17`."""
        return unit_name(layer, neuron, self.numbering)

    @property
    def rejected(self) -> list[dict[str, Any]]:
        """The rows of the data set that are no facts: `line`, `reason`, `row`."""
        path = self.path / REJECTED
        return read_objects(path, RunFolderError) if path.exists() else []

    def counts(self) -> dict[str, int | float | None]:
        """How many facts are done, measured, known, unknown, failed; and the share of known ones
        among those that the model could be asked (None where the data set has no answers)."""
        status, known = (self.facts[column] for column in ("status", "known"))
        judged = int(known.is_not_null().sum())
        found: dict[str, int | float | None] = {
            "done": len(self.facts),
            **{name: int((status == name).sum()) for name in ("measured", "failed")},
            "known": int(known.fill_null(value=False).sum()),
            "unknown": judged - int(known.fill_null(value=False).sum()),
            "rejected": int(self.manifest["facts"]["rejected"]),
        }
        share = (found["known"] or 0) / judged if judged else None
        return found | {"share_known": share}

    def layers(self, kind: str) -> tuple[str, ...]:
        """The rows of a kind, top to bottom, as in a result."""
        numbers = tuple(str(layer) for layer in range(int(self.manifest["model"]["n_layers"])))
        return ("embed", *numbers) if kind in ("block", "lens") else numbers

    def grid(
        self, fact: int, kind: str, value: str = "effect", *, cells: Any = None
    ) -> Float[np.ndarray, "layer token"]:
        """One fact's cells of a kind as an array: layers top to bottom, tokens left to right.

        `value` is a column of numbers of `cells`, which may be given where they were read alone
        (`of_fact`). Raises `InputError` where there is none.
        """
        polars: Any = optional("polars", "sweep")
        if value not in ("score", "effect", "corrupted", "clean", "spread", "rank"):
            raise InputError(f"value={value!r} is no column of numbers of the cells")
        whole = self.cells if cells is None else cells
        chosen = whole.filter((polars.col("fact") == fact) & (polars.col("kind") == kind))
        if not len(chosen):
            raise InputError(
                f"{self.path} has no cells of kind {kind!r} of fact {fact}: not measured, or"
                " not done yet"
            )
        n_tokens = int(chosen["token"].max()) + 1
        grid = np.full((len(self.layers(kind)), n_tokens), np.nan)
        rows = chosen["layer"].to_numpy() - (EMBED if kind in ("block", "lens") else 0)
        grid[rows, chosen["token"].to_numpy()] = chosen[value].cast(polars.Float64).to_numpy()
        return grid

    def of_fact(self, name: str, fact: int) -> Any:
        """One fact's rows of a table (polars), read alone: of a long run that is little."""
        rows = self._whole(lambda: self._rows(name, fact))
        return self._named(rows) if name == "neurons" else rows

    def _named(self, neurons: Any) -> Any:
        """The table of neurons with a column of their names."""
        polars: Any = optional("polars", "sweep")
        pairs = neurons.select("layer", "neuron").rows()
        names = {pair: self.unit_name(*pair) for pair in set(pairs)}
        column = polars.Series("name", [names[pair] for pair in pairs], dtype=polars.String)
        return neurons.with_columns(column)

    def _frame(self, name: str) -> Any:
        """A table and the parts that are not in it yet, in the order of the facts."""
        return self._whole(lambda: self._table(name)).sort("fact", maintain_order=True)

    def _whole(self, read: Callable[[], Any]) -> Any:
        polars: Any = optional("polars", "sweep")
        for left in reversed(range(_TRIES)):
            try:
                return polars.from_arrow(read())
            except FileNotFoundError:  # a part went into the table meanwhile
                if not left:
                    raise
        raise AssertionError

    def _rows(self, name: str, fact: int) -> Any:
        path = self.path / f"{name}.parquet"
        parts = sorted((self.path / "parts").glob(f"{fact:08d}-*.parquet"))
        if parts:
            return of_part(parts[0], name)
        if not path.exists():
            return schema(name).empty_table()
        return read_table(path, name, filters=[("fact", "==", fact)])

    def _table(self, name: str) -> Any:
        arrow: Any = optional("pyarrow", "sweep")
        path = self.path / f"{name}.parquet"
        parts = sorted((self.path / "parts").glob("[0-9]*.parquet"))
        whole = read_table(path, name) if path.exists() else schema(name).empty_table()
        has = set(whole.column("fact").unique().to_pylist())
        tables = [whole] + [of_part(part, name) for part in parts if int(part.name[:8]) not in has]
        return arrow.concat_tables(tables)
