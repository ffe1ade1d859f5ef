"""What a written report is made of (paragraphs, tables, pictures), as HTML and as Markdown.

The one idea: a block holds plain text, and only here does it become markup, so nothing that a user
wrote is ever read as such.
"""

from __future__ import annotations

import base64
import html
import re
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Paragraph:
    """Words; `strong` where a reader must not miss them."""

    text: str
    strong: bool = False


@dataclass(frozen=True)
class Bullets:
    """Points of a list, each a few words and what is to be said of them."""

    items: Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Facts:
    """A few numbers that say most, each with what it is."""

    pairs: Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Table:
    """Rows under a head. The columns numbered in `words` are texts and stand at the left. On a page
    it stands folded behind the words `folded`, where there are some."""

    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    words: Sequence[int] = (0,)
    folded: str = ""


@dataclass(frozen=True)
class Picture:
    """A picture in SVG, the name of its file, what one would see, and what is to be known."""

    name: str
    svg: str
    alt: str
    caption: str


@dataclass(frozen=True)
class Code:
    """Lines to be read letter by letter."""

    text: str


Block = Paragraph | Bullets | Facts | Table | Picture | Code


@dataclass(frozen=True)
class Section:
    """Blocks under a heading."""

    title: str
    blocks: Sequence[Block]


def html_of(block: Block) -> str:
    """A block as HTML."""
    match block:
        case Paragraph(text, strong):
            return f"<p{' class=strong' if strong else ''}>{escaped(text)}</p>"
        case Bullets(items):
            told = (f"<li><b>{escaped(a)}</b> {escaped(b)}</li>" for a, b in items)
            return f"<ul>{''.join(told)}</ul>"
        case Facts(pairs):
            told = (f"<div><b>{escaped(a)}</b><span>{escaped(b)}</span></div>" for a, b in pairs)
            return f'<div class="facts">{"".join(told)}</div>'
        case Table():
            return _html_table(block)
        case Picture(_, svg, alt, caption):
            data = base64.b64encode(svg.encode()).decode()
            shown = f'<img alt="{escaped(alt)}" src="data:image/svg+xml;base64,{data}">'
            return f"<figure>{shown}<figcaption>{escaped(caption)}</figcaption></figure>"
        case Code(text):
            return f"<pre>{escaped(text)}</pre>"


def markdown_of(block: Block) -> str:
    """A block as Markdown; a picture is a file beside it."""
    match block:
        case Paragraph(text, strong):
            return f"**{in_markdown(text)}**" if strong else in_markdown(text)
        case Bullets(items):
            return "\n".join(f"- **{in_markdown(a)}** {in_markdown(b)}" for a, b in items)
        case Facts(pairs):
            return "\n".join(f"- **{in_markdown(a)}** {in_markdown(b)}" for a, b in pairs)
        case Table(head, rows, words):
            aligned = ["---" if n in words else "---:" for n in range(len(head))]
            lines = [map(in_markdown, head), aligned, *(map(in_markdown, row) for row in rows)]
            return "\n".join(f"| {' | '.join(line)} |" for line in lines)
        case Picture(name, _, alt, caption):
            return f"![{in_markdown(alt)}]({name})\n\n{in_markdown(caption)}"
        case Code(text):
            fence = "`" * max(3, 1 + max(map(len, re.findall("`+", text)), default=0))
            return f"{fence}text\n{text.rstrip()}\n{fence}"


def escaped(text: str) -> str:
    """Text that stands in HTML as it is."""
    return html.escape(text)


def in_markdown(text: str) -> str:
    """Text that stands in one line of Markdown as it is."""
    one = html.escape(" ".join(text.split()), quote=False)
    return re.sub(r"([\\`*_\[\]|~$])", r"\\\1", one)


def _html_table(table: Table) -> str:
    def row(cells: Sequence[str], tag: str) -> str:
        told = (
            f"<{tag}{' class=word' if n in table.words else ''}>{escaped(cell)}</{tag}>"
            for n, cell in enumerate(cells)
        )
        return f"<tr>{''.join(told)}</tr>"

    body = "".join(row(cells, "td") for cells in table.rows)
    head = row(table.head, "th")
    made = f'<div class="wide"><table><thead>{head}</thead><tbody>{body}</tbody></table></div>'
    if not table.folded:
        return made
    return f"<details><summary>{escaped(table.folded)}</summary>{made}</details>"
