"""How the reports of a contest look: their style, and the cards that must be read first."""

from __future__ import annotations

from collections.abc import Sequence

from twinlens.show.blocks import Section, escaped
from twinlens.show.report_page import report_page

_STYLE = """
:root { color-scheme: light; --ink: #22262b; --grey: #5d646b; --band: #f3f4f5; --line: #dcdfe2 }
body { margin: 0; background: #fff; color: var(--ink); font: 16px/1.5 system-ui, sans-serif }
main { max-width: 58rem; margin: 0 auto; padding: 1.5rem 1.25rem 4rem }
h1 { font-size: 1.35rem; margin: 0; overflow-wrap: anywhere }
h2 { font-size: 1.2rem; margin: 2.2rem 0 .5rem; border-top: 2px solid var(--line);
  padding-top: 1rem }
p { margin: .5rem 0; overflow-wrap: anywhere } .from { color: var(--grey) }
.strong { font-weight: 600 } .cards { display: flex; flex-wrap: wrap; gap: .8rem; margin: 1rem 0 }
.card { flex: 1 1 15rem; border-left: .4rem solid var(--tone); background: var(--band);
  padding: .7rem 1rem; border-radius: .25rem } .card:first-child { flex-grow: 2 }
.card b { color: var(--tone); font-size: 1.15rem; display: block }
.card:first-child b { font-size: 1.7rem; line-height: 1.25 } .card p { margin: .3rem 0 }
.facts { display: flex; flex-wrap: wrap; gap: .6rem }
.facts div { flex: 1 1 9rem; background: var(--band); border-radius: .25rem;
  padding: .5rem .8rem } .facts b { display: block; font-size: 1.3rem }
.facts span { color: var(--grey); font-size: .85rem; line-height: 1.3; display: block }
figure { margin: .9rem 0 } figure img { width: 100%; display: block }
figcaption { color: var(--grey); font-size: .85rem; margin-top: .3rem }
.wide { overflow-x: auto } table { border-collapse: collapse; font-size: .86rem; margin: .6rem 0;
  font-variant-numeric: tabular-nums }
summary { color: var(--grey); font-size: .85rem; cursor: pointer }
th, td { text-align: right; padding: .25rem .7rem .25rem 0; vertical-align: top;
  border-bottom: 1px solid var(--line) } th { color: var(--grey); font-weight: 500;
  vertical-align: bottom } td { min-width: 2.2rem }
td.word { white-space: pre-wrap } .word:first-child { white-space: nowrap }
.word { text-align: left } li { margin: .35rem 0 } ul { padding-left: 1.2rem }
a { color: inherit }
"""


def page(title: str, top: Sequence[str], sections: Sequence[Section]) -> str:
    """A page in the style of the contest's reports."""
    return report_page(title, _STYLE, top, sections)


def card(colour: str, head: str, lines: Sequence[str]) -> str:
    """A few words that must be read first, in a box with a coloured edge."""
    told = "".join(f"<p>{escaped(line)}</p>" for line in lines if line)
    return f'<div class="card" style="--tone:{colour}"><b>{escaped(head)}</b>{told}</div>'
