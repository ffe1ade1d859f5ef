"""How far a sweep is: facts a second, time left, known, unknown, failed. Silent in logs."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Generator
from dataclasses import dataclass

from twinlens.run.batches import Progress
from twinlens.sweep.work import Made

_HALF_LIFE = 60.0  # seconds over which the speed is averaged


@dataclass
class Tally:
    """What was done in this call, and before it."""

    total: int
    before: int = 0
    here: int = 0
    known: int = 0
    unknown: int = 0
    failed: int = 0

    @property
    def done(self) -> int:
        """Units that are done."""
        return self.before + self.here

    def add(self, made: Made) -> None:
        """One more."""
        self.here += 1
        self.known += made.known is True
        self.unknown += made.known is False
        self.failed += made.status == "failed"

    @property
    def text(self) -> str:
        """The counts as words."""
        return f"{self.known} known, {self.unknown} unknown, {self.failed} failed"


@contextlib.contextmanager
def telling(tally: Tally, progress: Progress) -> Generator[Callable[[Made], None]]:
    """A function that is told each unit; shows a bar on a terminal, or calls `progress`."""
    if callable(progress):

        def tell(made: Made) -> None:
            tally.add(made)
            progress(tally.done, tally.total)

        yield tell
    elif progress or (progress is None and sys.stderr.isatty()):
        with _bar(tally) as show:
            yield show
    else:
        yield tally.add


@contextlib.contextmanager
def _bar(tally: Tally) -> Generator[Callable[[Made], None]]:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("facts"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[counts]}"),
    )
    console = Console(stderr=True)
    with Progress(
        *columns, console=console, transient=True, speed_estimate_period=_HALF_LIFE
    ) as bar:
        task = bar.add_task(
            "facts", total=tally.total, completed=tally.before, rate="", counts=tally.text
        )

        def tell(made: Made) -> None:
            tally.add(made)
            speed = bar.tasks[0].speed
            rate = f"{speed:.2f}/s" if speed else ""
            bar.update(task, advance=1, rate=rate, counts=tally.text)

        yield tell
