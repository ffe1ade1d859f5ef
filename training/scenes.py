"""Scenes of village life: who did what, where, when and why, freely combined."""

from __future__ import annotations

from random import Random

from training import names, world
from training.grammar import write
from training.pages import ANIMALS

_WHO = (
    "the {trade}", "the old {trade}", "the young {trade}", "a stranger", "a tall woman", "a small boy",
    "the mayor of {city}", "the {trade} from {city}", "{a}", "{a}", "{a} and {c}", "my {relative}",
    "the {relative} of {a}", "everybody in the village", "nobody but {a}", "a girl in a red coat",
    "the man with the ladder", "the woman at the window", "two sailors", "the new teacher",
)  # fmt: skip
_DID = (
    "sold {n} {things} to {b}", "bought a {thing} from the {trade2}", "forgot a {thing}",
    "found a {thing}", "lost a {thing}", "asked for a {thing}", "carried a {thing}",
    "broke a {thing} and hid it", "looked for the {trade2}", "waited for {b}",
    "told {b} a secret", "told the {trade2} a long story", "sang a song in {tongue}",
    "wrote a letter to {b}", "read a letter from {city2}", "played the {instrument}",
    "slept until noon", "ran as fast as the wind", "painted the door [red|green|blue|yellow]",
    "mended the roof", "opened the window and shouted", "closed the shop", "fell asleep",
    "laughed without knowing why", "counted the money", "lit a candle", "swept the floor",
    "fed the {animals}", "let the {animal} out", "fell into the river", "climbed the tree",
    "planted {n} trees", "baked bread for {b}", "dropped the {thing}", "could not remember a thing",
    "ate {n} apples", "danced with the {trade2}", "would not say a word", "talked to the {animal}",
    "walked all the way to {city2}", "came back from {city2}", "put on the wrong hat",
)  # fmt: skip
_WHERE = (
    "in the kitchen", "behind the church", "at the market", "on the bridge", "by the river",
    "in front of the school", "under the old tree", "at the station", "in the garden",
    "on the stairs", "in the rain", "near the mill", "in the middle of the street",
    "in a boat", "on the roof", "at the well", "", "", "", "",
)  # fmt: skip
_WHEN = (
    "in the morning", "at noon", "in the evening", "at midnight", "on {day}", "last winter",
    "every summer", "after the storm", "before breakfast", "when the clock struck {n}",
    "the day after the feast", "long ago", "yesterday", "for the first time in {n} years",
)  # fmt: skip
_WHY = (
    "because it was raining", "because {b} had asked for it", "so that nobody would notice",
    "because the {trade2} was ill", "although it was already dark", "but nobody believed it",
    "and that was the end of it", "and {b} was very angry", "and {b} had to laugh",
    "because there was no more bread", "without saying why", "just to be alone", "and so did {b}",
    "although {b} had said no", "to please {b}", "because it was {day}",
)  # fmt: skip
_SAID = (
    "\"[Well, well|Nonsense|At last|I knew it|How strange],\" said {b}. ",
    "\"[Why not|Where is the {thing}|Is it {day} already|Who will pay for that]?\" asked {b}. ",
    "{b} [said nothing|nodded|went home|looked at the sky|wrote it down]. ",
    "The {trade2} [shook his head|said the same|paid for it|was not so sure]. ",
    "", "",
)  # fmt: skip


def scene(random: Random) -> str:
    """A few sentences in which the same people come back."""
    slots = _slots(random)
    parts: list[str] = []
    for _ in range(random.randint(2, 5)):
        who, did = random.choice(_WHO), random.choice(_DID)
        where, when, why = random.choice(_WHERE), random.choice(_WHEN), random.choice(_WHY)
        place = f" {where}" if where else ""
        order = random.randrange(4)
        if order == 0:
            parts.append(f"{when} {who} {did}{place}. ")
        elif order == 1:
            parts.append(f"{who} {did}{place}, {why}. ")
        elif order == 2:
            parts.append(f"{when} {who} {did}{place}, {why}. ")
        else:
            parts.append(f"{who} {did}{place} {when}. ")
        parts.append(random.choice(_SAID))
    return write("".join(parts).strip(), random, slots)


def _slots(random: Random) -> dict[str, str]:
    a = names.person(random)
    animal = random.choice(list(ANIMALS))
    thing = random.choice(
        ("hat", "book", "key", "lamp", "bag", "pen", "chair", "cup", "coat", "clock")
    )
    b = names.person(random, without=[a.name])
    return {
        "a": a.name,
        "b": b.name,
        "c": names.person(random, without=[a.name, b.name]).name,
        "city": random.choice(names.CITIES),
        "city2": random.choice(names.CITIES),
        "trade": random.choice(world.TRADES),
        "trade2": random.choice(world.TRADES),
        "tongue": random.choice(world.TONGUES),
        "instrument": random.choice(world.INSTRUMENTS),
        "relative": random.choice(("mother", "father", "brother", "sister", "aunt", "uncle")),
        "thing": thing,
        "things": thing + "s",
        "animal": animal, "animals": ANIMALS[animal],
        "day": random.choice(("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")),
        "n": random.choice(("two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "twelve")),
    }  # fmt: skip
