"""The journal of a scrub: one line a proposal, with its verdict; what a scrub goes on from."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from twinlens.errors import ChangeError
from twinlens.results.reading import made_of, read_object, read_objects, sound
from twinlens.results.writing import replacing

JOURNAL, ABOUT = "scrub.jsonl", "scrub.json"


@dataclass(frozen=True)
class Entry:
    """One proposal of a stage (from 0): `share` of its units or the `number` of its draw, what was
    done (`change`), the gate's `verdict`, whether it was `accepted`, at which step of the ledger,
    and in how many seconds."""

    stage: int
    share: float
    number: int
    change: Mapping[str, Any]
    verdict: Mapping[str, Any]
    accepted: bool
    step: int | None
    seconds: float

    @property
    def increase(self) -> float:
        """Nats a token above the original, in the worst domain."""
        return float(self.verdict["increase"])


def read_journal(folder: Path) -> list[Entry]:
    """All entries. Raises `ChangeError` where the journal is damaged."""
    path = folder / JOURNAL
    if not path.exists():
        return []
    lines = read_objects(path, ChangeError)
    with sound(path, ChangeError):
        entries = [made_of(Entry, line) for line in lines]
        if not all(_judged(entry) for entry in entries):
            raise ValueError("a proposal has no verdict with numbers")
    return entries


def write_journal(folder: Path, entries: Sequence[Entry]) -> None:
    """All entries, whole or not at all."""
    _write(folder / JOURNAL, "".join(json.dumps(asdict(e)) + "\n" for e in entries))


def read_about(folder: Path) -> dict[str, Any] | None:
    """What the scrub is about, or None where none was begun here."""
    path = folder / ABOUT
    if not path.exists():
        return None
    return read_object(path, ChangeError)


def write_about(folder: Path, about: Mapping[str, Any]) -> None:
    """What the scrub is about, whole or not at all."""
    _write(folder / ABOUT, json.dumps(about, indent=1) + "\n")


def refuse_other(folder: Path, begun: Mapping[str, Any], asked: Mapping[str, Any]) -> None:
    """Raise `ChangeError` by name where a folder was begun with something else."""
    for name, value in asked.items():
        if begun.get(name) != value:
            raise ChangeError(
                f"{folder} was begun with another {name}; give the same, or another folder"
            )


def _judged(entry: Entry) -> bool:
    """Bounds are None where they are infinite (a domain of one document)."""
    told, bounds = entry.verdict, [entry.verdict[name] for name in ("lower", "upper")]
    return (
        "verdict" in told
        and isinstance(told.get("increase"), int | float)
        and all(one is None or isinstance(one, int | float) for one in bounds)
    )


def _write(path: Path, text: str) -> None:
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
