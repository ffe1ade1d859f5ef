"""Facts: prompts about a subject, read from a data set; rows that are none are kept with why."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from twinlens.errors import FactsError
from twinlens.model import hamlet
from twinlens.paths import expanded
from twinlens.sweep.reading import Row, Rows, rows_of

Source = str | Path | Sequence[Mapping[str, Any]]

_NAMES = {
    "prompt": ("prompt",),
    "subject": ("subject",),
    "answer": ("answer", "attribute"),
    "counterfactual": ("counterfactual",),
    "id": ("id", "known_id"),
}


@dataclass(frozen=True)
class Fact:
    """One prompt about a subject; `number` is its row in the data set, from 0."""

    number: int
    line: int
    id: str
    prompt: str
    subject: str
    answer: str | None = None
    counterfactual: str | None = None

    @property
    def content(self) -> tuple[str, str, str | None, str | None]:
        """What is asked, whatever its row and name."""
        return self.prompt, self.subject, self.answer, self.counterfactual


@dataclass(frozen=True)
class Rejected:
    """A row that is not measured, and why; `repeats` where an earlier row is the same fact."""

    line: int
    reason: str
    row: Any = None
    repeats: bool = False

    def to_dict(self) -> dict[str, Any]:
        """As a line of the run's `rejected.jsonl`."""
        return {"line": self.line, "reason": self.reason, "row": self.row}


@dataclass(frozen=True)
class Facts:
    """A data set of facts: those that can be asked, and the rows that cannot."""

    name: str
    facts: tuple[Fact, ...]
    rejected: tuple[Rejected, ...] = ()

    @property
    def bad(self) -> tuple[Rejected, ...]:
        """The rejected rows that are no mere repetitions."""
        return tuple(row for row in self.rejected if not row.repeats)

    def fingerprint(self) -> str:
        """SHA-256 over what is asked, in order."""
        plain = json.dumps([(fact.number, *fact.content) for fact in self.facts])
        return hashlib.sha256(plain.encode()).hexdigest()


def read_facts(source: Source, *, strict: bool = False) -> Facts:
    """Read facts: a file, the word "hamlet", or a list of dicts.

    A row has `prompt` and `subject` (which stands in the prompt), and may have `answer` (ROME:
    `attribute`), `counterfactual` (another prompt) and `id` (ROME: `known_id`); other columns are
    passed over. Files are JSON (known_1000.json as it is), JSON Lines, CSV or Parquet.

    Rows that are no fact are in `.rejected` with their line; a repeated fact is measured once.
    Raises `FactsError` where nothing can be read, and with `strict` for the first bad row.
    """
    name, rows = _rows(source)
    facts: list[Fact] = []
    rejected: list[Rejected] = []
    seen: dict[tuple[str | None, ...], int] = {}
    for number, (line, row) in enumerate(rows):
        made = row if isinstance(row, str) else _fact(number, line, row)
        if isinstance(made, str):
            if strict:
                raise FactsError(f"{name}, line {line}: {made}")
            rejected.append(Rejected(line, made, None if isinstance(row, str) else dict(row)))
        elif made.content in seen:
            reason = f"the same fact as line {seen[made.content]}"
            rejected.append(Rejected(line, reason, row, repeats=True))
        else:
            seen[made.content] = line
            facts.append(made)
    if not facts:
        why = f"; line {rejected[0].line}: {rejected[0].reason}" if rejected else ""
        raise FactsError(f"{name} has no fact that can be asked{why}")
    return Facts(name, tuple(facts), tuple(rejected))


def _rows(source: Source) -> tuple[str, Rows]:
    if isinstance(source, str) and source == "hamlet":
        return "hamlet", _numbered(hamlet.facts())
    if isinstance(source, str | Path):
        path = expanded(source)
        return path.name, rows_of(path)
    if isinstance(source, Sequence):
        return "a list", _numbered(source)
    raise FactsError(f"facts={type(source).__name__}: expected a file, 'hamlet' or a list of dicts")


def _numbered(rows: Iterable[Any]) -> Rows:
    for line, row in enumerate(rows, 1):
        yield line, row if isinstance(row, Mapping) else f"a {type(row).__name__}, no dict"


def _fact(number: int, line: int, row: Row) -> Fact | str:
    """The fact of a row, or why it is none."""
    given: dict[str, str | None] = {}
    for name, columns in _NAMES.items():
        value = next((row[c] for c in columns if row.get(c) is not None), None)
        if isinstance(value, int) and not isinstance(value, bool) and name in ("id", "answer"):
            value = str(value)
        if value is not None and not isinstance(value, str):
            return f"{name} is {type(value).__name__}, expected text"
        given[name] = value if value is None or value.strip() else None
    prompt, subject = given["prompt"], given["subject"]
    if prompt is None or subject is None:
        missing = "prompt" if prompt is None else "subject"
        return f"no {missing}; the row has {', '.join(map(str, row)) or 'nothing'}"
    if subject.strip() not in prompt:
        return f"the subject {subject!r} is not in the prompt {prompt!r}"
    identity = given["id"] if given["id"] is not None else str(number)
    return Fact(number, line, identity, prompt, subject, given["answer"], given["counterfactual"])
