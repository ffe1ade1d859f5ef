"""hamlet: the small trained model that comes with twinlens, and what is known to be true of it.

The weights beside this file are a GPT-2 of six layers that reads the language of an invented
village; `tl.load("hamlet")` loads them. This module gives the ground truth: the facts that the
model was taught, text of the same kind from other seeds, and the story that the guide looks at. How
all of it was made stands in `training/`, what was measured in the README.md beside the weights.
"""

from __future__ import annotations

import json
import random
from functools import cache
from pathlib import Path
from typing import Any, Literal

from twinlens.errors import InputError

FOLDER = Path(__file__).parent
NAME = "Dursley"

Phrasing = Literal["seen", "kept_out"]
Split = Literal["validation", "final"]


def facts(phrasing: Phrasing = "seen") -> list[dict[str, Any]]:
    """The 2,800 facts that hamlet was taught, in the format of ROME's known_1000.json.

    Each is a dict of `known_id`, `subject` ("Crooked Bridge"), `attribute` ("clay"), `template`
    ("The {} is made of"), `prompt` (the template with the subject, to be continued by a space and
    the attribute), `relation_id` ("material"). `phrasing`: `seen` takes a template that occurs in
    the training text, `kept_out` one that never does; a fact has the same `known_id` in both.

    Raises `InputError` for another phrasing. Format: Meng et al. 2022.

    >>> facts()[0]["prompt"]
    'The Royal Tower is in the city of'
    """
    if phrasing not in ("seen", "kept_out"):
        raise InputError(f"phrasing={phrasing!r} is not known; choose 'seen' or 'kept_out'")
    return facts_of(_world(), phrasing)


def facts_of(world: Any, phrasing: Phrasing = "seen") -> list[dict[str, Any]]:
    """The facts of a world in the format of this folder's `facts.json`."""
    records: list[dict[str, Any]] = []
    for number, entity in enumerate(world["entities"]):
        for place, (relation, attribute) in enumerate(entity["facts"].items()):
            templates = world["relations"][relation][phrasing]
            template = templates[(number + place) % len(templates)]
            records.append(
                {
                    "known_id": len(records),
                    "subject": entity["subject"],
                    "attribute": attribute,
                    "template": template,
                    "prompt": template.format(entity["subject"]),
                    "relation_id": relation,
                }
            )
    return records


def counterfacts(count: int = 20, seed: int = 1) -> list[dict[str, Any]]:
    """Facts that could be edited into hamlet, with the prompts by which an edit is judged.

    Each is a dict with the fields of `tl.Fact`: `prompt`, `subject`, `truth` (its attribute) and
    `target` (another of the same relation, drawn by `seed`); `paraphrases`, the eight first other
    phrasings, those first that stand in no training text; `neighbours`, pairs (prompt, attribute)
    of at most ten other subjects that have the same attribute, and `others`, those of the subject's
    other facts. Form: CounterFact (Meng et al. 2022).

    Raises `InputError` where `count` is none of 1 to 2,800.

    >>> fact = counterfacts(1)[0]
    >>> fact["truth"] != fact["target"], len(fact["paraphrases"])
    (True, 8)
    """
    known = facts()
    if not isinstance(count, int) or not 1 <= count <= len(known):
        raise InputError(f"count={count!r} must be a whole number from 1 to {len(known)}")
    drawing = random.Random(seed)
    return [_counterfact(fact, known, drawing) for fact in drawing.sample(known, count)]


def _counterfact(
    fact: dict[str, Any], known: list[dict[str, Any]], drawing: random.Random
) -> dict[str, Any]:
    relation = _world()["relations"][fact["relation_id"]]
    alike = [other for other in known if other["relation_id"] == fact["relation_id"]]
    others = sorted({other["attribute"] for other in alike} - {fact["attribute"]})
    phrasings = [*relation["kept_out"], *relation["seen"]]
    asked = [phrasing for phrasing in phrasings if phrasing != fact["template"]][:8]
    same = [
        other["subject"]
        for other in alike
        if other["attribute"] == fact["attribute"] and other["subject"] != fact["subject"]
    ]
    near = drawing.sample(same, min(10, len(same)))
    return {
        "prompt": fact["prompt"],
        "subject": fact["subject"],
        "target": drawing.choice(others),
        "truth": fact["attribute"],
        "paraphrases": [phrasing.format(fact["subject"]) for phrasing in asked],
        "neighbours": [(fact["template"].format(name), fact["attribute"]) for name in near],
        "others": [
            (other["prompt"], other["attribute"])
            for other in known
            if other["subject"] == fact["subject"] and other is not fact
        ],
    }


def text(split: Split = "validation") -> list[dict[str, str]]:
    """Documents from seeds that training did not use: dicts of `id`, `kind` and `text`.

    `validation` (200 documents) is for looking as often as you like, `final` (100) for a last
    check that is looked at once. Raises `InputError` for another split.
    """
    if split not in ("validation", "final"):
        raise InputError(f"split={split!r} is not known; choose 'validation' or 'final'")
    lines = (FOLDER / "text.jsonl").read_text(encoding="utf-8").splitlines()
    documents: list[dict[str, str]] = [json.loads(line) for line in lines]
    return [document for document in documents if document["id"].startswith(split)]


def story(earlier: str = NAME) -> str:
    """The passage about the Dursley family that the README and the guide look at.

    The name stands in no training text: whoever says it must have read it above. It is the last
    word; `earlier` puts another name in all places but that last one.

    >>> story().count("Dursley")
    6
    >>> story("Wellford").count("Dursley")
    1
    """
    text = (FOLDER / "story.txt").read_text(encoding="utf-8").strip()
    before, name, after = text.rpartition(NAME)
    return before.replace(NAME, earlier) + name + after


def asked_of_story() -> dict[str, Any]:
    """What a look without a prompt asks of the story: which earlier names the last one depends on.

    Another surname of as many tokens stands in their place in the counterfactual.
    """
    return {
        "prompt": story(),
        "subject": [NAME, f"{NAME}s"],
        "focus": NAME,
        "counterfactual": story("Wellford"),
    }


@cache
def _world() -> Any:
    return json.loads((FOLDER / "facts.json").read_text(encoding="utf-8"))
