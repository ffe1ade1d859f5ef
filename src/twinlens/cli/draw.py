"""`twinlens draw`: results that were saved before."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from twinlens.cli.app import app
from twinlens.cli.common import refuse_bad_output, show, view_of
from twinlens.cli.options import LensMetric, LensOptions, OutputOptions
from twinlens.cli.refusing import refuse_idle_metric
from twinlens.cli.values import token
from twinlens.errors import ResultFileError


@app.command
def draw(
    files: Annotated[list[Path], Parameter(negative="")],
    *,
    lens_metric: LensMetric | None = None,
    lens_target: str = "final",
    reduce: Literal["mean", "mean+max", "max", "positive", "joint"] = "mean",
    output: OutputOptions | None = None,
) -> None:
    """Show results that were saved before, without the model.

    Parameters
    ----------
    files
        Results of the same prompt (`look --save DIR` writes them).
    lens_metric
        Colour of the lens.
    lens_target
        Token of that metric.
    reduce
        What the layer view of neurons shows of each MLP.
    """
    from twinlens.results import open_result
    from twinlens.results.reading import sound

    output = output or OutputOptions()
    refuse_bad_output(output)
    results = [open_result(file) for file in files]
    lens = LensOptions(lens_metric=lens_metric, lens_target=lens_target)
    refuse_idle_metric(results, lens, reduce)
    try:
        with sound(" or ".join(map(str, files)), ResultFileError, is_read=True):
            show(None, results, lens, output, reduce)
    except ResultFileError:
        for file, result in zip(files, results, strict=True):  # which one is damaged?
            with sound(file, ResultFileError, is_read=True):
                view_of([result], lens, output, reduce, token(lens_target, "--lens-target"))
        raise
