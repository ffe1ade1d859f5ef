"""`twinlens heads`: which heads match, copy and look back."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from twinlens.cli.app import app
from twinlens.cli.common import (
    load_model,
    print_json,
    print_notes,
    refuse_bad_output,
    table_of_numbers,
)
from twinlens.cli.options import ModelOptions, OutputOptions, Whole
from twinlens.cli.refusing import refuse_bad_result

if TYPE_CHECKING:
    from twinlens.results import HeadResult

_NAMES = {
    "prefix_matching": "induction",
    "copying": "copying",
    "previous_token": "previous token",
    "duplicate_token": "duplicate token",
}


@app.command
def heads(
    model: str = "hamlet",
    *,
    threshold: float = 0.5,
    sequences: Whole = 10,
    length: Whole = 25,
    repeats: Whole = 4,
    seed: Whole = 1,
    output: Annotated[Path | None, Parameter(name=("--output", "-o"))] = None,
    save: Path | None = None,
    json: Annotated[bool, Parameter(negative="")] = False,
    load: ModelOptions | None = None,
) -> None:
    """Induction heads: which heads, on repeated random tokens, look at what followed last time.

    Parameters
    ----------
    model
        "hamlet" (comes with twinlens), a directory or a hub id.
    threshold
        Mean score above which a head is named.
    sequences
        Random sequences.
    length
        Tokens of one copy.
    repeats
        Copies.
    seed
        Seed of the random tokens.
    output
        Picture to write, layers top to bottom, heads left to right: .png, .svg, .pdf, or .html.
    save
        File for the result (.safetensors).
    json
        Print the result as JSON.
    """
    from twinlens.see.induction import induction
    from twinlens.show.twin import twin

    refuse_bad_output(OutputOptions(output=output))
    if save is not None:
        refuse_bad_result(save, "the scores of heads")
    loaded = load_model(model, load or ModelOptions(), quiet=json)
    result = induction(
        loaded, sequences=sequences, length=length, repeats=repeats, seed=seed,
        threshold=threshold, progress=False if json else None,
    )  # fmt: skip
    if save is not None:
        result.save(save)
    if output is not None:
        twin(result).save(output)
    if json:
        print_json(result.to_dict())
    else:
        _print(result)
        for path in (save, output):
            if path is not None:
                print(f"wrote {path}", file=sys.stderr)


def _print(result: HeadResult) -> None:
    from rich.console import Console

    console = Console(highlight=False)
    console.print("prefix matching (Olsson et al. 2022), layers top to bottom")
    means = result.mean()
    grid = table_of_numbers("", *(f"H{head}" for head in range(means.shape[1])))
    for name, row in zip(result.layers, means, strict=True):
        grid.add_row(name, *(_cell(float(value), result.threshold) for value in row))
    console.print(grid)
    names = [name.replace("_", " ") for name in _NAMES]
    ends = table_of_numbers("head", *names, title="strongest by prefix matching, ± spread")
    scores = [(result.mean(name), result.spread(name)) for name in _NAMES]
    for head, _ in result.top(8):
        layer, _, number = head.partition(".H")
        at = int(layer), int(number)
        ends.add_row(head, *(f"{mean[at]:.2f} ± {spread[at]:.2f}" for mean, spread in scores))
    console.print(ends)
    for name, shown in _NAMES.items():
        found = ", ".join(result.named[name]) or "none"
        console.print(f"{shown} heads (above {result.threshold:g}): {found}")
    print_notes(console, result.notes)


def _cell(value: float, threshold: float) -> str:
    return f"[bold dark_orange3]{value:.2f}[/]" if value > threshold else f"{value:.2f}"
