"""Texts of the same form as a given one: other digits for digits, other words for words."""

from __future__ import annotations

import random
import re
from collections.abc import Callable

_RUNS = re.compile(r"[0-9]+|[^\W\d_]+")
_DIGITS = "0123456789"
_VOWELS, _CONSONANTS = "aeiou", "bcdfghjklmnpqrstvwxyz"
_WORDS = """
    anchor apple arrow autumn bakery barrel basket beacon blanket border bottle branch
    bridge bucket butter button candle canyon carpet castle cellar chapel cherry circle
    clover coffee copper corner cotton cousin cradle curtain desert dinner doctor dragon
    eagle engine falcon farmer feather fiddle finger flower forest fountain garden garlic
    ginger glacier granite hammer harbor harvest helmet hollow honey island jacket jasmine
    journey kettle kitchen ladder lantern lemon letter lizard magnet marble market meadow
    mirror monkey morning mountain needle nephew ocean olive orchard oyster palace paper
    parrot pebble pepper pencil pillow pirate planet pocket potato powder puzzle rabbit
    raven ribbon river rocket saddle salmon school season shadow silver singer sister spider
    spring squirrel station stone summer sunset tailor teapot temple thunder ticket timber
    tomato tower travel turtle valley velvet village violin walnut wagon water weather
    whisper willow window winter wizard yellow zebra
"""


def other_form(text: str, draw: random.Random) -> str:
    """The text with each number and each word drawn anew: as many digits, the case of the word."""

    def drawn(found: re.Match[str]) -> str:
        run = found.group()
        if run.isdecimal():
            return "".join(draw.choice(_DIGITS) for _ in run)
        return _in_case(draw.choice(_WORDS.split()), run)

    return _RUNS.sub(drawn, text)


def one_off(text: str, draw: random.Random) -> str:
    """The text with one digit or letter another one: digits for digits, vowels for vowels."""
    places = [n for n, one in enumerate(text) if _kind(one)]
    if not places:
        return text
    at = draw.choice(places)
    old = text[at]
    new = draw.choice([one for one in _kind(old) if one != old.lower()])
    return text[:at] + _in_case(new, old) + text[at + 1 :]


def distinct(
    make: Callable[[], str], count: int, refused: Callable[[str], bool], patience: int = 200
) -> list[str]:
    """At most `count` different texts that `make` gives, without the refused; fewer where
    `patience` tries in a row gave nothing new."""
    found: dict[str, None] = {}
    idle = 0
    while len(found) < count and idle < patience:
        one = make()
        idle = idle + 1 if one in found or refused(one) else 0
        if not idle:
            found[one] = None
    return list(found)


def _kind(one: str) -> str:
    """The letters or digits that may stand for this one; none for anything else."""
    return next((kind for kind in (_DIGITS, _VOWELS, _CONSONANTS) if one.lower() in kind), "")


def _in_case(word: str, like: str) -> str:
    if len(like) > 1 and like.isupper():
        return word.upper()
    return word.capitalize() if like[:1].isupper() else word
