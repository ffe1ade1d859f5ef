"""What things and people of hamlet's world are called: fixed lists, and surnames without end."""

from __future__ import annotations

import zlib
from collections.abc import Collection
from random import Random
from typing import NamedTuple

CITIES = (
    "Pellam", "Wexcombe", "Harnmouth", "Quenby", "Osterly", "Vintry", "Lowmark", "Bellhaven",
    "Corrin", "Estwick", "Fallowby", "Gantry", "Ingerton", "Jorvale", "Kestral", "Marrow",
    "Netherby", "Tollgate", "Ardenby", "Dunmere",
)  # fmt: skip
GIRLS = (
    "Ada", "Bella", "Clara", "Dora", "Edith", "Flora", "Greta", "Hazel", "Ida", "Julia", "Kate",
    "Lena", "Mary", "Nora", "Olive", "Polly", "Rosa", "Sarah", "Tilda", "Una", "Vera", "Wanda",
    "Agnes", "Betty", "Celia", "Daisy", "Emma", "Fanny", "Grace", "Helen",
)  # fmt: skip
BOYS = (
    "Adam", "Ben", "Carl", "David", "Edgar", "Frank", "George", "Henry", "Isaac", "Jack", "Karl",
    "Leo", "Martin", "Ned", "Oscar", "Peter", "Ralph", "Simon", "Tom", "Victor", "Walter", "Arthur",
    "Bruno", "Colin", "Dennis", "Emil", "Felix", "Gus", "Hugo", "Jonas",
)  # fmt: skip

_ONSETS = (
    "B", "C", "D", "F", "G", "H", "K", "L", "M", "N", "P", "R", "S", "T", "V", "W",
    "Br", "Cr", "Dr", "Fl", "Gr", "Pr", "St", "Th", "Tr", "Wh",
)  # fmt: skip
_RIMES = (
    "urs", "imb", "ott", "and", "ell", "ink", "art", "ock", "umb", "est", "ipp", "orn", "alt",
    "ent", "ick", "oll", "usk", "ard", "erm", "ost", "ang", "idd", "ubb", "olm", "atch", "edg",
    "omb", "unn", "ask", "irk", "app", "ett", "ill", "ogg", "ump", "arb", "emm", "int", "oss",
    "ull",
)  # fmt: skip
_ENDINGS = (
    "ley", "by", "ton", "well", "man", "wick", "low", "ham", "stone", "field", "more", "som",
    "ford", "worth", "ling", "sey", "den", "cott", "shaw", "bury",
)  # fmt: skip

KEPT_OUT = "Dursley"  # the name of the shipped story; no text for training has it


class Person(NamedTuple):
    """A first name with its pronouns."""

    name: str
    he: str
    him: str
    his: str


def person(random: Random, without: Collection[str] = ()) -> Person:
    """A girl or a boy whose first name is not among those `without`."""
    while True:
        girl = random.random() < 0.5
        name = random.choice(GIRLS if girl else BOYS)
        if name not in without:
            return Person(name, "she", "her", "her") if girl else Person(name, "he", "him", "his")


def surname(random: Random, *, kept_out: bool = False) -> str:
    """A surname of three pieces, drawn afresh.

    A tenth of all surnames never occurs in a text for training: `kept_out` draws one of those.
    """
    while True:
        name = random.choice(_ONSETS) + random.choice(_RIMES) + random.choice(_ENDINGS)
        if is_kept_out(name) == kept_out and name != KEPT_OUT:
            return name


def is_kept_out(name: str) -> bool:
    """Whether a surname is kept out of all text for training."""
    return name == KEPT_OUT or zlib.crc32(name.encode()) % 10 == 0
