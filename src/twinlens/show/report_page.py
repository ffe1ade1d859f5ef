"""The one file that a report is: a title, what stands above all, sections. No script, nothing from
the network."""

from __future__ import annotations

from collections.abc import Sequence

from twinlens.show.blocks import Section, escaped, html_of

_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'"
_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<link rel="icon" href="data:,">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="generator" content="twinlens">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<main>
<h1>{title}</h1>
{top}
{body}
</main>
</body>
</html>
"""


def report_page(title: str, style: str, top: Sequence[str], sections: Sequence[Section]) -> str:
    """A page: its title, what stands above all (HTML), and the sections, `section-0` and on."""
    body = (
        f'<section id="section-{n}"><h2>{escaped(one.title)}</h2>'
        f"{''.join(map(html_of, one.blocks))}</section>"
        for n, one in enumerate(sections)
    )
    return _PAGE.format(
        policy=_POLICY, style=style, title=escaped(title), top="\n".join(top),
        body="\n".join(body),
    )  # fmt: skip


def framed(html: str) -> str:
    """A page within a notebook."""
    shown = escaped(html)
    return f'<iframe sandbox srcdoc="{shown}" style="width:100%;height:40em;border:0"></iframe>'
