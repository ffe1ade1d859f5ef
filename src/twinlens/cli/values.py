"""Text of an option to the value that it means; the error names the option."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from twinlens.errors import InputError


def whole(_type: object, tokens: Sequence[Any]) -> int:
    """A whole number; `2.5` is refused, not rounded."""
    text = tokens[0].value
    try:
        return int(text)
    except ValueError:
        raise ValueError(f"{text!r} is no whole number") from None


def position(text: str) -> int | str:
    """A position as a number, or a text to look for."""
    try:
        return int(text)
    except ValueError:
        return text


def token_or_none(text: str | None, option: str) -> str | int | None:
    """The same, where the option may be absent."""
    return None if text is None else token(text, option)


def token(text: str, option: str) -> str | int:
    """`#1234` is a token id, everything else is text."""
    if not (text.startswith("#") and len(text) > 1):
        return text
    if not _is_number(text[1:]):
        raise InputError(f"{option} {text!r} is no token id; expected # and a number, or text")
    return int(text[1:])


def span(text: str, option: str) -> tuple[int, int]:
    """START:STOP."""
    start, colon, stop = map(str.strip, text.partition(":"))
    if not (colon and _is_number(start) and _is_number(stop)):
        raise InputError(f"{option} {text!r} is no span of tokens; expected START:STOP, e.g. 3:5")
    return int(start), int(stop)


def _is_number(text: str) -> bool:
    """Whether the text is a whole number of a size that something can have."""
    return text.isdecimal() and len(text) < 20
