"""One job: a key, its work, and how far it is. It knows nothing of queues and workers."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

State = Literal["queued", "running", "done", "failed", "cancelled"]
Tell = Callable[[str, int, int], None]
Work = Callable[[Tell], bytes]

FINAL: tuple[State, ...] = ("done", "failed", "cancelled")


class JobCancelledError(Exception):
    """Raised where a job reports, to end its work."""


@dataclass(frozen=True)
class Progress:
    """How far a job is. `place`: how many jobs are before it; `total` is 0 where it is unknown."""

    state: State
    place: int
    stage: str
    done: int
    total: int
    seconds_left: float | None  # of this stage
    message: str | None  # why it failed


def starting(state: State, place: int = 0) -> Progress:
    """The progress of a job that has told nothing yet."""
    return Progress(state, place, "", 0, 0, None, None)


@dataclass(eq=False)
class Job:
    """One piece of work. Its fields change under the lock of `Jobs`."""

    key: str
    work: Work
    id: str = field(default_factory=lambda: secrets.token_urlsafe(12))
    progress: Progress = field(default_factory=lambda: starting("queued"))
    result: bytes = b""
    asked: int = 1  # how often it was asked for
    listeners: list[Callable[[], None]] = field(default_factory=list[Callable[[], None]])
    stage_began: float = 0.0
    told: float = 0.0

    @property
    def is_final(self) -> bool:
        """Whether nothing will change any more."""
        return self.progress.state in FINAL
