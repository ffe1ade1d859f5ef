"""Paths as they are typed."""

from __future__ import annotations

from pathlib import Path

from twinlens.errors import InputError


def expanded(path: str | Path) -> Path:
    """The path, with `~` as the home folder. Raises `InputError` for the home of nobody."""
    try:
        return Path(path).expanduser()
    except RuntimeError as error:  # `~nobody`, or there is no home at all
        raise InputError(
            f"{str(path)!r}: there is no such home folder; give the whole path, or ./~ for a"
            " folder of that name"
        ) from error
