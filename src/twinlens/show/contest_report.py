"""The report of a match: one HTML file that a person reads in five minutes."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from twinlens.errors import MissingExtraError
from twinlens.results.writing import replacing
from twinlens.show.blocks import Section, escaped, html_of
from twinlens.show.contest_account import MatchAccount, account_of_match
from twinlens.show.contest_page import card, page
from twinlens.show.contest_text import LIMITS, facts, sections
from twinlens.show.contest_words import VERDICT_COLOURS, headline, quality, uncounted
from twinlens.show.report_page import framed

_QUALITY_COLOURS = {"✓": "#0b62a4", "✗": "#b3240a", "?": "#7a4a86"}


@dataclass(frozen=True, eq=False)
class ContestReport:
    """The report of a match; made by `contest_report`. It shows itself in a notebook."""

    account: MatchAccount

    @cached_property
    def pictures(self) -> dict[str, str]:
        """The pictures as SVG, by name; none without matplotlib."""
        from twinlens.show.contest_figure import pictures

        try:
            return pictures(self.account)
        except MissingExtraError:
            return {}

    @cached_property
    def sections(self) -> list[Section]:
        """What stands below the headline."""
        return sections(self.account, self.pictures)

    def html(self) -> str:
        """One page that opens without a network; no script in it."""
        sign, name, meaning, why = headline(self.account)
        mark, said, numbers = quality(self.account)
        limits = [one.title for one in self.sections].index(LIMITS)
        cards = card(
            VERDICT_COLOURS[self.account.verdict], f"{sign} {name}",
            [meaning, f"The referee: {why}." if why else "", uncounted(self.account)],
        ) + card(_QUALITY_COLOURS[mark], f"{mark} {said}", [numbers])  # fmt: skip
        told = f'Read what it does not show: <a href="#section-{limits}">{escaped(LIMITS)}</a>.'
        top = [
            f'<div class="cards">{cards}</div>', html_of(facts(self.account)),
            f'<p class="from">{told}</p>',
        ]  # fmt: skip
        return page(self._title, top, self.sections)

    def save(self, path: str | Path | None = None) -> Path:
        """Write the page, whole or not at all (default: report.html in the folder of the match).

        Returns its path. Raises `ResultFileError` where it cannot be written.
        """
        target = self.account.folder / "report.html" if path is None else Path(path)
        with replacing(target) as temporary:
            temporary.write_text(self.html(), encoding="utf-8")
        return target

    @property
    def _title(self) -> str:
        return f"A match: {self.account.recipe} against a secret hidden by “{self.account.tier}”"

    def _repr_html_(self) -> str:
        return framed(self.html())


def contest_report(folder: str | Path) -> ContestReport:
    """What became of a hidden secret, for a person: who hid what, what was done, what is left.

    `folder`: that of a match; no model is loaded, and what is missing there is left out and said to
    be. `.save()` writes `report.html` into it. Raises `ChangeError` where there is no judgement.
    """
    return ContestReport(account_of_match(folder))
