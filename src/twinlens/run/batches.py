"""Work in batches that get smaller when memory runs out, and a bar that shows how far it is."""

from __future__ import annotations

import contextlib
import gc
import sys
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import TypeVar

import torch

from twinlens.errors import OutOfMemoryError

Item = TypeVar("Item")
Done = TypeVar("Done")
Progress = bool | Callable[[int, int], None] | None

_SIGNS = (
    "can't allocate memory", "not enough memory", "out of memory", "bad_alloc", "ALLOC_FAILED",
)  # fmt: skip
_PATIENCE = 1.0  # seconds before a bar appears


def in_batches(
    items: Sequence[Item],
    size: int,
    work: Callable[[Sequence[Item]], Done],
    on_smaller: Callable[[int], None] | None = None,
) -> Iterator[Done]:
    """`work` on consecutive batches of `items`; out of memory halves the batch and goes on.

    `on_smaller(size)` is told the new size. Raises `OutOfMemoryError` where one item is too much.
    """
    start = 0
    while start < len(items):
        batch = items[start : start + size]
        done: list[Done] = []
        try:
            done.append(work(batch))
        except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            if len(batch) == 1:
                raise out_of_memory(error) from error
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
    return isinstance(error, RuntimeError) and any(sign in str(error) for sign in _SIGNS)


def out_of_memory(error: BaseException) -> OutOfMemoryError:
    """The named error of one that `is_out_of_memory`."""
    if isinstance(error, OutOfMemoryError):
        return error
    told = (str(error).splitlines() or [""])[0].strip()
    return OutOfMemoryError(
        "memory ran out"
        + (f" ({told[:200]})" if told else "")
        + "; give a shorter prompt, fewer samples or fewer batch_tokens, or a machine with more"
    )


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
