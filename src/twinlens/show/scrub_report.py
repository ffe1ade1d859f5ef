"""The report of a scrub: one HTML file that a person reads in five minutes, and Markdown."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from twinlens.change.scrub import ScrubRun
from twinlens.change.scrubbed import ScrubAccount, account_of
from twinlens.errors import MissingExtraError
from twinlens.results.writing import replacing
from twinlens.show.blocks import Picture, Section, escaped, html_of, in_markdown, markdown_of
from twinlens.show.report_page import framed, report_page
from twinlens.show.scrub_text import LIMITS, facts, sections
from twinlens.show.scrub_words import headline

_LIMITS = "It speaks of these texts only. Read what it does not show."
_STYLE = """
:root { color-scheme: light dark; --ink: #22262b; --grey: #5d646b; --page: #fff; --band: #f3f4f5;
  --line: #dcdfe2; --pass: #0b6b3a; --fail: #b3240a; --unknown: #7a5a00 }
@media (prefers-color-scheme: dark) { :root { --ink: #e8e6e1; --grey: #a3a8ad; --page: #17191c;
  --band: #24272b; --line: #3a3f45; --pass: #52c98a; --fail: #ff8a70; --unknown: #e5c04d } }
body { margin: 0; background: var(--page); color: var(--ink);
  font: 16px/1.5 system-ui, sans-serif }
main { max-width: 54rem; margin: 0 auto; padding: 1.5rem 1.25rem 4rem }
h1 { font-size: 1.5rem; margin: 0; overflow-wrap: anywhere }
h2 { font-size: 1.15rem; margin: 2.4rem 0 .5rem; border-top: 1px solid var(--line);
  padding-top: 1.1rem }
p { margin: .5rem 0; overflow-wrap: anywhere } .from { color: var(--grey) }
.strong { font-weight: 600; margin-top: 1.1rem }
.verdict { border-left: .35rem solid var(--tone); background: var(--band); padding: .7rem 1rem;
  margin: 1.1rem 0; border-radius: .25rem } .verdict b { color: var(--tone); font-size: 1.2rem }
.pass { --tone: var(--pass) } .fail { --tone: var(--fail) } .unknown { --tone: var(--unknown) }
.facts { display: flex; flex-wrap: wrap; gap: .6rem }
.facts div { flex: 1 1 8.5rem; background: var(--band); border-radius: .25rem;
  padding: .5rem .8rem }
.facts b { display: block; font-size: 1.3rem } .facts span { color: var(--grey);
  font-size: .85rem; line-height: 1.3; display: block }
figure { margin: .9rem 0 } figure img { width: 100% } figcaption { color: var(--grey);
  font-size: .85rem }
.wide { overflow-x: auto } table { border-collapse: collapse; font-size: .85rem; margin: .6rem 0;
  font-variant-numeric: tabular-nums }
summary { color: var(--grey); font-size: .85rem; cursor: pointer }
th, td { text-align: right; padding: .2rem .8rem .2rem 0; border-bottom: 1px solid var(--line);
  white-space: nowrap } th { color: var(--grey); font-weight: 500 } .word { text-align: left }
pre { background: var(--band); padding: .7rem .9rem; overflow-x: auto; border-radius: .25rem;
  font-size: .85rem } li { margin: .35rem 0 } a { color: inherit }
"""
_TOP = """<p class="from">The changed copy stands in {folder}.</p>
<div class="verdict {tone}"><b>{head}</b><p>{said}</p>
<p class="from"><a href="#section-{limited}">{limits}</a></p></div>
{facts}"""


@dataclass(frozen=True, eq=False)
class ScrubReport:
    """The report of a scrub; made by `scrub_report`. It shows itself in a notebook."""

    account: ScrubAccount

    @cached_property
    def pictures(self) -> dict[str, str]:
        """The pictures as SVG, by name; none without matplotlib."""
        from twinlens.show.scrub_figure import draw_curve, draw_deletion, svg_of

        account = self.account
        try:
            made = {f"{o.kind}s": svg_of(draw_deletion(o)) for o in account.deletions}
            return made | ({"curve": svg_of(draw_curve(account))} if account.entries else {})
        except MissingExtraError:
            return {}

    @cached_property
    def sections(self) -> list[Section]:
        """What stands below the headline."""
        return sections(self.account, self.pictures)

    def html(self) -> str:
        """One page that opens without a network, in light and dark; no script in it."""
        tone, head, said = headline(self.account)
        limited = [one.title for one in self.sections].index(LIMITS)
        top = _TOP.format(
            tone=tone, folder=escaped(str(self.account.folder)), head=escaped(head),
            said=escaped(said), limits=escaped(_LIMITS), limited=limited,
            facts=html_of(facts(self.account)),
        )  # fmt: skip
        return report_page(self._title, _STYLE, [top], self.sections)

    def markdown(self) -> str:
        """The same as Markdown; its pictures are files beside it."""
        _, head, said = headline(self.account)
        parts = [
            f"# {in_markdown(self._title)}",
            f"The changed copy stands in {in_markdown(str(self.account.folder))}.",
            f"**{in_markdown(head)}.** {in_markdown(said)} {in_markdown(_LIMITS)}",
            markdown_of(facts(self.account)),
        ]  # fmt: skip
        for one in self.sections:
            parts += [f"## {one.title}", *map(markdown_of, one.blocks)]
        return "\n\n".join(parts) + "\n"

    def save(self, folder: str | Path | None = None) -> Path:
        """Write report.html, and report.md with its pictures beside it, into a folder (default:
        that of the scrub). Returns the path of report.html.

        Raises `ResultFileError` where they cannot be written.
        """
        path = self.account.folder if folder is None else Path(folder)
        blocks = [block for one in self.sections for block in one.blocks]
        files = {block.name: block.svg for block in blocks if isinstance(block, Picture)}
        files |= {"report.md": self.markdown(), "report.html": self.html()}
        for name, text in files.items():
            with replacing(path / name) as temporary:
                temporary.write_text(text, encoding="utf-8")
        return path / "report.html"

    def to_dict(self) -> dict[str, Any]:
        """The numbers as plain lists, numbers and strings."""
        return self.account.to_dict()

    @property
    def _title(self) -> str:
        return f"Scrub of {self.account.model}"

    def _repr_html_(self) -> str:
        return framed(self.html())


def scrub_report(scrubbed: ScrubRun | str | Path) -> ScrubReport:
    """What a scrub did, for a person: what went and where, what it cost, and what it does not show.

    `scrubbed`: a run, or the folder of one, finished or not; no model is loaded. `.save()` writes
    `report.html` and `report.md` into the folder. Raises `ChangeError` for a folder that is none.
    """
    folder = scrubbed.folder if isinstance(scrubbed, ScrubRun) else scrubbed
    return ScrubReport(account_of(folder))
