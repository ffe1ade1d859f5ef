"""Text that stands in two places: what was chosen on one text must be judged on another."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import combinations
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt64

from twinlens.errors import InputError, OverlapError
from twinlens.see.question import whole
from twinlens.see.texts import Text, documents

WORDS = 13
_WORD = re.compile(r"\w+")
_BASE = 0x9E3779B97F4A7C15 | 1  # odd, so that no power of it is 0 modulo 2**64
_SHOWN = 3


class Shared(NamedTuple):
    """A run of words that a document of one text has in common with one of another.

    Documents are counted from 0 in each text (without those that are empty); `run` is the first
    such run, in lower case.
    """

    first: str
    first_document: int
    second: str
    second_document: int
    run: str


def shared_text(
    texts: Mapping[str, Text], *, words: int = WORDS, limit: int | None = None
) -> tuple[Shared, ...]:
    """Pairs of documents of different texts that share a run of `words` words (or all the words of
    a document that has fewer), at most `limit` pairs.

    `texts`: by name, as in `fit_lens`. Words are runs of letters and digits, in lower case (the
    rule of Brown et al. 2020, appendix C, with 13 words). Takes 8 bytes a word. Raises `InputError`
    for a text that cannot be read.
    """
    whole("words", words)
    if not isinstance(texts, Mapping):
        raise InputError('texts are a mapping of names to texts, e.g. {"gate": ..., "final": ...}')
    indexed = {name: _Index([_words(one) for one in documents(text)], words)
               for name, text in texts.items()}  # fmt: skip
    found: list[Shared] = []
    for (first, a), (second, b) in combinations(indexed.items(), 2):
        for here, there, run in a.common(b):
            if limit is not None and len(found) >= limit:
                return tuple(found)
            found.append(Shared(first, here, second, there, run))
    return tuple(found)


def refuse_shared(texts: Mapping[str, Text], *, words: int = WORDS) -> None:
    """Raise `OverlapError` where different texts share a document or a run of `words` words."""
    found = shared_text(texts, words=words)
    if not found:
        return
    where = "; ".join(
        f"document {s.first_document} of {s.first!r} and {s.second_document} of {s.second!r}:"
        f" {s.run!r}"
        for s in found[:_SHOWN]
    )
    more = f"; and {len(found) - _SHOWN} more pairs" if len(found) > _SHOWN else ""
    raise OverlapError(
        f"texts that must be apart have words in common: {where}{more}; leave those documents out"
        " (twinlens.shared_text names all)",
        found,
    )


class _Index:
    """All runs of the words of some documents, as hashes."""

    def __init__(self, texts: Sequence[list[str]], words: int) -> None:
        self.texts, self.words = texts, words
        made = [_runs(text, words) for text in texts]
        self.hashes = np.concatenate([np.zeros(0, np.uint64), *made])
        self.owner = np.repeat(np.arange(len(made)), [len(one) for one in made])
        self.starts = np.concatenate([np.arange(len(one)) for one in made])

    def common(self, other: _Index) -> Iterator[tuple[int, int, str]]:
        """Pairs of documents with a run in common, each once, with the first run."""
        seen: set[tuple[int, int]] = set()
        order = np.argsort(other.hashes, kind="stable")
        ordered = other.hashes[order]
        low = np.searchsorted(ordered, self.hashes, "left")
        high = np.searchsorted(ordered, self.hashes, "right")
        for at in np.flatnonzero(high > low).tolist():
            here, run = int(self.owner[at]), self._run(at)
            for place in order[low[at] : high[at]].tolist():
                pair = (here, int(other.owner[place]))
                if pair not in seen and run == other._run(place):  # no mere hash
                    seen.add(pair)
                    yield *pair, " ".join(run)

    def _run(self, at: int) -> list[str]:
        start = int(self.starts[at])
        return self.texts[int(self.owner[at])][start : start + self.words]


def _words(document: str) -> list[str]:
    found = _WORD.findall(document.lower())
    return found or [document.strip()]


def _runs(text: list[str], words: int) -> UInt64[np.ndarray, " run"]:
    """A hash of each run of so many words, or of all words where there are fewer."""
    each = np.array([_hash(word) for word in text], dtype=np.uint64)
    length, n = min(words, len(each)), len(each) - min(words, len(each)) + 1
    made = np.full(n, length, dtype=np.uint64)
    for step in range(length):
        made = made * np.uint64(_BASE) + each[step : step + n]
    return made


@lru_cache(maxsize=1_000_000)
def _hash(word: str) -> int:
    coded = word.encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(coded, digest_size=8).digest(), "little")
