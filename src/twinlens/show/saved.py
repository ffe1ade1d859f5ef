"""Figures as files: the same figure gives the same bytes; a file appears whole or not at all."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from twinlens.errors import InputError
from twinlens.results.writing import replacing

FIGURE_FORMATS = (".png", ".svg", ".pdf")
_UNSTAMPED = {"png": {"Software": None}, "svg": {"Date": None}, "pdf": {"CreationDate": None}}


def check_figure_format(path: Path, what: str) -> None:
    """Raises `InputError` where a figure cannot be written with this ending."""
    if path.suffix.lower() not in FIGURE_FORMATS:
        raise InputError(
            f"cannot write {what} as {path.name!r}; its ending must be one of"
            f" {', '.join(FIGURE_FORMATS)}"
        )


def save_figure(figure: Any, path: Path, dpi: int) -> Path:
    """Write a matplotlib figure in the format of the path's ending.

    Raises `ResultFileError` where the file cannot be written.
    """
    payload = rendered(figure, path.suffix[1:].lower(), dpi)
    with replacing(path) as temporary:
        temporary.write_bytes(payload)
    return path


def rendered(figure: Any, file_format: str, dpi: int) -> bytes:
    """The figure's bytes."""
    import matplotlib

    buffer = io.BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": "twinlens"}):
        figure.savefig(
            buffer, format=file_format, dpi=dpi, metadata=_UNSTAMPED.get(file_format, {})
        )
    return buffer.getvalue()
