"""What a gate says of a changed model: pass, fail, or cannot tell, and the numbers behind it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from twinlens.results.storage import plain

Answer = Literal["pass", "fail", "cannot tell"]


@dataclass(frozen=True, kw_only=True)
class DomainVerdict:
    """One domain of a gate.

    `increase`: nats a token, all nats over all tokens, changed less original; `upper` and `lower`
    are its one-sided bounds. `before` and `after` are the losses themselves. `kl` is the mean
    KL(original || changed) in nats at `kl_positions` sampled positions (NaN with none), `flips` the
    share of tokens whose top-1 is another. `needed`: how many documents would probably decide,
    where these do not (None: none is known that would, or these did). `why` says it in words.
    """

    name: str
    verdict: Answer
    increase: float
    upper: float
    lower: float
    before: float
    after: float
    documents: int
    tokens: int
    kl: float
    kl_positions: int
    flips: float
    needed: int | None
    why: str


@dataclass(frozen=True, kw_only=True)
class TaskVerdict:
    """Cloze items: the share that each model answers right.

    `loss` is before less after, `upper` and `lower` its one-sided bounds, judged by `margin`.
    `lost` items were right and are wrong, `gained` the other way round.
    """

    verdict: Answer
    before: float
    after: float
    loss: float
    upper: float
    lower: float
    margin: float
    items: int
    lost: int
    gained: int
    needed: int | None
    why: str


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """Whether quality stayed, by the documents of each domain (and items of a task).

    `verdict` is "pass" where every upper bound is below its margin, "fail" where some lower bound
    is above it, else "cannot tell". `increase`, `upper` and `lower` are those of the worst domain,
    the one with the largest upper bound. `look` counts the looks at the gate text; `level` is what
    this one may spend of the chance of a false pass; `final` says whether the text was the final
    one. `original` and `changed` are hashes of weights.
    """

    verdict: Answer
    margin: float
    look: int
    level: float
    final: bool
    domains: tuple[DomainVerdict, ...]
    task: TaskVerdict | None
    original: str
    changed: str
    notes: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether the verdict is "pass"."""
        return self.verdict == "pass"

    @property
    def worst(self) -> DomainVerdict:
        """The domain with the largest upper bound."""
        return max(self.domains, key=lambda domain: (domain.upper, domain.increase))

    @property
    def increase(self) -> float:
        """Increase in nats a token of the worst domain."""
        return self.worst.increase

    @property
    def upper(self) -> float:
        """Upper bound of the increase of the worst domain."""
        return self.worst.upper

    @property
    def lower(self) -> float:
        """Lower bound of the increase of the worst domain."""
        return self.worst.lower

    @property
    def needed(self) -> int | None:
        """How many documents a domain would probably need to decide, at most; None where every
        domain decides or none is known that would do."""
        return max((d.needed for d in self.domains if d.needed is not None), default=None)

    def to_dict(self) -> dict[str, Any]:
        """All of it as plain lists, numbers and strings (None for "not a number" and infinity)."""
        told = {name: getattr(self, name) for name in ("passed", "increase", "upper", "lower")}
        return plain(self) | plain(told) | {"needed": self.needed}


def judged(lower: float, upper: float, margin: float) -> Answer:
    """The rule of non-inferiority: the interval against the margin."""
    if upper < margin:
        return "pass"
    return "fail" if lower > margin else "cannot tell"


def together(answers: Sequence[Answer]) -> Answer:
    """Of several answers: fail where one fails, pass where all pass."""
    if "fail" in answers:
        return "fail"
    return "pass" if all(answer == "pass" for answer in answers) else "cannot tell"
