"""A summary of one run or two that saves itself as a figure."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twinlens.show.saved import check_figure_format, rendered, save_figure
from twinlens.sweep.store import SweepRun, open_run
from twinlens.sweep.summary import Summary, summed_up

if TYPE_CHECKING:
    from twinlens.show.page import Page

WHAT = "a summary"


@dataclass(frozen=True, eq=False)
class SummaryView:
    """The `summary` (arrays), and ways to show it."""

    summary: Summary

    def figure(self, neurons: int = 10) -> Any:
        """The picture as a `matplotlib.figure.Figure`, with so many neurons in its table."""
        from twinlens.show.summary_figure import draw_summary

        return draw_summary(self.summary, neurons)

    def save(self, path: str | Path, *, dpi: int = 160) -> Path:
        """Write .png, .svg or .pdf; the file appears whole or not at all.

        Raises `InputError` for another ending, `ResultFileError` where the file cannot be written.
        """
        path = Path(path)
        check_figure_format(path, WHAT)
        return save_figure(self.figure(), path, dpi)

    def page(self) -> Page:
        """The averages on the viewer's grid: layers top to bottom, token roles left to right.

        The page shows itself in a notebook, and saves itself as one file (`.save("average.html")`).
        """
        from twinlens.show.page import Page
        from twinlens.show.run_document import average_document

        return Page(average_document(self.summary))

    def to_dict(self) -> dict[str, Any]:
        """The summary as plain lists, numbers and strings."""
        return self.summary.to_dict()

    def to_dataframe(self) -> Any:
        """One row a kind, layer and role (polars): mean, low, high, facts."""
        return self.summary.to_dataframe()

    def _repr_png_(self) -> bytes:
        return rendered(self.figure(), "png", 110)


def summarize(
    run: str | Path | SweepRun,
    against: str | Path | SweepRun | None = None,
    *,
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 1,
    top: int = 20,
) -> SummaryView:
    """What a sweep found on average: effects by layer and token role (Meng et al. 2022, figure 2).

    For `block`, `mlp`, `attn` and the `neurons`' layer mean: first each fact's mean over its tokens
    of a role, then the mean over facts, with percentile bootstrap intervals of `level` over facts
    (`resamples`, `seed`); and the `top` neurons that are most often among a fact's strongest.

    With `against` (another model, another corruption, the same model before an edit): the
    difference, run minus `against`, fact by fact, on the facts that both measured; models of
    different depth are compared at the same share of it.

    Returns a view: `.summary` (arrays), `.save("figure.pdf")`, `.to_dataframe()`, `.to_dict()`.
    Raises `RunFolderError` where a folder is no run, `InputError` where nothing can be compared.
    """
    first = run if isinstance(run, SweepRun) else open_run(run)
    second = open_run(against) if isinstance(against, str | Path) else against
    return SummaryView(
        summed_up(first, second, level=level, resamples=resamples, seed=seed, top=top)
    )
