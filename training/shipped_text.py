"""What comes with the weights: the facts, documents that were not trained on, and the story.

`python -m training.shipped_text` writes it anew without training.
"""

from __future__ import annotations

import json
from pathlib import Path
from random import Random

from training import world
from training.hamlet import SHIPPED
from training.text import document

SPLITS = {"validation": 200, "final": 100}


def write(folder: Path) -> None:
    """Write facts.json, text.jsonl and story.txt into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps(record, ensure_ascii=False) for record in documents()]
    (folder / "text.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    facts = json.dumps(facts_table(), ensure_ascii=False, indent=0)
    (folder / "facts.json").write_text(facts + "\n", encoding="utf-8")
    story = Path(__file__).with_name("story.txt").read_text(encoding="utf-8")
    (folder / "story.txt").write_text(story, encoding="utf-8")


def documents() -> list[dict[str, str]]:
    """The documents of all splits, from seeds that training never uses."""
    records: list[dict[str, str]] = []
    for split, size in SPLITS.items():
        random = Random(f"shipped/{split}")
        for number in range(size):
            kind, text = document(random)
            records.append({"id": f"{split}-{number:03d}", "kind": kind, "text": text})
    return records


def facts_table() -> dict[str, object]:
    """Phrasings of every relation, and every entity with its facts."""
    return {
        "relations": {
            r.name: {"of": r.of, "seen": r.seen, "kept_out": r.kept_out} for r in world.RELATIONS
        },
        "entities": [{"subject": e.name, "facts": e.facts} for e in world.entities()],
    }


if __name__ == "__main__":
    write(SHIPPED)
