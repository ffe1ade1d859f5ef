"""`twinlens shrink`: really remove the neurons that write nothing, and tell what that gained."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from twinlens.cli.app import app
from twinlens.cli.common import load_model, print_json, print_notes, table_of_numbers
from twinlens.cli.options import ModelOptions, Whole
from twinlens.cli.refusing import refuse_bad_text, refuse_taken_folder
from twinlens.errors import InputError

if TYPE_CHECKING:
    from twinlens.change.beside import Gap, Speed
    from twinlens.change.shrink import Shrunk


@app.command
def shrink(
    model: str,
    *,
    output: Annotated[Path, Parameter(name=("--output", "-o"))],
    multiple: Whole = 1,
    text: str = "hamlet",
    limit: Whole = 2048,
    pairs: Whole = 15,
    json: Annotated[bool, Parameter(negative="")] = False,
    load: ModelOptions | None = None,
) -> None:
    """Write a narrower model without the neurons that write nothing; it computes the same.

    Parameters
    ----------
    model
        A directory, a hub id, or "hamlet"; with neurons whose down-projection is zero.
    output
        Folder for the narrower model; it must be new.
    multiple
        Round the width up to a multiple of this.
    text
        On which the logits of both are compared: a file in .txt or .jsonl, or "hamlet".
    limit
        At most so many tokens of it.
    pairs
        Passes of both models by which the speed is told.
    json
        Print the numbers as JSON.
    """
    refuse_taken_folder(output)
    for name, value in (("--multiple", multiple), ("--limit", limit), ("--pairs", pairs)):
        if value < 1:
            raise InputError(f"{name} {value} must be at least 1")
    refuse_bad_text(text)
    options = load or ModelOptions()
    loaded = load_model(model, options, quiet=json)
    from twinlens.change.shrink import shrink

    made = shrink(loaded, multiple=multiple)
    made.save(output)
    from twinlens.change.beside import logit_gap, speed_ratio

    new = load_model(str(output), options, quiet=json)  # what is told is true of the files
    length = min(128, loaded.context or 128)
    gap = logit_gap(loaded, new, text, length=length, limit=limit)
    speed = speed_ratio(loaded, new, pairs=pairs)
    if json:
        print_json(_plain(made, gap, speed))
    else:
        _print(made, gap, speed)
        print(f"wrote {output}", file=sys.stderr)


def _notes(made: Shrunk) -> list[str]:
    before, after = made.width
    layers = [str(layer) for layer, alive in enumerate(made.alive) if alive == max(made.alive)]
    if before == after:
        which = f"layer {layers[0]} has {max(made.alive):,} that write something"
        return [f"nothing was removed: all layers have one width, and {which}"]
    dead = sum(after - alive for alive in made.alive)
    widest = f"the most are left in layer {', '.join(layers)}"
    return [f"{dead:,} neurons that write nothing were kept: {widest}"] if dead else []


def _plain(made: Shrunk, gap: Gap, speed: Speed) -> dict[str, object]:
    return {
        "width": made.width,
        "parameters": made.parameters,
        "alive": made.alive,
        "kept": made.kept.tolist(),
        "logits": gap._asdict(),
        "speed": speed._asdict(),
        "notes": _notes(made),
    }


def _print(made: Shrunk, gap: Gap, speed: Speed) -> None:
    from rich.console import Console

    console = Console(highlight=False, soft_wrap=True)
    table = table_of_numbers("", "before", "after")
    table.add_row("neurons a layer", *(f"{width:,}" for width in made.width))
    table.add_row("parameters", *(f"{size:,}" for size in made.parameters))
    console.print(table)
    console.print(
        f"largest difference of a logit: {gap.difference:.2g} over {gap.n_tokens:,} tokens"
        f" (the largest logit is {gap.largest:.3g})"
    )
    console.print(
        f"speed: {speed.ratio:.2f} times the old one's (quartiles {speed.low:.2f} to"
        f" {speed.high:.2f} of {speed.pairs} pairs of passes)"
    )
    print_notes(console, _notes(made))
