"""Text with choices in it: `[a|b]` is one of its parts, `{name}` is what the name stands for.

The one idea: whatever hamlet reads is written here as plain sentences with choices, and one small
function turns them into text. Choices nest; an empty part is allowed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from random import Random

Tree = tuple["str | Choice | Slot", ...]

_PIECE = re.compile(r"[\[\]|]|\{\w+\}|[^\[\]|{}]+")
_START = re.compile(r"(^|\n|[.!?] )(\"?)([a-z])")
_ARTICLE = re.compile(r"\b([Aa]) (?=[aeiou](?!ne\b))")


class Choice(tuple[Tree, ...]):
    """One of several texts."""


class Slot(str):
    """A name to be filled in."""


def write(text: str, random: Random, slots: Mapping[str, str] | None = None) -> str:
    """The text with its choices made and its slots filled, sentences capitalised, a/an chosen.

    Raises `KeyError` where a slot is not given and `ValueError` where brackets do not match.
    """
    parts: list[str] = []
    _fill(_parse(text), random, slots or {}, parts)
    return polish("".join(parts))


def polish(text: str) -> str:
    """Capital letters where sentences start, and `an` before a vowel."""
    text = _ARTICLE.sub(r"\1n ", text)
    return _START.sub(lambda m: m[1] + m[2] + m[3].upper(), text)


def _fill(tree: Tree, random: Random, slots: Mapping[str, str], parts: list[str]) -> None:
    for part in tree:
        if isinstance(part, Choice):
            _fill(part[int(random.random() * len(part))], random, slots, parts)
        elif isinstance(part, Slot):
            parts.append(slots[part])
        else:
            parts.append(part)


@cache
def _parse(text: str) -> Tree:
    pieces = _PIECE.findall(text)
    tree, rest = _sequence(pieces, 0, inside=False)
    if rest != len(pieces) or "".join(pieces) != text:
        raise ValueError(f"brackets do not match in {text!r}")
    return tree


def _sequence(pieces: list[str], at: int, *, inside: bool) -> tuple[Tree, int]:
    parts: list[str | Choice | Slot] = []
    while at < len(pieces):
        piece = pieces[at]
        if piece == "[":
            choice, at = _choice(pieces, at + 1)
            parts.append(choice)
            continue
        if piece in ("]", "|") and inside:
            break
        if piece in ("]", "|"):
            raise ValueError(f"{piece!r} stands outside of brackets")
        parts.append(Slot(piece[1:-1]) if piece[0] == "{" else piece)
        at += 1
    return tuple(parts), at


def _choice(pieces: list[str], at: int) -> tuple[Choice, int]:
    options: list[Tree] = []
    while at < len(pieces):
        option, at = _sequence(pieces, at, inside=True)
        options.append(option)
        if at < len(pieces) and pieces[at] == "]":
            return Choice(options), at + 1
        at += 1
    raise ValueError("a bracket is not closed")
