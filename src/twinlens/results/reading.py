"""What stands in a file is sound, or is refused by one named error that tells the file.

Whoever reads a file names the error of its kind; what a damaged or hostile file makes Python raise
(a missing key, a number where a list is expected, a nesting too deep) becomes that error.
"""

from __future__ import annotations

import contextlib
import json
import re
import types
import typing
from collections.abc import Generator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from twinlens.errors import TwinlensError

Made = TypeVar("Made")

_ARGUMENTS = re.compile(
    r"missing (?:a|\d+) required .*?arguments?: (.+)|unexpected .*?argument (.+)"
)
_OF_CONTENT = (
    ValueError, LookupError, TypeError, AttributeError, RecursionError, ArithmeticError,
    AssertionError,
)  # fmt: skip


@contextlib.contextmanager
def sound(about: object, kind: type[TwinlensError], *, is_read: bool = False) -> Generator[None]:
    """Within this context the content of a file is taken apart, and nothing else is done.

    What that raises becomes a `kind` that begins with `about`, the path of the file or folder.
    Where the file `is_read` already, what the system refuses is not the file's fault and passes.
    """
    try:
        yield
    except TwinlensError:
        raise
    except OSError as error:
        if is_read:
            raise
        raise kind(f"{about} cannot be read: {why(error)}") from error
    except _OF_CONTENT as error:
        raise kind(f"{about} is damaged: {why(error)}") from error


def why(error: BaseException) -> str:
    """What an error says, in one line that makes sense to who does not see the code."""
    if isinstance(error, KeyError):
        return f"it has no {error}"
    if isinstance(error, TypeError) and (found := _ARGUMENTS.search(str(error))):
        return f"it has no {found[1]}" if found[1] else f"it has an unknown {found[2]}"
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    if isinstance(error, UnicodeDecodeError):
        return f"it is no text in UTF-8 (byte {error.object[error.start]:#04x} at {error.start})"
    return " ".join(str(error).split()) or type(error).__name__


def read_object(path: Path, kind: type[TwinlensError]) -> dict[str, Any]:
    """The JSON object in a file. Raises `kind` where there is none; the file must be there."""
    with sound(path, kind):
        found = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(found, dict):
            raise TypeError(f"it holds a {type(found).__name__}, no object")
    return found


def read_objects(path: Path, kind: type[TwinlensError]) -> list[dict[str, Any]]:
    """The JSON objects in a file, one a line. Raises `kind` where a line is none."""
    found: list[dict[str, Any]] = []
    with sound(path, kind):
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            made = json.loads(line) if line.strip() else {}
            if not isinstance(made, dict):
                raise TypeError(f"line {number} holds a {type(made).__name__}, no object")
            if made or line.strip():
                found.append(made)
    return found


def made_of(kind: type[Made], given: Mapping[str, Any]) -> Made:
    """A plain dataclass of values from a file. Raises `TypeError` for a value of another type."""
    hints = typing.get_type_hints(kind)
    for name, value in given.items():
        if name in hints and not _fits(value, hints[name]):
            raise TypeError(f"{name} is {str(value)[:40]!r}")
    return kind(**given)


def _fits(value: Any, hint: Any) -> bool:
    origin = typing.get_origin(hint)
    if origin in (typing.Union, types.UnionType):
        return any(_fits(value, one) for one in typing.get_args(hint))
    if origin is typing.Literal:
        return value in typing.get_args(hint)
    kind: Any = type(None) if hint is None else origin or hint
    if kind in (int, float):
        return isinstance(value, int if kind is int else int | float) and not isinstance(
            value, bool
        )
    return kind is Any or isinstance(value, kind)
