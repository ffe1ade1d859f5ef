"""A use map that shows itself in a notebook and saves itself to a file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from twinlens.results.use import UseResult
from twinlens.show.saved import check_figure_format, rendered, save_figure


@dataclass(frozen=True, eq=False)
class UseView:
    """The picture of a `UseResult` by one score."""

    result: UseResult
    score: str = "use"
    sort: bool = False

    def figure(self) -> Any:
        """The picture as a `matplotlib.figure.Figure`."""
        from twinlens.show.use_figure import draw_use

        return draw_use(self.result, self.score, sort=self.sort)

    def save(self, path: str | Path, *, dpi: int = 160) -> Path:
        """Write .png, .svg or .pdf; the file appears whole or not at all.

        Raises `InputError` for another ending, `ResultFileError` where the file cannot be written.
        """
        path = Path(path)
        check_figure_format(path, "a use map")
        return save_figure(self.figure(), path, dpi)

    def _repr_png_(self) -> bytes:
        return rendered(self.figure(), "png", 110)


def use_view(result: UseResult, score: str = "use", *, sort: bool = False) -> UseView:
    """The picture of a use map: layers top to bottom, heads and neurons left to right.

    `score`: see `UseResult`. `sort`: the units of each layer with the most used first, instead of
    by number. Raises `InputError` for an unknown score.
    """
    result.score(score)
    return UseView(result, score, sort)
