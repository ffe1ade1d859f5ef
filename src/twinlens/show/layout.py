"""Where everything in a figure is, in inches: panels side by side, long prompts in bands below."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from twinlens.errors import InputError
from twinlens.show.picture import Picture, by_columns
from twinlens.show.text import printable, width_of, wrapped


@dataclass(frozen=True)
class Style:
    """How a picture is laid out, in inches."""

    columns: int | None = None  # tokens a band; None chooses by the length of the prompt
    crop: tuple[int, int] | None = None  # only these tokens, (start, stop)
    flip: bool = False  # layers from bottom to top
    transpose: bool = False  # tokens from top to bottom, layers from left to right
    token_side: float = 0.62  # longest side of a cell along the tokens
    layer_side: float = 0.25
    page: float = 8.4  # most a panel may take along the tokens
    strip: float = 0.32  # the surprisal strip
    gap: float = 0.75  # between panels: the names of the rows
    label: float = 0.85  # below a band: at most this for the tokens' names
    reading: float = 3.4  # at least this for the words above and below a panel
    head: float = 0.48  # title; the subtitle's lines come on top
    foot: float = 0.52  # colour bar and marks; its meaning's and the notes' lines come on top
    line: float = 0.13


class Layout:
    """Where everything is, in inches from the lower left corner of a block of panels side by side.

    A picture of many panels has several blocks, one above the other: `canvas` is the size of all,
    `lift` how far up this one stands.
    """

    def __init__(self, picture: Picture, style: Style) -> None:
        self.style, self.picture = style, picture
        n_tokens, n_rows = len(picture.tokens), len(picture.panels[0].rows)
        start, stop = cropped(style.crop, n_tokens)
        columns = columns_of(stop - start, style)
        self.bands = [range(i, min(i + columns, stop)) for i in range(start, stop, columns)]
        along = min(style.token_side, max(0.165, style.page / columns))
        across = style.layer_side
        if style.transpose:
            self.cell = (style.token_side, 0.22)
            self.panel = (n_rows * self.cell[0], columns * self.cell[1])
            self.before, self.below = style.label + 0.2, 0.35
        else:
            self.cell = (along, across)
            self.panel = (columns * along, n_rows * across)
            self.before, self.below = style.gap, self._room_for_names(along)
        self.level = not style.transpose and self._widest_name() <= along - 0.04
        self.beside = style.strip + 0.08 if style.transpose else 0.0
        strip = 0.0 if picture.surprisal_bits is None else style.strip
        self.above = 0.3 if style.transpose else strip + 0.34
        if picture.panels[0].columns is not None:  # no surprisal, no positions
            self.above = 0.12
        self.pitch = self.panel[1] + self.above + self.below
        self.reading = max(self.panel[0], style.reading)
        self.across = self.before + self.beside + self.reading
        width = len(picture.panels) * self.across + 0.3
        self._write(width)
        self.size = (width, self.head + self.foot + len(self.bands) * self.pitch)
        self.canvas, self.lift = self.size, 0.0

    def _write(self, width: float) -> None:
        """Break the words into lines and make room for them."""
        style, panels = self.style, self.picture.panels
        self.subtitles = [wrapped(printable(p.subtitle), 7.5, self.reading) for p in panels]
        self.meanings = [wrapped(printable(p.meaning), 7, self.reading) for p in panels]
        notes = [f"note: {note}" for note in self.picture.notes]
        self.notes = [wrapped(printable(note), 7, width - self.before - 0.3) for note in notes]
        self.head = style.head + style.line * _most_lines(self.subtitles)
        self.note_lines = sum(note.count("\n") + 1 for note in self.notes)
        self.foot = style.foot + style.line * (_most_lines(self.meanings) + self.note_lines)

    def _room_for_names(self, along: float) -> float:
        """Inches that the tokens' names take below a band, at most `style.label`."""
        longest = self._widest_name()
        if longest <= along - 0.04:
            return 0.36
        slant = 1.0 if along < 0.4 else 0.75
        return min(self.style.label, longest * slant + 0.22)

    def _widest_name(self) -> float:
        shown = [self.picture.tokens.labels[token] for band in self.bands for token in band]
        return max(width_of(printable(label), 7.5) for label in shown)

    def shows(self, token: int) -> bool:
        """Whether a token is in the picture."""
        return self.bands[0].start <= token < self.bands[-1].stop

    def grid(self, band: int, column: int) -> tuple[float, float]:
        """Lower left corner of a panel's grid."""
        x = column * self.across + self.before + self.beside
        top = self.size[1] - self.head - band * self.pitch
        return x, top - self.above - self.panel[1]

    def box(self, x: float, y: float, width: float, height: float) -> tuple[float, ...]:
        """Inches to the fractions of the figure that matplotlib wants."""
        across, up = self.canvas
        return x / across, (y + self.lift) / up, width / across, height / up

    def at(self, x: float, y: float) -> tuple[float, float]:
        """The same for a point."""
        return self.box(x, y, 0, 0)[0], self.box(x, y, 0, 0)[1]


def blocks(pictures: Sequence[Picture], style: Style) -> list[Layout]:
    """Layouts of at most two panels each, all stacked from the top; the last of a picture has its
    notes."""
    made = [layout for picture in pictures for layout in _blocks_of(picture, style)]
    canvas = max(b.size[0] for b in made), sum(b.size[1] for b in made)
    lift = canvas[1]
    for block in made:
        lift -= block.size[1]
        block.canvas, block.lift = canvas, lift
    return made


def _blocks_of(picture: Picture, style: Style) -> list[Layout]:
    if any(panel.values.ndim > 3 for panel in picture.panels):
        style = replace(style, layer_side=1.7 * style.layer_side)  # room for a cell's neurons
    pairs: list[tuple[Picture, Style]] = []
    for part in by_columns(picture):
        its = style
        if part.panels[0].columns is not None:  # bands and crops are those of the prompt
            its = replace(style, columns=None, crop=None, token_side=_side(part, style))
        for i in range(0, len(part.panels), 2):
            pairs.append((replace(part, panels=part.panels[i : i + 2], notes=()), its))
    pairs[-1] = replace(pairs[-1][0], notes=picture.notes), pairs[-1][1]
    return [Layout(pair, its) for pair, its in pairs]


def _side(picture: Picture, style: Style) -> float:
    """Cells that fill what the words take anyway, where there are few columns."""
    return max(style.token_side, min(1.0, style.reading / len(picture.tokens)))


def _most_lines(texts: list[str]) -> int:
    return max(text.count("\n") + 1 for text in texts)


def cropped(crop: tuple[int, int] | None, n_tokens: int) -> tuple[int, int]:
    """First and last-but-one token to show; raises `InputError` where they do not fit."""
    if crop is None:
        return 0, n_tokens
    start, stop = crop
    if not 0 <= start < stop <= n_tokens:
        raise InputError(
            f"crop=({start}, {stop}) does not fit a prompt of {n_tokens} tokens; expected"
            f" 0 <= start < stop <= {n_tokens}"
        )
    return start, stop


def columns_of(n_tokens: int, style: Style) -> int:
    """Tokens a band: short prompts in one, longer ones in equal bands with text in the cells, the
    longest in wide bands without it."""
    if style.columns is not None:
        if style.columns < 1:
            raise InputError(f"columns={style.columns} must be at least 1")
        return min(style.columns, n_tokens)
    most = 40 if style.transpose else 18 if n_tokens <= 72 else 48
    return math.ceil(n_tokens / math.ceil(n_tokens / most))
