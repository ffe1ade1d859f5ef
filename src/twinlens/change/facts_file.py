"""Facts to be edited, from a file: an object with the fields of `Fact` in each line."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from twinlens.change.facts import Fact
from twinlens.errors import FactsError, InputError
from twinlens.results.reading import why

_FIELDS = {field.name for field in fields(Fact)}
_LISTS = ("paraphrases", "neighbours", "others")


def read_edits(path: Path) -> list[Fact]:
    """The facts of a .jsonl file, in order. Raises `FactsError` that names the line."""
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except FileNotFoundError as error:
        raise FactsError(f"the facts {path} do not exist") from error
    except (OSError, UnicodeDecodeError) as error:
        raise FactsError(f"the facts {path} cannot be read: {why(error)}") from error
    found = [_fact(line, f"{path}, line {n}") for n, line in enumerate(lines, 1) if line.strip()]
    if not found:
        raise FactsError(f"{path} has no facts; expected an object a line")
    return found


def _fact(line: str, where: str) -> Fact:
    try:
        given = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise FactsError(f"{where} is no JSON: {error}") from error
    if not isinstance(given, Mapping) or not {"prompt", "subject", "target"} <= set(given):
        raise FactsError(f"{where} is no fact; expected an object with prompt, subject and target")
    if unknown := sorted(set(given) - _FIELDS):
        raise FactsError(f"{where}: {unknown[0]!r} is not known; choose from {sorted(_FIELDS)}")
    try:
        return Fact(**{name: _value(name, value) for name, value in given.items()})
    except InputError as error:
        raise FactsError(f"{where}: {error}") from error


def _value(name: str, value: Any) -> Any:
    """Lists as they are meant: texts, or pairs of texts."""
    if name not in _LISTS:
        if isinstance(value, str) or (value is None and name == "truth"):
            return value
        raise InputError(f"{name}={value!r} must be a text")
    if not isinstance(value, list):
        raise InputError(f"{name}={value!r} must be a list")
    for item in value:
        texts = item if isinstance(item, list) and name != "paraphrases" else [item, ""]
        if len(texts) != 2 or not all(isinstance(text, str) for text in texts):
            pair = "" if name == "paraphrases" else " or [prompt, answer]"
            raise InputError(f"{name}: {item!r} must be a prompt{pair}")
    return [item if isinstance(item, str) else tuple(item) for item in value]
