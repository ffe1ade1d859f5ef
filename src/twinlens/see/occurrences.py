"""Where a word comes back in a prompt, and unrelated spans of the same length beside it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool

from twinlens.errors import SubjectError
from twinlens.model.spans import Span, nearest, word_starts
from twinlens.results import Tokens


@dataclass(frozen=True)
class Occurrences:
    """The token spans of a word that comes back, which of its tokens (`part`) is explained, and
    `controls`, unrelated spans."""

    tokens: Tokens
    word: str
    spans: tuple[Span, ...]
    part: int
    controls: tuple[Span, ...] = ()

    @property
    def earlier(self) -> list[Span]:
        """All but the last."""
        return list(self.spans[:-1])

    @property
    def explained(self) -> list[int]:
        """The position of the explained token in each; the last one of a shorter form."""
        return [min(start + self.part, stop - 1) for start, stop in self.spans]

    @property
    def focus(self) -> int:
        """The position that predicts the explained token of the last occurrence."""
        return self.explained[-1] - 1

    @property
    def width(self) -> int:
        """How many tokens the first one has: as many as its controls."""
        return self.spans[0][1] - self.spans[0][0]

    @property
    def places(self) -> list[int]:
        """The tokens of the earlier ones, the one just after each, and at the end the focus."""
        inside = {at for a, b in self.earlier for at in range(a, b + 1) if at < self.focus}
        return [*sorted(inside), self.focus]


def occurrences_of(tokens: Tokens, word: str, part: int | None) -> Occurrences:
    """The places where a word begins with `word`; `part` None: its second token, if it has several.

    Raises `SubjectError` where it does not come back, or has no such token.
    """
    if not word.strip():
        raise SubjectError("the word is empty; give the word that comes back")
    spans = word_starts(tokens, word)
    if not spans:
        raise SubjectError(f"word {word!r} is not in the prompt{nearest(tokens, word)}")
    if len(spans) < 2:
        raise SubjectError(f"word {word!r} stands only once in the prompt; it must come back")
    width = spans[-1][1] - spans[-1][0]
    if part is None:
        part = 1 if width > 1 else 0
    if not 0 <= part < width:
        raise SubjectError(
            f"part={part!r}: the last {word!r} has {width} tokens, so expected 0 to {width - 1}"
        )
    return Occurrences(tokens, word, tuple(spans), part)


def unrelated(tokens: Tokens, found: Occurrences, most: int) -> list[Span]:
    """Spans of whole words as long as the first occurrence, before the focus, away from them all.

    At most `most`, evenly spread; they do not overlap.
    """
    taken = mask_of(tokens, [(max(0, a - 1), b + 1) for a, b in found.spans])
    begins, ends = _word_edges(tokens)
    apart: list[Span] = []
    for at in range(1, found.focus - found.width + 1):
        stop = at + found.width
        whole_words = begins[at] and ends[stop - 1]
        if whole_words and not taken[at:stop].any() and (not apart or at >= apart[-1][1]):
            apart.append((at, stop))
    return spread(apart, most)


def spread(spans: Sequence[Span], most: int) -> list[Span]:
    """At most so many of the spans, evenly spread."""
    picks = np.linspace(0, len(spans) - 1, min(most, len(spans))).round().astype(int)
    return [spans[n] for n in picks.tolist()]


def mask_of(tokens: Tokens, spans: Sequence[Span]) -> Bool[np.ndarray, " token"]:
    """The tokens of some spans."""
    mask = np.zeros(len(tokens), bool)
    for start, stop in spans:
        mask[start:stop] = True
    return mask


def _word_edges(tokens: Tokens) -> tuple[Bool[np.ndarray, " token"], Bool[np.ndarray, " token"]]:
    """Which tokens begin and which end a word of letters or digits."""
    text, begins, ends = tokens.text, list[bool](), list[bool]()
    for start, stop in zip(tokens.starts.tolist(), tokens.ends.tolist(), strict=True):
        piece = text[start:stop]
        wordy = piece.strip().isalnum()
        apart = piece[:1].isspace() or not text[max(0, start - 1) : start].isalnum()
        begins.append(wordy and apart)
        ends.append(wordy and not text[stop : stop + 1].isalnum())
    return np.array(begins), np.array(ends)
