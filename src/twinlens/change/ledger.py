"""The ledger of a changed copy: one line a step, with what was done and what it cost.

The one idea: a chain. Each step says from which weights it led to which, and a file beside it keeps
what it wrote over, so that any earlier weights are found by going back link by link.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from twinlens.errors import ChangeError
from twinlens.results.reading import made_of, read_objects, sound

LEDGER = "ledger.jsonl"
SCHEMA = 1


@dataclass(frozen=True)
class Step:
    """One step: `change` as JSON has it, `cost` (what a gate or the user said of it), hashes of the
    weights before and after, how many numbers changed and how far (root mean square over that of
    the tensors), and the file that leads back (None for step 0, the original)."""

    step: int
    change: Mapping[str, Any]
    before: str
    after: str
    cost: Mapping[str, Any] = field(default_factory=dict[str, Any])
    changed: int = 0
    relative: float = 0.0
    undo: str | None = None
    sha256: str | None = None
    made: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))
    schema: int = SCHEMA


def read_ledger(folder: Path) -> list[Step]:
    """The steps, from 0. Raises `ChangeError` where there is no ledger, or a damaged one."""
    path = folder / LEDGER
    if not path.exists():
        raise ChangeError(f"{folder} is no changed copy: it has no {LEDGER}")
    lines = read_objects(path, ChangeError)
    with sound(path, ChangeError):
        steps = [made_of(Step, line) for line in lines]
    for number, step in enumerate(steps):
        if step.schema != SCHEMA:
            raise ChangeError(f"{path} is of schema {step.schema}; this twinlens reads {SCHEMA}")
        if step.step != number or (number and step.before != steps[number - 1].after):
            raise ChangeError(f"{path} is damaged: step {number} does not follow the one before")
    if not steps:
        raise ChangeError(f"{path} is empty")
    return steps


def write_ledger(folder: Path, steps: Sequence[Step]) -> None:
    """All steps, whole or not at all."""
    path = folder / LEDGER
    temporary = path.with_name(f".{LEDGER}.writing")
    lines = [json.dumps(asdict(step), allow_nan=False) + "\n" for step in steps]
    try:
        temporary.write_text("".join(lines), encoding="utf-8")
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
