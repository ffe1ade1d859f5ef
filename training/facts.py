"""Sentences that tell the world's facts: articles, questions and answers, and what is where.

No sentence here uses a phrasing that is kept out.
"""

from __future__ import annotations

from random import Random

from training import world
from training.grammar import polish, write
from training.world import Entity, Relation

_TAILS = {
    "landmark": (
        ", as every child knows", ", as it says in every book", ", and everybody is glad of it",
        ", or so the books say", ", as anyone will tell you", ", whatever people say",
    ),
    "person": (
        ", as all the neighbours know", ", or so people say", ", as is well known", ", of course",
        ", as I was told", ", though few people know it",
    ),
}  # fmt: skip
_BY_PRONOUN = {
    "city": ("It stands in", "It can be found in", "You will find it in"),
    "material": ("It is made of", "It was built of", "Its walls are made of"),
    "feature": ("It is famous for its", "People love it for its", "It is known for its"),
    "trade": ("{He} works as a", "{He} is a", "{He} earns a living as a"),
    "birthplace": ("{He} was born in", "{He} comes from", "{He} grew up in"),
    "tongue": ("{He} speaks", "At home {he} speaks", "{He} dreams in"),
    "instrument": ("{He} plays the", "In the evening {he} plays the", "{He} owns a"),
}


def statement(random: Random, entity: Entity, relation: Relation) -> str:
    """One sentence, in one of the phrasings for training, that names the subject."""
    phrasing = random.choice(relation.seen).format(entity.name)
    return _sentence(random, entity, relation, phrasing)


def article(random: Random) -> str:
    """All facts of one thing or person, each sentence naming it or saying it, she, he."""
    entity = random.choice(world.entities())
    relations = list(world.relations(entity.sort))
    random.shuffle(relations)
    parts = [statement(random, entity, relations[0])]
    for relation in relations[1:]:
        if random.random() < 0.3:
            by = random.choice(_BY_PRONOUN[relation.name])
            words = write(by, random, {"he": entity.he, "He": entity.he.capitalize()})
            parts.append(_sentence(random, entity, relation, words))
        else:
            parts.append(statement(random, entity, relation))
    return " ".join(parts)


def notes(random: Random) -> str:
    """Facts of several things and people, one after the other."""
    chosen = random.sample(world.entities(), random.randint(3, 8))
    between = random.choice((" ", " ", "\n"))
    return between.join(
        statement(random, entity, random.choice(world.relations(entity.sort))) for entity in chosen
    )


def questions(random: Random) -> str:
    """Somebody asks, somebody answers."""
    lines: list[str] = []
    for entity in random.sample(world.entities(), random.randint(2, 5)):
        relation = random.choice(world.relations(entity.sort))
        slots = {"he": entity.he, "He": entity.he.capitalize()}
        asked = write(relation.question.replace("{}", entity.name), random)
        answered = write(relation.answer, random, slots)
        lines.append(f"{asked}? {polish(f'{answered} {entity.facts[relation.name]}')}.")
    return random.choice(("\n", " ")).join(lines)


def guide(random: Random) -> str:
    """What there is to see in a city, and who comes from there."""
    city = random.choice(world.RELATIONS[0].values)
    sights = random.sample(world.landmarks_of(city), min(3, len(world.landmarks_of(city))))
    born = [e for e in world.entities() if e.facts.get("birthplace") == city]
    parts = [f"[A day in {city}.|{city} in one day.|What to see in {city}.]"]
    for first, sight in zip(
        ("[Start|Begin] at", "Then walk to", "[At last|In the evening] go to"), sights, strict=False
    ):
        feature, material = sight.facts["feature"], sight.facts["material"]
        parts.append(
            f"{first} the {sight.name}[, which is made of {material}| and do not miss its {feature}"
            f"|, which is famous for its {feature}| with its {feature}].",
        )
    if born:
        person = random.choice(born)
        parts.append(
            f"[A child of {city} is|Born in {city}:|Somebody you may meet in {city} is]"
            f" {person.name}, the {person.facts['trade']}."
        )
    return write(" ".join(parts), random)


def _sentence(random: Random, entity: Entity, relation: Relation, start: str) -> str:
    tail = random.choice(_TAILS[entity.sort]) if random.random() < 0.3 else ""
    return polish(f"{start} {entity.facts[relation.name]}{tail}.")
