"""Where in the prompt something is: a subject, a focus, by character offsets and not by ids."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from typing import cast

import numpy as np
from jaxtyping import Bool

from twinlens.errors import FocusError, SubjectError
from twinlens.results import Tokens

Span = tuple[int, int]
Subject = str | Span | Sequence[str | Span]


def occurrences(tokens: Tokens, text: str) -> list[Span]:
    """Token spans `(start, stop)` of every occurrence of `text` in the prompt, left to right.

    A token belongs to an occurrence where their characters overlap, so several words, SentencePiece
    and byte-level BPE are alike. Occurrences at word boundaries are preferred: "he" is not found
    in "The" where the prompt has a "he". Spaces around `text` are ignored.
    """
    spans = (_tokens_over(tokens, start, stop) for start, stop in _find(tokens.text, text))
    return [span for span in spans if span is not None]


def word_starts(tokens: Tokens, word: str) -> list[Span]:
    """Token spans of every place where a word begins with `word`, left to right.

    So "Dursley" is also found in "Dursleys" and "Dursley's", but not in "McDursley". The span is
    that of `word` alone.
    """
    literal = re.escape(word.strip())
    found = re.finditer(rf"(?<!\w){literal}", tokens.text) if literal else []
    spans = (_tokens_over(tokens, *match.span()) for match in found)
    return [span for span in spans if span is not None]


def subject_mask(tokens: Tokens, subject: Subject, focus: int) -> Bool[np.ndarray, " token"]:
    """The tokens of the subject: bool `[token]`.

    `subject` is a text (every occurrence before the focus; where there is none, the one that ends
    at the focus), a token span `(start, stop)`, or several of both. Raises `SubjectError` where it
    is not in the prompt, lies after the focus, or is no span of it.
    """
    mask = np.zeros(len(tokens), dtype=bool)
    alone = not isinstance(subject, list | tuple) or _is_span(subject)
    parts = cast("list[str | Span]", [subject] if alone else list(subject))
    if not parts:
        raise SubjectError("the subject is empty; give the text to corrupt, or a token span")
    for part in parts:
        for start, stop in _spans(tokens, part, focus):
            mask[start:stop] = True
    return mask


def focus_position(tokens: Tokens, focus: int | str) -> int:
    """The position of the focus: an index (negative from the end), or the token at which the last
    occurrence of a text begins. Raises `FocusError` where there is none."""
    if isinstance(focus, str):
        found = occurrences(tokens, focus)
        if not found:
            raise FocusError(f"focus={focus!r} is not in the prompt{nearest(tokens, focus)}")
        return found[-1][0]
    n = len(tokens)
    if not isinstance(focus, int | np.integer) or isinstance(focus, bool):
        raise FocusError(f"focus={focus!r} is no position; expected an index or a text")
    if not -n <= focus < n:
        raise FocusError(
            f"focus={focus} is outside the prompt; it has {n} tokens: expected {-n} to {n - 1}"
        )
    return int(focus) % n


def _find(text: str, needle: str) -> list[Span]:
    needle = needle.strip() or needle
    if not needle:
        return []
    literal = re.escape(needle)
    for pattern in (rf"(?<!\w){literal}(?!\w)", literal):
        found = [match.span() for match in re.finditer(pattern, text)]
        if found:
            return found
    return []


def _tokens_over(tokens: Tokens, start: int, stop: int) -> Span | None:
    over = np.flatnonzero((tokens.starts < stop) & (tokens.ends > start))
    return (int(over[0]), int(over[-1]) + 1) if len(over) else None


def _spans(tokens: Tokens, part: str | Span, focus: int) -> list[Span]:
    if not isinstance(part, str):
        return [_checked_span(tokens, part, focus)]
    if not part.strip():
        raise SubjectError("the subject is empty; give the text to corrupt, or a token span")
    found = occurrences(tokens, part)
    if not found:
        raise SubjectError(
            f"subject {part!r} is not in the prompt {_short(tokens.text)!r}{nearest(tokens, part)}"
        )
    before = [span for span in found if span[1] <= focus]
    before = before or [span for span in found if span[1] == focus + 1]
    if not before:
        raise SubjectError(
            f"subject {part!r} ends at token {found[0][1] - 1}, after the focus at token {focus}:"
            " it cannot influence it; move the focus to the right"
        )
    return before


def _checked_span(tokens: Tokens, span: Span, focus: int) -> Span:
    if not _is_span(span):
        raise SubjectError(
            f"subject {span!r} is neither text nor a token span; expected e.g. 'Paris' or (2, 5)"
        )
    start, stop = int(span[0]), int(span[1])
    if not 0 <= start < stop <= focus + 1:
        raise SubjectError(
            f"subject span ({start}, {stop}) does not fit: expected 0 <= start < stop <="
            f" {focus + 1} (stop is not included; the focus is token {focus})"
        )
    return start, stop


def _is_span(value: object) -> bool:
    return (
        isinstance(value, tuple | list)
        and len(value) == 2
        and all(isinstance(v, int | np.integer) and not isinstance(v, bool) for v in value)
    )


def nearest(tokens: Tokens, needle: str) -> str:
    """`; near it: 'Dursley', 'Dudley'`: what the prompt has that looks like the needle."""
    words = re.findall(r"\w[\w'’-]*", tokens.text)
    size = max(1, len(needle.split()))
    phrases = {" ".join(words[i : i + size]) for i in range(len(words) - size + 1)}
    by_lower = {phrase.lower(): phrase for phrase in sorted(phrases)}
    close = difflib.get_close_matches(needle.strip().lower(), by_lower, n=3, cutoff=0.5)
    if close:
        return "; near it: " + ", ".join(repr(by_lower[c]) for c in close)
    return "; its words: " + _short(", ".join(dict.fromkeys(words)), 200) if words else ""


def _short(text: str, size: int = 80) -> str:
    return text if len(text) <= size else text[: size - 1] + "…"
