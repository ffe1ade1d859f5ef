"""From numbers to an answer: bounds against the margin, and how much text would do."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool

from twinlens.change.bounds import (
    Paired,
    both_bounds,
    documents_needed,
    least_documents,
)
from twinlens.change.cloze import judge
from twinlens.change.recorded import After, GateSettings, Recorded
from twinlens.change.verdict import Answer, DomainVerdict, TaskVerdict, judged


@dataclass(frozen=True)
class Rules:
    """How numbers become an answer: a pass needs every domain, so each may use the whole level; a
    failure needs one, so they share it.

    `later` is the level of the next look, `parts` the number of domains and tasks, `same` says that
    the weights are the original's.
    """

    settings: GateSettings
    level: float
    later: float
    parts: int
    same: bool

    @property
    def lower_level(self) -> float:
        """The level of a lower bound, so that all of them together keep the level."""
        return self.level / self.parts

    def domain(self, name: str, before: Recorded, after: After) -> DomainVerdict:
        """The verdict on one domain."""
        tokens = before.passages.tokens
        pairs = Paired(
            (after.losses.nats - before.losses.nats)[None], tokens[None].astype(np.float64)
        )
        lower, upper = both_bounds(pairs, self.lower_level, self.level, self.settings.seed)
        answer, needed, why = self._answer(pairs, lower, upper)
        total = int(tokens.sum())
        return DomainVerdict(
            name=name, verdict=answer, increase=float(pairs.increase[0]), upper=upper, lower=lower,
            before=float(before.losses.nats.sum() / total),
            after=float(after.losses.nats.sum() / total), documents=pairs.n, tokens=total,
            kl=after.kl, kl_positions=len(before.sample),
            flips=float((before.losses.top != after.losses.top).mean()), needed=needed, why=why,
        )  # fmt: skip

    def task(
        self, before: Bool[np.ndarray, " item"], after: Bool[np.ndarray, " item"]
    ) -> TaskVerdict:
        """The verdict on the items that were right before, and are after."""
        return judge(
            before, after, self.settings.items_margin, self.level, self.lower_level, self.later,
            self.same,
        )  # fmt: skip

    def _answer(self, pairs: Paired, lower: float, upper: float) -> tuple[Answer, int | None, str]:
        margin, least = self.settings.margin, least_documents(self.level, self.settings.rare)
        answer = judged(lower, upper, margin)
        if self.same:
            return "pass", None, "the weights are the original's"
        few = pairs.n < least
        if answer != "cannot tell" and not few:
            return answer, None, ""
        needed = self._needed(pairs, lower, upper)
        enough = f"about {needed:,} documents would do" if needed else "no text is known to do"
        if few:
            said = f"{pairs.n} documents are fewer than the {least} that a verdict takes"
        else:
            said = "the bounds lie on both sides of the margin"
        return "cannot tell", needed, f"{said}; {enough}"

    def _needed(self, pairs: Paired, lower: float, upper: float) -> int | None:
        """How many documents would do at the next look, never fewer than a verdict takes then."""
        least = least_documents(self.later, self.settings.rare)
        if pairs.n < 2 or not pairs.error[0] > 0:
            return least
        below = pairs.increase[0] < self.settings.margin
        bound, level = (upper, self.level) if below else (lower, self.lower_level)
        later = self.later if below else self.later / self.parts
        found = documents_needed(pairs, bound, level, later, self.settings.margin)
        return None if found is None else max(found, least)
