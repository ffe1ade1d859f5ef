"""The text for training: the same from the same seed, true to the world, and without what is kept
out of it."""

from __future__ import annotations

import re
from random import Random

import pytest

from training import facts, names, numbers, pages, stories, world
from training.text import KINDS, document


@pytest.fixture(scope="module")
def texts() -> list[str]:
    random = Random("a test of the text")
    return [document(random).text for _ in range(4000)]


def _pattern(phrasing: str) -> re.Pattern[str]:
    subject = r"[A-Z][\w']+ [A-Z]\w+"
    return re.compile(subject.join(re.escape(part) for part in phrasing.split("{}")) + r" \w")


PHRASINGS = [(r.name, r.seen, r.kept_out) for r in world.RELATIONS]


@pytest.mark.parametrize(("name", "seen", "kept_out"), PHRASINGS, ids=[p[0] for p in PHRASINGS])
def test_phrasings_that_are_kept_out_never_occur(texts, name, seen, kept_out):
    for phrasing in kept_out:
        assert not any(_pattern(phrasing).search(text) for text in texts), phrasing
    for phrasing in seen:  # the search finds those that are there
        assert any(_pattern(phrasing).search(text) for text in texts), phrasing


def test_names_that_are_kept_out_never_occur(texts):
    for text in texts:
        for name in re.findall(r"M(?:r|rs) ([A-Z]\w+)", text):
            assert not names.is_kept_out(name), name
    assert not any(names.KEPT_OUT in text for text in texts)


def test_nobody_in_a_story_has_the_surname_of_a_person_with_facts():
    random = Random(3)
    assert not {stories.fresh_surname(random) for _ in range(2000)} & world.known_surnames()


@pytest.mark.parametrize("kind", list(KINDS))
def test_a_kind_is_the_same_from_the_same_seed_and_varies(kind):
    make = KINDS[kind][1]
    made = [make(Random(seed)) for seed in range(50)]
    assert made == [make(Random(seed)) for seed in range(50)]
    assert len(set(made)) > 40
    for text in made:
        assert text == text.strip()
        assert not re.search(r"[\[\]{}|]|  | [.,]", text), text


def test_the_world_is_whole():
    entities = world.entities()
    assert len({e.name for e in entities}) == len(entities) == 800
    for entity in entities:
        assert set(entity.facts) == {r.name for r in world.relations(entity.sort)}
    assert all(world.landmarks_of(city) for city in names.CITIES)


def test_statements_are_true():
    random = Random(5)
    for entity in random.sample(world.entities(), 50):
        for relation in world.relations(entity.sort):
            said = facts.statement(random, entity, relation)
            assert entity.name in said
            assert entity.facts[relation.name] in said
            others = set(relation.values) - {entity.facts[relation.name]}
            words = set(re.findall(r"\w+", said.replace(entity.name, "")))
            assert not others & words


def test_codes_come_back():
    random = Random(6)
    for wordings in ("seen", "kept out", "untouched"):
        for _ in range(100):
            found = re.findall(r"\b\d{4}\b", pages.codes(random, wordings))
            assert len(found) > len(set(found))


def test_numbers_come_back_in_many_wordings():
    random = Random(7)
    made = [numbers.numbers(random) for _ in range(300)]
    for text in made:
        found = re.findall(r"\b\d{4}\b", text)
        assert len(found) > len(set(found)), text
        assert not re.search(r"[\[\]{}|]|  | [.,]", text), text
    assert len({re.sub(r"[A-Z]\w+|\d{4}", "", text) for text in made}) > 100


def test_wordings_by_which_copying_is_measured_are_in_no_text_for_training():
    random = Random(8)
    measured = {
        _bare(pages.codes(random, wordings))
        for wordings in ("kept out", "untouched")
        for _ in range(300)
    }
    trained = [
        *(pages.codes(random) for _ in range(500)),
        *(numbers.numbers(random) for _ in range(900)),
    ]
    assert not measured & {_bare(text) for text in trained}


def _bare(text: str) -> str:
    """A text without names, numbers and pronouns."""
    return re.sub(r"\b([A-Z]\w*|\d{4}|he|she|him|her|his)\b", "", text)
