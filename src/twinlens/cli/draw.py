"""`twinlens draw`: results that were saved before."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from twinlens.cli.app import app
from twinlens.cli.common import refuse_bad_output, show
from twinlens.cli.options import LensOptions, OutputOptions


@app.command
def draw(
    files: Annotated[list[Path], Parameter(negative="")],
    *,
    lens_metric: str | None = None,
    lens_target: str = "final",
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
    """
    from twinlens.results import open_result

    output = output or OutputOptions()
    refuse_bad_output(output)
    results = [open_result(file) for file in files]
    show(None, results, LensOptions(lens_metric=lens_metric, lens_target=lens_target), output)  # type: ignore[arg-type]
