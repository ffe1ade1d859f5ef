"""A result to one safetensors file and back: arrays as tensors, the rest as JSON in the header."""

from __future__ import annotations

import dataclasses
import json
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import AbstractArray, jaxtyped

from twinlens.errors import ResultFileError, SchemaVersionError
from twinlens.results.base import Provenance, Result, Tokens
from twinlens.results.fitted import FittedLens, LensComparison
from twinlens.results.heads import AttentionResult, HeadResult
from twinlens.results.lens import LensResult
from twinlens.results.neurons import NeuronResult
from twinlens.results.reading import sound
from twinlens.results.recurrence import RecurrenceResult
from twinlens.results.trace import TraceResult
from twinlens.results.use import UseResult
from twinlens.results.writing import replacing

SCHEMA_VERSION = 1
_HEADER = "twinlens"
_POSITIONS = ("focus", "queries", "explained", "places")
_SPANS = ("occurrences", "controls")
_CLASSES: dict[str, type[Result]] = {
    c.kind_of_result: c
    for c in (
        LensResult,
        TraceResult,
        NeuronResult,
        HeadResult,
        AttentionResult,
        RecurrenceResult,
        FittedLens,
        LensComparison,
        UseResult,
    )
}


def save_result(result: Result, path: Path) -> Path:
    """Write a result; the file appears whole or not at all."""
    from safetensors.numpy import save

    arrays: dict[str, np.ndarray] = {}
    header = {
        "schema": SCHEMA_VERSION,
        "result": result.kind_of_result,
        "fields": _split(result, "", arrays),
    }
    payload = save(arrays, metadata={_HEADER: json.dumps(header, ensure_ascii=False)})
    with replacing(path) as temporary:
        temporary.write_bytes(payload)
    return path


def open_result(path: str | Path) -> Result:
    """Read a result that `.save` wrote: a `LensResult`, `TraceResult`, `NeuronResult`,
    `HeadResult`, `AttentionResult`, `RecurrenceResult`, `FittedLens`, `LensComparison` or
    `UseResult`.

    Raises `ResultFileError` where the file is missing, damaged or no twinlens result, and
    `SchemaVersionError` where it was written with another version of the schema.
    """
    path = Path(path)
    with sound(path, ResultFileError):
        is_folder = path.is_dir()
    if is_folder:
        raise ResultFileError(f"{path} is a folder; give the files in it")
    header, arrays = _read(path)
    if header.get("schema") != SCHEMA_VERSION:
        raise SchemaVersionError(
            f"{path} has result schema {header.get('schema')!r}; this twinlens reads schema"
            f" {SCHEMA_VERSION}: use the version of twinlens that wrote it, or make it again"
        )
    try:
        result = _join(_CLASSES[header["result"]], header["fields"], "", arrays)
        _check(result)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        reason = f"missing {error}" if isinstance(error, KeyError) else str(error)
        raise ResultFileError(f"{path} is not a whole twinlens result: {reason}") from error
    return result


def plain(value: Any) -> Any:
    """Nested dicts, lists, numbers and strings, as strict JSON wants them (NaN becomes None)."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [plain(item) for item in value]
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return value


def _split(value: Any, prefix: str, arrays: dict[str, np.ndarray]) -> dict[str, Any]:
    """Fields of a dataclass: arrays go to `arrays` under dotted names, the rest is returned."""
    fields: dict[str, Any] = {}
    for field in dataclasses.fields(value):
        item, name = getattr(value, field.name), prefix + field.name
        if isinstance(item, np.ndarray):
            arrays[name] = np.ascontiguousarray(item)
        elif isinstance(item, Tokens | Provenance):
            fields[field.name] = _split(item, name + ".", arrays)
        else:
            fields[field.name] = plain(item)
    return fields


def _read(path: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            header = json.loads((file.metadata() or {})[_HEADER])
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except FileNotFoundError as error:
        raise ResultFileError(f"{path} does not exist") from error
    except KeyError as error:
        raise ResultFileError(f"{path} is a safetensors file but no twinlens result") from error
    except (SafetensorError, OSError, ValueError, TypeError, RecursionError) as error:
        raise ResultFileError(f"{path} is damaged or no twinlens result: {error}") from error
    if not isinstance(header, dict):
        raise ResultFileError(f"{path} is damaged: its header is not an object")
    return header, arrays


def _join(cls: type, fields: Mapping[str, Any], prefix: str, arrays: dict[str, np.ndarray]) -> Any:
    hints = typing.get_type_hints(cls)
    values: dict[str, Any] = {}
    for field in dataclasses.fields(cls):
        name, hint = prefix + field.name, hints[field.name]
        if _is_array(hint):
            values[field.name] = arrays[name]
        elif hint in (Tokens, Provenance):
            values[field.name] = _join(hint, fields[field.name], name + ".", arrays)
        else:
            values[field.name] = _from_json(fields[field.name], hint, name)
    return cls(**values)


def _from_json(value: Any, hint: Any, name: str) -> Any:
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin is tuple:
        if isinstance(value, list):
            return tuple(_from_json(item, args[0], name) for item in value)
    elif origin is typing.Literal:
        if value in args:
            return value
    elif origin is not None and issubclass(origin, Mapping):
        if isinstance(value, dict):
            return {
                args[0](key): item if args[1] is Any else _from_json(item, args[1], name)
                for key, item in value.items()
            }
    elif hint is float:
        if value is None:
            return float("nan")
        if isinstance(value, int | float) and not isinstance(value, bool):
            return float(value)
    elif type(value) is hint:
        return value
    raise TypeError(f"{name} has the value {value!r}")


def _is_array(hint: Any) -> bool:
    return isinstance(hint, type) and issubclass(hint, AbstractArray)


def _check(result: Result) -> None:
    """Number types, shapes and lengths that belong together do so."""
    with jaxtyped("context"):
        for owner in (result.tokens, result):
            for name, hint in typing.get_type_hints(type(owner)).items():
                if _is_array(hint) and not isinstance(getattr(owner, name), hint):
                    array = getattr(owner, name)
                    raise ValueError(f"{name} is {array.dtype} {array.shape}, not {hint.__name__}")
    lengths = {"layer": len(result.layers), "token": len(result.tokens.ids)}
    for dims, array in result._variables().values():
        if any(lengths.get(d, n) != n for d, n in zip(dims, array.shape, strict=True)):
            raise ValueError("the arrays and the rows or tokens differ in length")
    if len(result.tokens.labels) != len(result.tokens.ids):
        raise ValueError("tokens and labels differ in number")
    if isinstance(result, FittedLens | NeuronResult | UseResult):
        result._check()
    _check_places(result)


def _check_places(result: Result) -> None:
    """Positions, spans and heads are those of the prompt and of the rows."""
    tokens, n_tokens = result.tokens, len(result.tokens.ids)
    if not (tokens.starts <= tokens.ends).all() or not (
        _within(tokens.starts, len(tokens.text) + 1) and _within(tokens.ends, len(tokens.text) + 1)
    ):
        raise ValueError("the tokens do not lie in the text")
    for name in _POSITIONS:
        if not _within(getattr(result, name, ()), n_tokens):
            raise ValueError(f"{name} is no position of the prompt")
    for name in _SPANS:
        spans = np.asarray(getattr(result, name, np.empty((0, 2))))
        if not ((spans[:, 0] < spans[:, 1]).all() and _within(spans, n_tokens + 1)):
            raise ValueError(f"{name} has a span that is none of the prompt")
    if isinstance(result, AttentionResult) and not (
        _within(result.heads[:, 0], len(result.layers)) and _within(result.heads[:, 1], 10**6)
    ):
        raise ValueError("a head is in no layer")


def _within(numbers: Any, stop: int) -> bool:
    """Whether whole numbers are at least 0 and below `stop`."""
    values = np.asarray(numbers)
    return bool(((values >= 0) & (values < stop)).all())
