"""`twinlens convert`: results of other tools in our orientation."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from twinlens.cli.app import app
from twinlens.cli.common import refuse_bad_output, show
from twinlens.cli.options import LensMetric, LensOptions, OutputOptions, Whole
from twinlens.cli.refusing import refuse_bad_file, refuse_idle_metric
from twinlens.errors import InputError

_RESULT = ".safetensors"
_TOP_K = 5


@app.command
def convert(
    files: Annotated[list[Path], Parameter(negative="")],
    *,
    tokenizer: str | None = None,
    model: Annotated[str, Parameter(name=("--model", "-m"))] = "unknown",
    top_k: Whole = _TOP_K,
    transposed: Annotated[bool, Parameter(negative="")] = False,
    flipped: Annotated[bool, Parameter(negative="")] = False,
    lens_metric: LensMetric | None = None,
    lens_target: str = "final",
    output: OutputOptions | None = None,
) -> None:
    """Show results of other tools, layers top to bottom and tokens left to right.

    Reads ROME's .npz cases, the arrays of a tuned-lens trajectory (.npz), plain grids (.npz with
    scores and tokens) and twinlens' own .safetensors. Runs no pickle. Of a single file, -o may also
    end in .safetensors: the result itself.

    Parameters
    ----------
    files
        Results of the same prompt.
    tokenizer
        "hamlet", a directory or a hub id: the labels of token ids.
    model
        Name of the model that was looked at; it is only written down.
    top_k
        Top tokens kept for every cell of a trajectory.
    transposed
        Plain grids are [token, layer].
    flipped
        Plain grids have the last layer in their first row.
    lens_metric
        Colour of the lens.
    lens_target
        Token of that metric.
    """
    from twinlens.model.convert import convert as converted

    output = output or OutputOptions()
    own = output.output if _is_result(output.output) else None
    if own is not None:
        _refuse_bad_result(own, files)
        output = dataclasses.replace(output, output=None)
    refuse_bad_output(output)
    results = [
        converted(
            file, tokenizer=tokenizer, model=model, top_k=top_k, transposed=transposed,
            flipped=flipped,
        )
        for file in files
    ]  # fmt: skip
    lens = LensOptions(lens_metric=lens_metric, lens_target=lens_target)
    refuse_idle_metric(results, lens)
    if top_k != _TOP_K and not any(result.kind_of_result == "lens" for result in results):
        raise InputError("--top-k is about a trajectory, and there is none in the files")
    show(None, results, lens, output)
    if own is not None:
        from rich.console import Console

        messages = Console(stderr=True, quiet=output.quiet, highlight=False, soft_wrap=True)
        messages.print(f"wrote {results[0].save(own)}", markup=False)


def _is_result(path: Path | None) -> bool:
    return path is not None and path.suffix.lower() == _RESULT


def _refuse_bad_result(path: Path, files: list[Path]) -> None:
    """Before anything is read: can the result be written there?"""
    if len(files) != 1:
        raise InputError(
            f"{path} holds one result, but {len(files)} files were given; --save FOLDER keeps each"
        )
    refuse_bad_file(path)
