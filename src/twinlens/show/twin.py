"""The twin picture: what each layer would say beside what the answer depends on, on one grid."""

from __future__ import annotations

import importlib.util
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twinlens.errors import InputError
from twinlens.results import Result
from twinlens.results.writing import replacing
from twinlens.show.layout import Style, columns_of, cropped
from twinlens.show.picture import Picture, picture

if TYPE_CHECKING:
    from twinlens.show.page import Page

FORMATS = (".png", ".svg", ".pdf", ".html")
MAP_DPI = 220


@dataclass(frozen=True, eq=False)
class TwinView:
    """A picture that shows itself in a notebook and saves itself to a file."""

    picture: Picture
    results: tuple[Result, ...] = ()
    columns: int | None = None
    crop: tuple[int, int] | None = None
    flip: bool = False
    transpose: bool = False

    def figure(self) -> Any:
        """The picture as a `matplotlib.figure.Figure`."""
        from twinlens.show.figure import draw

        return draw([self.picture], self.style)

    @property
    def style(self) -> Style:
        """How the picture is laid out."""
        return Style(self.columns, self.crop, self.flip, self.transpose)

    def save(self, path: str | Path, *, dpi: int = 160) -> Path:
        """Write .html, .png, .svg or .pdf; the file appears whole or not at all.

        The page (.html) is alive: one file that opens without a network. The others are the whole
        picture, and need no screen. Raises `InputError` for another ending, `ResultFileError` where
        the file cannot be written, `MissingExtraError` where a picture needs matplotlib.
        """
        path = Path(path)
        check_format(path)
        if path.suffix.lower() == ".html":
            return self.page().save(path)
        payload = rendered(self.figure(), [self.picture], path.suffix[1:].lower(), dpi)
        with replacing(path) as temporary:
            temporary.write_bytes(payload)
        return path

    def page(self) -> Page:
        """The same results as an interactive page; crop and bands are the reader's there."""
        from twinlens.show.document import document
        from twinlens.show.page import Page

        looks = {self.results[0].provenance.model: self.results}
        return Page(document(looks, flip=self.flip, transpose=self.transpose))

    def _repr_png_(self) -> bytes | None:
        """For readers that show neither widgets nor frames; nothing without matplotlib."""
        if importlib.util.find_spec("matplotlib") is None:
            return None
        return rendered(self.figure(), [self.picture], "png", 110)

    def _repr_mimebundle_(self, **_: Any) -> Any:
        from twinlens.show.widget import mimebundle

        return mimebundle(self.page())


def rendered(figure: Any, pictures: Sequence[Picture], file_format: str, dpi: int) -> bytes:
    """The bytes of a figure of some pictures: the same for the same pictures."""
    import matplotlib

    buffer = io.BytesIO()
    width, height = figure.get_size_inches()
    if any(panel.values.ndim > 3 for picture in pictures for panel in picture.panels):
        dpi = max(dpi, MAP_DPI)  # a neuron is a pixel
    dpi = min(dpi, int(60_000 / max(width, height)))  # no side beyond what PNG readers take
    # The same picture gives the same bytes: no clock, and fixed names inside the SVG.
    metadata = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}.get(file_format)
    with matplotlib.rc_context({"svg.hashsalt": "twinlens", "svg.fonttype": "none"}):
        figure.savefig(buffer, format=file_format, dpi=dpi, metadata=metadata)
    return buffer.getvalue()


def twin(
    *results: Result,
    lens_metric: str | None = None,
    lens_target: str | int = "final",
    reduce: str = "mean",
    columns: int | None = None,
    crop: tuple[int, int] | None = None,
    flip: bool = False,
    transpose: bool = False,
) -> TwinView:
    """One picture of lens, trace, neurons and attention of a prompt (any may be alone, or several).

    Scores of heads (`tl.induction`) may stand beside any prompt: they have a column a head. What
    heads look at is shown from the focus in a picture, and from any token in the page.

    Layers run top to bottom, tokens left to right, and a cell is at the same place in every panel.
    `lens_metric` and `lens_target` choose the lens' colour (see `LensResult.metric`). `reduce`:
    what the layer view of neurons shows (see `NeuronResult.layer_mean`). `columns`:
    tokens a band before the picture goes on below (default: by the length of the prompt). `crop`:
    show only the tokens `(start, stop)`. `flip`: layers from bottom to top; `transpose`: tokens
    from top to bottom.

    Raises `InputError` where the results are not of the same tokens or rows, and where `crop` or
    `columns` do not fit them.
    """
    shown = picture(results, lens_metric=lens_metric, lens_target=lens_target, reduce=reduce)
    cropped(crop, len(shown.tokens))
    columns_of(len(shown.tokens), Style(columns=columns))
    return TwinView(shown, tuple(results), columns, crop, flip, transpose)


def check_format(path: Path) -> None:
    """Raises `InputError` where a picture cannot be written with this ending."""
    if path.suffix.lower() not in FORMATS:
        raise InputError(
            f"cannot write a picture to {str(path)!r}; choose a name that ends in"
            f" {', '.join(FORMATS)}"
        )
