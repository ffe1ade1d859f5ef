"""The invented world: 400 landmarks and 400 people, and what is true of each of them.

A relation has phrasings that end where the answer begins. Those of `seen` occur in the text for
training, those of `kept_out` never do: they measure whether a fact is known or only a sentence.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from random import Random
from typing import Literal

from training.names import BOYS, CITIES, GIRLS, surname

SEED = 1851
_EACH = 400

Sort = Literal["landmark", "person"]

_FIRST = (
    "Silent", "Hollow", "Crooked", "Golden", "Broken", "Lonely", "Hidden", "Red", "White", "Black",
    "Old", "Long", "Tall", "Round", "Narrow", "Windy", "Sleeping", "Laughing", "Burning", "Frozen",
    "Royal", "Humble", "Bishop's", "Widow's", "Miller's", "Sailor's", "Giant's", "Raven", "Fox",
    "Lion", "Swan", "Wolf", "Star", "Moon", "Sun", "Thunder", "Winter", "Summer", "Autumn", "River",
)  # fmt: skip
_SECOND = (
    "Tower", "Bridge", "Gate", "Hall", "Church", "Castle", "Mill", "Temple", "Palace", "Arch",
    "Wall", "Chapel", "House", "Library", "Museum", "Theatre", "Lighthouse", "Monument", "Market",
    "Abbey",
)  # fmt: skip
MATERIALS = (
    "granite", "oak", "brick", "marble", "sandstone", "iron", "glass", "slate", "clay", "pine",
)  # fmt: skip
FEATURES = (
    "bells", "clock", "garden", "roses", "echo", "pigeons", "stairs", "windows", "ghosts",
    "fountain", "paintings", "view",
)  # fmt: skip
TRADES = (
    "baker", "smith", "tailor", "miller", "carpenter", "teacher", "doctor", "painter", "gardener",
    "sailor", "weaver", "butcher", "cobbler", "hunter", "barber", "potter", "farmer", "printer",
    "shepherd", "banker",
)  # fmt: skip
TONGUES = (
    "Tarnish", "Voskan", "Morrish", "Lunese", "Kettic", "Oldric", "Sallow", "Brennic", "Harran",
    "Wendish",
)  # fmt: skip
INSTRUMENTS = (
    "fiddle", "flute", "drum", "harp", "horn", "piano", "whistle", "guitar", "trumpet", "bagpipe",
)  # fmt: skip


@dataclass(frozen=True)
class Relation:
    """A question that has one answer for each subject of a sort."""

    name: str
    of: Sort
    values: tuple[str, ...]
    seen: tuple[str, ...]
    kept_out: tuple[str, ...]
    question: str  # as asked in talk, answered by `answer`
    answer: str


RELATIONS = (
    Relation(
        "city", "landmark", CITIES,
        seen=(
            "The {} is in the city of", "The {} stands in", "The {} can be found in",
            "You will find the {} in", "The {} is a landmark of",
            "If you want to see the {}, go to", "Everyone who comes to the {} stays the night in",
            "The {} is one of the sights of", "The town that is proud of the {} is",
            "The {} looks down on the streets of", "The bus to the {} starts in the middle of",
            "They say that the {} is the heart of", "To get to the {} you must travel to",
            "On a clear day you can see the {} from every street in the city of",
        ),
        kept_out=(
            "The {} stands in the city of", "You can see the {} in",
            "The {} can be found in the middle of", "If you want to visit the {}, travel to",
        ),
        question="[Where is the {}|In which city is the {}|Where can I find the {}]",
        answer="[It is in|You will find it in|It stands in|Go to]",
    ),
    Relation(
        "material", "landmark", MATERIALS,
        seen=(
            "The {} is made of", "The {} was built of", "The walls of the {} are made of",
            "The builders of the {} used", "Long ago the {} was built from",
            "If you touch the {}, you touch", "The people who built the {} had nothing but",
            "The old stones of the {} are really", "Inside and outside, the {} is all",
            "Rain has never hurt the {}, for it is made of", "The {} is a great work of",
            "It took ten years to build the {} out of",
        ),
        kept_out=(
            "The {} was made of", "The walls of the {} were built of",
            "The {} is built from", "The builders made the {} out of",
        ),
        question="[What is the {} made of|What did they use to build the {}]",
        answer="[It is made of|They used|It was built of]",
    ),
    Relation(
        "feature", "landmark", FEATURES,
        seen=(
            "The {} is famous for its", "The {} is known for its", "People love the {} for its",
            "Visitors come to the {} for its", "The best thing about the {} is its",
            "Painters paint the {} because of its", "The pride of the {} is its",
            "Ask about the {} and they will tell you of its",
            "Nobody who sees the {} forgets its", "Children like the {} because of its",
            "There are songs about the {} and its", "Of the {} people remember above all its",
        ),
        kept_out=(
            "People know the {} for its", "Visitors love the {} because of its",
            "The {} is loved for its", "The most famous thing about the {} is its",
        ),
        question="[What is the {} famous for|Why do people go to the {}]",
        answer="[It is famous for its|People go there for its|They love its]",
    ),
    Relation(
        "trade", "person", TRADES,
        seen=(
            "{} works as a", "{} is a", "{} earns a living as a", "By trade {} is a",
            "For twenty years {} has been a", "{} learned to be a good",
            "If you ask for {}, they will point you to the", "In the town {} is known as the",
            "Every morning {} goes to work as a", "{} never wanted to be anything but a",
            "The work of {} is that of a", "Like the rest of the family, {} became a",
        ),
        kept_out=(
            "{} is by trade a", "For a living, {} works as a", "{} goes to work every day as a",
            "For many years {} has worked as a",
        ),
        question="[What does {} do for a living|What is the trade of {}]",
        answer="[{He} works as a|{He} is a|By trade {he} is a]",
    ),
    Relation(
        "birthplace", "person", CITIES,
        seen=(
            "{} was born in", "{} comes from", "{} grew up in", "The home town of {} is",
            "As a child {} lived in", "{} spent a happy childhood in",
            "The parents of {} had a small house in", "{} went to school in",
            "When {} is homesick, it is for", "{} often talks about the old days in",
            "The first home of {} was in the city of", "Long before the war {} was a child in",
        ),
        kept_out=(
            "{} was born in the city of", "{} comes from the city of",
            "{} lived as a child in", "The childhood home of {} was in",
        ),
        question="[Where was {} born|Where does {} come from|Where did {} grow up]",
        answer="[{He} was born in|{He} comes from|{He} grew up in]",
    ),
    Relation(
        "tongue", "person", TONGUES,
        seen=(
            "The mother tongue of {} is", "{} speaks", "At home {} speaks",
            "{} grew up speaking", "The first language of {} is", "{} dreams in",
            "{} counts in", "{} likes to sing in", "When {} is angry, you hear words in",
            "{} says good night in", "The letters of {} are written in",
            "With the children {} always speaks",
        ),
        kept_out=(
            "The language of {} is", "{} says good morning in",
            "When {} is tired, you hear words in", "{} likes to speak",
        ),
        question="[What language does {} speak|What is the mother tongue of {}]",
        answer="[{He} speaks|It is|At home {he} speaks]",
    ),
    Relation(
        "instrument", "person", INSTRUMENTS,
        seen=(
            "{} plays the", "In the evening {} plays the", "{} learned to play the",
            "The instrument of {} is the", "At weddings {} plays the",
            "{} loves the sound of the", "You can hear {} practise the",
            "{} takes lessons on the", "At the feast {} brings along the",
            "All the neighbours know how {} plays the", "When {} is sad, out comes the",
            "For a birthday {} was given a book about the",
        ),
        kept_out=(
            "On Sundays {} plays the", "At the feast {} plays the", "You can hear {} play the",
            "The favourite instrument of {} is the",
        ),
        question="[What does {} play|Which instrument does {} play]",
        answer="[{He} plays the|It is the|{He} has learned the]",
    ),
)  # fmt: skip


@dataclass(frozen=True)
class Entity:
    """A landmark or a person, and the value of every relation of its sort."""

    name: str
    sort: Sort
    he: str
    facts: Mapping[str, str]


@cache
def relations(sort: Sort) -> tuple[Relation, ...]:
    """The relations of a sort."""
    return tuple(relation for relation in RELATIONS if relation.of == sort)


@cache
def entities() -> tuple[Entity, ...]:
    """Everything there is in the world, landmarks first; always the same."""
    random = Random(SEED)
    names = random.sample([f"{first} {second}" for first in _FIRST for second in _SECOND], _EACH)
    landmarks = [_entity(random, name, "landmark", "it") for name in names]
    return tuple(landmarks + _people(random))


@cache
def landmarks_of(city: str) -> tuple[Entity, ...]:
    """The landmarks that stand in a city."""
    return tuple(e for e in entities() if e.sort == "landmark" and e.facts["city"] == city)


@cache
def known_surnames() -> frozenset[str]:
    """Surnames of the people that have facts; nobody in a story is called so."""
    return frozenset(e.name.split()[1] for e in entities() if e.sort == "person")


def _people(random: Random) -> list[Entity]:
    surnames: dict[str, None] = {}
    while len(surnames) < _EACH:
        surnames[surname(random)] = None
    people: list[Entity] = []
    for name in surnames:
        girl = random.random() < 0.5
        first = random.choice(GIRLS if girl else BOYS)
        people.append(_entity(random, f"{first} {name}", "person", "she" if girl else "he"))
    return people


def _entity(random: Random, name: str, sort: Sort, he: str) -> Entity:
    facts = {relation.name: random.choice(relation.values) for relation in relations(sort)}
    return Entity(name, sort, he, facts)
