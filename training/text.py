"""The text as a stream of documents of many kinds, and rows of tokens for training."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import NamedTuple

from training import facts, pages, scenes, stories
from training.numbers import numbers
from training.repetition import Sequence, repeated

# How often a document of each kind is drawn. Stories are the longest: about a fifth of the text; a half tells facts.
KINDS: dict[str, tuple[float, Callable[[Random], str]]] = {
    "story": (9, stories.story),
    "scene": (9, scenes.scene),
    "article": (34, facts.article),
    "notes": (36, facts.notes),
    "questions": (10, facts.questions),
    "guide": (4, facts.guide),
    "talk": (8, pages.talk),
    "letter": (5, pages.letter),
    "list": (5, pages.listing),
    "counting": (5, pages.counting),
    "codes": (10, pages.codes),
    "words": (5, pages.words),
}
_REPEATED = 0.12  # share of documents that are random tokens repeated, once the heads are there


class Document(NamedTuple):
    """A text and what kind of text it is."""

    kind: str
    text: str


def document(random: Random) -> Document:
    """A document drawn from all kinds."""
    weights = [weight for weight, _ in KINDS.values()]
    kind = random.choices(list(KINDS), weights)[0]
    return Document(kind, KINDS[kind][1](random))


def village_row(random: Random, length: int, number_share: float = 0.0) -> Sequence:
    """A row of tokens for training: it begins with a document (or the end of the text before it), and others follow until it is full.

    Between two documents stands the end of a text; the last one is cut. `number_share` of the
    documents are about numbers that come back.
    """
    from training.tokenizer import tokenizer

    encode = tokenizer().backend_tokenizer.encode
    start = random.random() < 0.5
    ids: list[int] = [0] * start
    weights: list[float] = [0.0] * start
    while len(ids) < length:
        if random.random() < _REPEATED:
            more = repeated(random, len(tokenizer()), copies=random.choice((2, 2, 3)))
            ids += [*more.ids, 0]
            weights += [*more.weights, 0.0]
        else:
            about_numbers = number_share > 0 and random.random() < number_share
            text = numbers(random) if about_numbers else document(random).text
            more_ids = encode(text).ids
            ids += [*more_ids, 0]
            weights += [1.0] * (len(more_ids) + 1)
    return Sequence(ids[:length], weights[:length])
