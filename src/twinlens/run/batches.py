"""Work in batches that get smaller when memory runs out, and a bar that shows how far it is."""

from __future__ import annotations

import contextlib
import gc
import sys
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import TypeVar

import torch

Item = TypeVar("Item")
Done = TypeVar("Done")
Progress = bool | Callable[[int, int], None] | None

_PATIENCE = 1.0  # seconds before a bar appears


def in_batches(
    items: Sequence[Item],
    size: int,
    work: Callable[[Sequence[Item]], Done],
    on_smaller: Callable[[int], None] | None = None,
) -> Iterator[Done]:
    """`work` on consecutive batches of `items`; out of memory halves the batch and goes on.

    `on_smaller(size)` is told the new size. What fails with a batch of one is raised.
    """
    start = 0
    while start < len(items):
        batch = items[start : start + size]
        done: list[Done] = []
        try:
            done.append(work(batch))
        except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
            if len(batch) == 1 or not is_out_of_memory(error):
                raise
        if not done:  # outside the handler, so that the failed pass can be freed
            size = len(batch) // 2
            free_memory()
            if on_smaller is not None:
                on_smaller(size)
            continue
        start += len(batch)
        yield done[0]


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out, on a GPU or on the CPU."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return "can't allocate memory" in str(error) or "not enough memory" in str(error)


def free_memory() -> None:
    """Give back what the allocators hold."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


@contextlib.contextmanager
def counting(total: int, label: str, progress: Progress = None) -> Generator[Callable[[int], None]]:
    """A function that is told how many of `total` steps were done since the last call.

    `progress`: a function `(done, total)`, False for silence, True for a bar on standard error,
    None for a bar where standard error is a terminal. A bar appears after one second.
    """
    if callable(progress):
        report, done = progress, 0

        def tell(steps: int) -> None:
            nonlocal done
            done += steps
            report(done, total)

        yield tell
    elif progress or (progress is None and sys.stderr.isatty()):
        with _late_bar(total, label) as advance:
            yield advance
    else:
        yield lambda steps: None


@contextlib.contextmanager
def _late_bar(total: int, label: str) -> Generator[Callable[[int], None]]:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    bar = Progress(*columns, console=Console(stderr=True), transient=True)
    task = bar.add_task(label, total=total)
    started = time.monotonic()
    shown = False

    def advance(steps: int) -> None:
        nonlocal shown
        bar.advance(task, steps)
        if not shown and time.monotonic() - started > _PATIENCE:
            bar.start()
            shown = True

    try:
        yield advance
    finally:
        if shown:
            bar.stop()
