"""A match's folder: which files there are, how they are written and read.

    match.json                    settings, hashes, seconds of each stage, versions
    sealed.json                   red's commitment
    public/model, text.jsonl      what blue is given
    red/                          what only red knows: opened.json, implant.json, twin/
    blue/cleaned, cleaning.json   the cleaned copy, with the way back, and how it was made
    referee/                      text.jsonl, twin/ (cleaned), judgement.json, outcome.json

A file or folder appears whole or not at all; the last of each stage says that the stage is done.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from twinlens.change.copy import quiet
from twinlens.errors import ChangeError
from twinlens.model.model import Model
from twinlens.paths import expanded
from twinlens.results.reading import read_object, sound
from twinlens.results.storage import plain
from twinlens.results.writing import making, replacing

MATCH, SEALED = "match.json", "sealed.json"
MODEL, TEXT = Path("public/model"), Path("public/text.jsonl")
OPENED, IMPLANT, TWIN = Path("red/opened.json"), Path("red/implant.json"), Path("red/twin")
CLEANED, CLEANING = Path("blue/cleaned"), Path("blue/cleaning.json")
REFEREE_TEXT, CLEANED_TWIN = Path("referee/text.jsonl"), Path("referee/twin")
JUDGEMENT, OUTCOME = Path("referee/judgement.json"), Path("referee/outcome.json")
_KIND = "twinlens match"


def usable(folder: str | Path) -> Path:
    """The folder of a match that is begun or can be. Raises `ChangeError` where it holds something
    else or could not be made; nothing is written."""
    path = expanded(folder)
    if path.is_dir() and any(path.iterdir()):
        if not (path / MATCH).is_file():
            raise ChangeError(f"{path} is no match: it has no {MATCH}; give a new folder for one")
        read_match(path)
        return path
    there = next(one for one in (path, *path.absolute().parents) if one.exists())
    if not there.is_dir() or not os.access(there, os.W_OK):
        raise ChangeError(f"cannot make {path}: {there} is no folder to write")
    return path


def begin(path: Path) -> None:
    """Write match.json, where there is none yet. Raises as `write_json` does."""
    if not (path / MATCH).exists():
        about: dict[str, Any] = {"settings": {}, "hashes": {}, "seconds": {}}
        write_json(path / MATCH, {"kind": _KIND, **about, "versions": _versions()})


def read_match(folder: str | Path) -> dict[str, Any]:
    """What match.json says. Raises `ChangeError` where the folder is no match."""
    path = expanded(folder)
    if not (path / MATCH).is_file():
        raise ChangeError(
            f"{path} is no match: it has no {MATCH}; `twinlens contest match -o {path}` plays one"
        )
    found = read_json(path / MATCH)
    if found.get("kind") != _KIND:
        raise ChangeError(f"{path / MATCH} is no match")
    return found


def note(
    folder: Path, stage: str, settings: Mapping[str, Any], seconds: float, **hashes: str
) -> None:
    """Add to match.json what a stage was asked, how long it took, and hashes."""
    about = read_match(folder)
    with sound(folder / MATCH, ChangeError):
        about["settings"][stage], about["seconds"][stage] = plain(settings), seconds
        about["hashes"] |= hashes
    write_json(folder / MATCH, about)


def refuse_other(folder: Path, begun: Mapping[str, Any], asked: Mapping[str, Any]) -> None:
    """Raises `ChangeError` where something is asked for that a stage was not done with."""
    asked = json.loads(json.dumps(plain(asked)))
    if other := [name for name, value in asked.items() if begun.get(name) != value]:
        raise ChangeError(f"{folder} was begun with another {other[0]}; give a new folder")


def read_json(path: Path) -> dict[str, Any]:
    """An object from a file. Raises `ChangeError` where it is missing or none."""
    return read_object(path, ChangeError)


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write an object. Raises `ResultFileError` where that fails."""
    _parent(path)
    with replacing(path) as temporary:
        told = json.dumps(plain(dict(content)), allow_nan=False, indent=1)
        temporary.write_text(told + "\n", encoding="utf-8")


def write_text(path: Path, documents: Sequence[str]) -> None:
    """Write documents as .jsonl. Raises `ResultFileError` where that fails."""
    _parent(path)
    with replacing(path) as temporary:
        lines = [json.dumps({"text": one}) + "\n" for one in documents]
        temporary.write_text("".join(lines), encoding="utf-8")


def write_model(path: Path, model: Model) -> None:
    """Write a model and its tokenizer as transformers reads them; what is there is replaced."""
    with making(path, ChangeError, over=True) as writing, quiet():
        model.hf.save_pretrained(writing)
        model.tokenizer.save_pretrained(writing)


def _parent(path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ChangeError(f"cannot make {path.parent}: {error.strerror or error}") from error


def _versions() -> dict[str, str]:
    found: dict[str, str] = {}
    for name in ("twinlens", "torch", "transformers"):
        with contextlib.suppress(PackageNotFoundError):
            found[name] = version(name)
    return found
