"""Views of the same tokens below each other, and the difference of the first two below those."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from twinlens.results.writing import replacing
from twinlens.show.page import Page
from twinlens.show.panels import Panel
from twinlens.show.picture import Picture
from twinlens.show.twin import TwinView, check_format, rendered

_NOW = "text: the top token where it is another now; "
_WORTH_A_TEXT = 0.2  # of the largest difference: from here on a cell says its number


@dataclass(frozen=True, eq=False)
class Comparison(Page):
    """A page of several named views that can be drawn too."""

    views: Mapping[str, TwinView]

    def pictures(self) -> list[Picture]:
        """A picture a view, with the same colours for the same numbers; of two, the difference."""
        names, views = list(self.views), list(self.views.values())
        rows = list(zip(*(view.picture.panels for view in views), strict=False))
        shared = [_on_one_scale(panels) for panels in rows]
        found = [
            _titled(view.picture, [panels[n] for panels in shared], names[n])
            for n, view in enumerate(views)
        ]
        if len(views) == 2:
            pairs = [_difference(a, b) for a, b in shared if a.values.shape == b.values.shape]
            about = dataclasses.replace(found[0], surprisal_bits=None, notes=())
            found.append(_titled(about, pairs, f"{names[1]} − {names[0]}"))
        return [picture for picture in found if picture.panels]

    def figure(self) -> Any:
        """The pictures as one `matplotlib.figure.Figure`, laid out as the first view is."""
        from twinlens.show.figure import draw

        return draw(self.pictures(), next(iter(self.views.values())).style)

    def save(self, path: str | Path, *, dpi: int = 160) -> Path:
        """Write .html, .png, .svg or .pdf; the file appears whole or not at all.

        Raises `InputError` for another ending, `ResultFileError` where the file cannot be written,
        `MissingExtraError` where a picture needs matplotlib.
        """
        path = Path(path)
        if path.suffix.lower() in (".html", ".htm"):
            return super().save(path)
        check_format(path)
        payload = rendered(self.figure(), self.pictures(), path.suffix[1:].lower(), dpi)
        with replacing(path) as temporary:
            temporary.write_bytes(payload)
        return path


def _titled(picture: Picture, panels: Sequence[Panel], name: str) -> Picture:
    """A picture of these panels, with a name before each title."""
    named = (dataclasses.replace(p, title=f"{name}: {p.title}") for p in panels)
    return dataclasses.replace(picture, panels=tuple(named))


def _on_one_scale(panels: Sequence[Panel]) -> list[Panel]:
    """The same panel of several views, with colours that mean the same."""
    low, high = min(p.low for p in panels), max(p.high for p in panels)
    return [dataclasses.replace(panel, low=low, high=high) for panel in panels]


def _difference(before: Panel, after: Panel) -> Panel:
    """After less before; where a cell's text is another now, the new one stands there."""
    values = after.values - before.values
    limit = float(np.nanmax(np.abs(values), initial=0.0)) or 1.0
    told = after.stars is not None and after.column == "token"  # texts are tokens, not numbers
    return dataclasses.replace(
        after,
        subtitle=_NOW * told + "colours on a scale of their own",
        values=values,
        meaning=f"change of: {after.meaning}",
        scale="symlog" if after.scale == "symlog" else "diverging",
        low=-limit,
        high=limit,
        texts=_changed_texts(before, after) if told else _numbers(values, limit),
        stars=None,
    )


def _changed_texts(before: Panel, after: Panel) -> list[list[str]]:
    assert before.texts is not None
    assert after.texts is not None
    pairs = zip(before.texts, after.texts, strict=True)
    return [[n if n != o else "" for o, n in zip(old, new, strict=True)] for old, new in pairs]


def _numbers(values: np.ndarray, limit: float) -> list[list[str]] | None:
    """The difference as text where it is large; nothing in panels whose cells have parts."""
    if values.ndim > 2:
        return None
    texts = [[""] * values.shape[1] for _ in values]
    for row, column in np.argwhere(np.nan_to_num(np.abs(values)) >= _WORTH_A_TEXT * limit):
        number = f"{values[row, column]:+#.2g}".removesuffix(".")
        texts[row][column] = number.replace("-", "−") if values[row, column] else ""
    return texts
