"""The four tables of a run, and a unit's rows of all of them as one row of nested lists.

A unit is one row, so that one file holds all of it and appears whole or not at all.
"""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from twinlens.errors import RunFolderError
from twinlens.results.base import optional
from twinlens.results.reading import sound, why

TABLES = ("cells", "tokens", "neurons", "facts")  # in this order they are merged
EMBED = -1  # the layer number of the row before block 0

_COLUMNS: dict[str, dict[str, str]] = {
    "cells": {
        "fact": "int32",
        "kind": "string",
        "layer": "int16",
        "token": "int16",
        "role": "string",
        "score": "float64",
        "effect": "float64",
        "corrupted": "float64",
        "clean": "float64",
        "spread": "float64",
        "rank": "int32",
        "top": "string",
    },
    "tokens": {
        "fact": "int32",
        "token": "int16",
        "token_id": "int32",
        "label": "string",
        "start": "int32",
        "end": "int32",
        "special": "bool",
        "subject": "bool",
        "role": "string",
    },
    "neurons": {
        "fact": "int32",
        "layer": "int16",
        "neuron": "int32",
        "token": "int16",
        "role": "string",
        "effect": "float64",
        "exact": "bool",
        "promotes": "list",
        "suppresses": "list",
    },
    "facts": {
        "fact": "int32",
        "key": "string",
        "id": "string",
        "status": "string",
        "known": "bool",
        "reason": "string",
        "prompt": "string",
        "subject": "string",
        "answer": "string",
        "counterfactual": "string",
        "n_tokens": "int16",
        "focus": "int16",
        "answer_id": "int32",
        "answer_label": "string",
        "predicted_id": "int32",
        "predicted_label": "string",
        "probability": "float64",
        "clean": "float64",
        "corrupted": "float64",
        "notes": "list",
    },
}


@cache
def schema(name: str) -> Any:
    """The Arrow schema of a table."""
    arrow: Any = optional("pyarrow", "sweep")
    types = {
        "int16": arrow.int16(),
        "int32": arrow.int32(),
        "float64": arrow.float64(),
        "bool": arrow.bool_(),
        "string": arrow.string(),
        "list": arrow.list_(arrow.string()),
    }
    return arrow.schema([(column, types[kind]) for column, kind in _COLUMNS[name].items()])


def part(tables: Mapping[str, Mapping[str, Any]]) -> Any:
    """One unit's rows, given as columns, as an Arrow table of one row; absent columns are null."""
    arrow: Any = optional("pyarrow", "sweep")
    columns: list[Any] = []
    for name in TABLES:
        given = tables.get(name, {})
        rows = len(given["fact"]) if given else 0
        fields = list(schema(name))
        arrays = [_array(arrow, given.get(field.name), field.type, rows) for field in fields]
        structs = arrow.StructArray.from_arrays(arrays, fields=fields)
        columns.append(arrow.ListArray.from_arrays(arrow.array([0, rows], arrow.int32()), structs))
    return arrow.table(columns, names=list(TABLES))


def rows_of_part(whole: Any, name: str) -> Any:
    """The rows of one table in a part."""
    arrow: Any = optional("pyarrow", "sweep")
    structs = whole.column(name).combine_chunks().flatten()
    return arrow.Table.from_struct_array(structs).cast(schema(name))


def of_part(path: Path, name: str) -> Any:
    """The rows of one table in the file of a part. Raises as `read_table` does."""
    with readable(path):
        parquet: Any = optional("pyarrow.parquet", "sweep")
        return rows_of_part(parquet.read_table(path, columns=[name]), name)


def read_table(path: Path, name: str, **options: Any) -> Any:
    """A table of a run. Raises `RunFolderError` where the file is damaged or another table, and
    `FileNotFoundError` where it is gone."""
    with readable(path):
        parquet: Any = optional("pyarrow.parquet", "sweep")
        return parquet.read_table(path, **options).select(schema(name).names).cast(schema(name))


@contextlib.contextmanager
def readable(path: Path) -> Generator[None]:
    """Within this context a Parquet file is read; a damaged one becomes a `RunFolderError`."""
    arrow: Any = optional("pyarrow", "sweep")
    try:
        with sound(path, RunFolderError):
            yield
    except MemoryError:  # Arrow's is an `ArrowException` as well
        raise
    except arrow.ArrowException as error:
        raise RunFolderError(f"{path} is damaged: {why(error)}") from error
    except RunFolderError as error:
        if isinstance(error.__cause__, FileNotFoundError):
            raise error.__cause__ from None  # it went into a table meanwhile
        raise


def _array(arrow: Any, values: Any, kind: Any, rows: int) -> Any:
    return arrow.nulls(rows, kind) if values is None else arrow.array(values, kind)
