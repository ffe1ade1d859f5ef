"""The text as a stream of documents of many kinds, and rows of tokens for training."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import NamedTuple

from training import facts, pages, scenes, stories
from training.repetition import Sequence, repeated

# How often a document of each kind is drawn. Stories are the longest: they are about a third of the text.
KINDS: dict[str, tuple[float, Callable[[Random], str]]] = {
    "story": (14, stories.story),
    "scene": (14, scenes.scene),
    "article": (34, facts.article),
    "notes": (26, facts.notes),
    "questions": (9, facts.questions),
    "guide": (5, facts.guide),
    "talk": (9, pages.talk),
    "letter": (6, pages.letter),
    "list": (5, pages.listing),
    "counting": (4, pages.counting),
    "codes": (8, pages.codes),
    "words": (5, pages.words),
}
_REPEATED = 0.18  # share of documents that are random tokens repeated, once the heads are there


class Document(NamedTuple):
    """A text and what kind of text it is."""

    kind: str
    text: str


def document(random: Random) -> Document:
    """A document drawn from all kinds."""
    weights = [weight for weight, _ in KINDS.values()]
    kind = random.choices(list(KINDS), weights)[0]
    return Document(kind, KINDS[kind][1](random))


def village_row(random: Random, length: int) -> Sequence:
    """A row of tokens for training: it begins with a document, and others follow until it is full.

    Between two documents stands the end of a text; the last one is cut.
    """
    from training.tokenizer import tokenizer

    encode = tokenizer().backend_tokenizer.encode
    ids: list[int] = []
    weights: list[float] = []
    while len(ids) < length:
        if random.random() < _REPEATED:
            more = repeated(random, len(tokenizer()), copies=random.choice((2, 2, 3)))
            ids += [*more.ids, 0]
            weights += [*more.weights, 0.0]
        else:
            more_ids = encode(document(random).text).ids
            ids += [*more_ids, 0]
            weights += [1.0] * (len(more_ids) + 1)
    return Sequence(ids[:length], weights[:length])
