"""Text measured and shortened to the inches that it has, in the figure's own font."""

from __future__ import annotations

from functools import lru_cache

from twinlens.results.base import optional


@lru_cache(maxsize=1)
def _known_characters() -> frozenset[int]:
    manager = optional("matplotlib.font_manager", "figures")
    font = manager.get_font(manager.findfont("DejaVu Sans"))
    return frozenset(font.get_charmap())


@lru_cache(maxsize=65536)
def printable(text: str) -> str:
    """The text with characters that the figure's font does not have as `‹U+4E2D›`."""
    known = _known_characters()
    return "".join(c if ord(c) in known else f"‹U+{ord(c):04X}›" for c in text)


@lru_cache(maxsize=65536)
def width_of(text: str, size: float) -> float:
    """Width of a text in inches."""
    if not text:
        return 0.0
    textpath = optional("matplotlib.textpath", "figures")
    manager = optional("matplotlib.font_manager", "figures")
    font = manager.FontProperties(family="DejaVu Sans", size=size)
    width, _, _ = textpath.text_to_path.get_text_width_height_descent(text, font, ismath=False)
    return float(width) / 72


def fitted(text: str, size: float, room: float) -> str:
    """The text, shortened with an ellipsis until it fits; empty where nothing would be left."""
    if width_of(text, size) <= room:
        return text
    for end in range(len(text) - 1, 0, -1):
        if width_of(text[:end] + "…", size) <= room:
            return text[:end] + "…"
    return ""


def wrapped(text: str, size: float, room: float) -> str:
    """The text in lines that fit."""
    lines = [""]
    for word in text.split(" "):
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and width_of(longer, size) > room:
            lines.append(word)
        else:
            lines[-1] = longer
    return "\n".join(lines)
