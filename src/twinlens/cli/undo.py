"""`twinlens undo`: the steps of a changed copy, and the way back to any of them."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from twinlens.cli.app import app
from twinlens.cli.common import print_json, table_of_numbers
from twinlens.cli.options import Whole

if TYPE_CHECKING:
    from collections.abc import Sequence

    from twinlens.change.ledger import Step


@app.command
def undo(
    folder: Path,
    *,
    to: Whole | None = None,
    json: Annotated[bool, Parameter(negative="")] = False,
    quiet: Annotated[bool, Parameter(name=("--quiet", "-q"), negative="")] = False,
) -> None:
    """Give a changed copy the weights back that it had after a step, bit for bit.

    Going back is a step of its own, which can be undone, too. Without --to: show the steps.

    Parameters
    ----------
    folder
        Folder of the copy, as edit -o or scrub -o wrote it.
    to
        The step to go back to; 0 is the original.
    json
        Print the steps as JSON.
    quiet
        Print nothing but errors.
    """
    from twinlens.change.copy import Copy
    from twinlens.change.ledger import read_ledger

    if to is None:
        steps = read_ledger(folder)
    else:
        copy = Copy.open(folder)
        copy.undo(to)
        steps = copy.steps
    if json:
        print_json([asdict(step) for step in steps])
    elif not quiet:
        _tell(folder, steps)


def _tell(folder: Path, steps: Sequence[Step]) -> None:
    from rich.console import Console

    table = table_of_numbers("step", "numbers", "relative", "increase", title=str(folder))
    table.add_column("weights", no_wrap=True)
    table.add_column("what", overflow="fold")
    for step in steps:
        cost = step.cost.get("increase")
        table.add_row(
            str(step.step), f"{step.changed:,}", f"{step.relative:.4f}" if step.step else "",
            "" if cost is None else f"{cost:+.4f}", step.after[:8], _what(step.change),
        )  # fmt: skip
    Console().print(table)


def _what(change: Any) -> str:
    """A change in a few words."""
    told, words = dict(change), list[str]()
    kind = str(told.pop("kind", "change"))
    if parts := told.pop("parts", None):
        some = ", ".join(parts[:3]) + (", ..." if len(parts) > 3 else "")
        words.append(f"{len(parts)} parts ({some})")
    for name, value in told.items():
        if isinstance(value, str | int | float) and value and not _is_hash(value):
            words.append(f"{name} {value}")
    return f"{kind}: {', '.join(words)}" if words else kind


def _is_hash(value: object) -> bool:
    """Hashes of texts and constants are for the ledger, not for a reader of the table."""
    return isinstance(value, str) and len(value) >= 32 and set(value) <= set("0123456789abcdef")
