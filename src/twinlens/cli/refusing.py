"""What is refused before a model is loaded, in the same words by every command."""

from __future__ import annotations

import tempfile
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING

from twinlens.cli.options import (
    CorruptionOptions,
    LensOptions,
    ModelOptions,
    NoiseOptions,
    OutputOptions,
)
from twinlens.cli.settings import refuse_idle
from twinlens.errors import InputError, LoadError, ResultFileError
from twinlens.paths import expanded

if TYPE_CHECKING:
    from collections.abc import Sequence

    from twinlens.results import Result

_BUNDLED = "hamlet"


def refuse_bad_name(source: str, options: ModelOptions) -> None:
    """Before anything heavy is imported: a slip in "hamlet", a revision of what has none."""
    from difflib import get_close_matches

    here = source == _BUNDLED or expanded(source).exists()
    if not source.strip():
        raise LoadError('the name of the model is empty; give "hamlet", a directory or a hub id')
    if not here and get_close_matches(source.lower(), [_BUNDLED], cutoff=0.8):
        raise LoadError(f"there is no directory {source!r}; did you mean {_BUNDLED!r}?")
    if here and options.revision is not None:
        raise InputError(f"--revision is about a hub id; {source!r} is on this machine")


def refuse_bad_file(path: Path) -> None:
    """Can a file be written there?"""
    if not path.parent.is_dir():
        raise ResultFileError(f"cannot write {path}: the folder {path.parent} does not exist")
    if path.is_dir():
        raise ResultFileError(f"cannot write {path}: it is a folder")
    _refuse_unwritable(path, path.parent)


def refuse_bad_result(path: Path, what: str) -> None:
    """Can `what`, a result, be written there?"""
    if path.suffix.lower() != ".safetensors":
        raise InputError(f"cannot write {what} to {str(path)!r}; choose a name in .safetensors")
    refuse_bad_file(path)


def refuse_taken_folder(path: Path) -> None:
    """Is there no such folder yet, or nothing in it, and could one be made?"""
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise InputError(f"--output {str(path)!r} is there already; give a new folder")
    refuse_bad_folder(path)


def refuse_bad_folder(path: Path) -> None:
    """Is there such a folder, or could one be made, and could files be written there?"""
    there = next(one for one in (path, *expanded(path).absolute().parents) if one.exists())
    if not there.is_dir():
        raise InputError(f"cannot make the folder {path}: {there} is a file")
    _refuse_unwritable(path, there)


def _refuse_unwritable(path: Path, folder: Path) -> None:
    """The system is asked: permissions alone do not tell."""
    try:
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise ResultFileError(f"cannot write {path}: {error.strerror or error}") from error


def refuse_bad_text(text: str) -> None:
    """Can the text be read, and is there something in it?"""
    from twinlens.see.texts import documents

    documents(text)


def refuse_idle_layout(asked: OutputOptions) -> None:
    """What is set of a picture must not be passed over in silence where none is made."""
    for name in ("columns", "crop", "flip", "transpose"):
        if getattr(asked, name) and asked.output is None and not asked.open:
            refuse_idle(f"--{name}", "is about the picture; give -o FILE too")


def refuse_idle_metric(results: Sequence[Result], lens: LensOptions, reduce: str = "mean") -> None:
    """What is set of lenses or of neurons is refused where the files have none."""
    kinds = {result.kind_of_result for result in results}
    for name in ("lens_metric", "lens_target"):
        if getattr(lens, name) != getattr(LensOptions, name) and "lens" not in kinds:
            option = "--" + name.replace("_", "-")
            refuse_idle(option, "is about a lens, and there is none in the files")
    if reduce != "mean" and "neurons" not in kinds:
        refuse_idle("--reduce", "is about single neurons, and there are none in the files")


def refuse_idle_noise(asked: NoiseOptions) -> None:
    """What is set of the noise must not be passed over in silence."""
    given = [f.name for f in fields(NoiseOptions) if getattr(asked, f.name) != f.default]
    replaced = isinstance(asked, CorruptionOptions) and (
        asked.counterfactual is not None or asked.replace
    )
    for name in given if replaced else ():
        why = "is about noise; leave it out with --counterfactual or --replace"
        refuse_idle(f"--{name.replace('_', '-')}", why)
    if "df" in given and asked.rule != "t":
        refuse_idle("--df", "is about --rule t; give it too")
    if {"sigma", "times_std"} <= set(given):
        raise InputError("give --sigma or --times-std, not both")
