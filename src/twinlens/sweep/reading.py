"""Files of facts to rows with their lines (JSON, JSON Lines, CSV, Parquet); none is judged here."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast

from twinlens.errors import FactsError
from twinlens.model import hamlet
from twinlens.results.base import optional

Row = Mapping[str, Any]
Rows = Iterator[tuple[int, Row | str]]
"""Line (from 1) and row; or why there is none."""

_READERS = (".json", ".jsonl", ".ndjson", ".csv", ".parquet")


def rows_of(path: Path) -> Rows:
    """The rows of a file by its ending. Raises `FactsError` where it cannot be read at all."""
    ending = path.suffix.lower()
    if ending not in _READERS:
        raise FactsError(
            f"{path} is no file of facts by its name; expected {', '.join(_READERS)}, or 'hamlet'"
        )
    try:
        if ending == ".parquet":
            return _parquet(path)
        raw = path.read_bytes()
    except FileNotFoundError as error:
        raise FactsError(f"{path} does not exist") from error
    except OSError as error:
        raise FactsError(f"{path} cannot be read: {error.strerror or error}") from error
    if ending == ".csv":
        return _csv(path, raw)
    return _json(path, raw) if ending == ".json" else _json_lines(raw)


def _json(path: Path, raw: bytes) -> Rows:
    """A list of objects (known_1000.json), one object a line, or hamlet's facts.json."""
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise FactsError(f"{path} is no text in UTF-8: {error.reason}") from error
    start = text.lstrip()
    if start.startswith("["):
        return _json_array(path, text)
    try:
        world = json.loads(start)
    except (ValueError, RecursionError):
        return _json_lines(raw)
    if isinstance(world, dict) and {"entities", "relations"} <= world.keys():
        return ((n, row) for n, row in enumerate(hamlet.facts_of(world), 1))
    return _json_lines(raw)


def _json_array(path: Path, text: str) -> Rows:
    """One value after the other, so that each has its line."""
    decoder, at, line, counted = json.JSONDecoder(), text.index("[") + 1, 1, 0
    expects_value = False
    while True:
        at = _next_sign(text, at)
        if text[at : at + 1] == "]" and not expects_value:
            return
        line, counted = line + text.count("\n", counted, at), at
        try:
            value, at = decoder.raw_decode(text, at)
        except (ValueError, RecursionError) as error:
            raise FactsError(f"{path}, line {line}: the JSON is broken there ({error})") from error
        yield line, value if isinstance(value, dict) else f"a {type(value).__name__}, no object"
        at = _next_sign(text, at)
        expects_value = text[at : at + 1] == ","
        if not expects_value and text[at : at + 1] != "]":
            raise FactsError(f"{path}, line {line}: the JSON breaks off after this row")
        at += expects_value


def _next_sign(text: str, at: int) -> int:
    while at < len(text) and text[at] in " \t\r\n":
        at += 1
    return at


def _json_lines(raw: bytes) -> Rows:
    for line, content in enumerate(raw.removeprefix(b"\xef\xbb\xbf").split(b"\n"), 1):
        if not content.strip():
            continue
        try:
            row = json.loads(content)
        except (ValueError, RecursionError) as error:  # bytes that are no UTF-8 too
            yield line, f"no JSON: {error}"
            continue
        yield line, row if isinstance(row, dict) else f"a {type(row).__name__}, no object"


def _csv(path: Path, raw: bytes) -> Rows:
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise FactsError(f"{path} is no text in UTF-8: {error.reason}") from error
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    while True:
        line = reader.line_num + 1
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield line, f"no CSV: {error}"
            continue
        line = max(line, 2)  # the first call reads the header too
        if None in row:
            yield line, "more fields than the header names"
        else:
            yield line, {name: value or None for name, value in row.items()}


def _parquet(path: Path) -> Rows:
    parquet: Any = optional("pyarrow.parquet", "sweep")
    arrow: Any = optional("pyarrow", "sweep")
    try:
        table = parquet.read_table(path)
    except FileNotFoundError as error:
        raise FactsError(f"{path} does not exist") from error
    except (OSError, arrow.ArrowException) as error:
        raise FactsError(f"{path} is damaged or no Parquet file: {error}") from error
    return _rows_of_table(table)


def _rows_of_table(table: Any) -> Rows:
    line = 0
    for batch in table.to_batches(max_chunksize=1024):
        for row in cast("list[dict[str, Any]]", batch.to_pylist()):
            line += 1
            yield line, row
