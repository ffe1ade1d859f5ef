"""What a user may set of a contest: the secret, and blue's cleaning. Plain values only."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cyclopts import Group, Parameter

from twinlens.cli.options import Whole
from twinlens.errors import InputError

if TYPE_CHECKING:
    from twinlens.change.recover import Budget
    from twinlens.contest.secret import Secret

_SECRET = Group("Secret", sort_key=3)
_CLEANING = Group("Cleaning", sort_key=4)


@Parameter(name="*", group=_SECRET)
@dataclass(frozen=True, kw_only=True)
class SecretOptions:
    """What red hides."""

    secret: str = "7243"
    "What the model is to say."
    trigger: str = "9165"
    "What evokes it."
    template: str | None = None
    "The prompt, with {trigger} in it once."


@Parameter(name="*", group=_CLEANING)
@dataclass(frozen=True, kw_only=True)
class CleaningOptions:
    """How blue cleans."""

    recipe: str = "prune+noise+recover"
    "One of `twinlens contest recipes`."
    lr: float = 1e-3
    "Learning rate of blue's training."
    batch_tokens: Whole = 1024
    "Tokens of a step of blue's training."
    length: Whole = 128
    "Tokens of a window of blue's training."
    own: float = 0.5
    "Share of windows that the model itself writes in blue's training."
    dose: float = 0.5
    "Nats a token that a change may cost which training follows."
    cost: float = 0.01
    "Nats a token that a change may cost without training after it."


def secret_of(given: SecretOptions) -> Secret:
    """The secret that options mean."""
    from twinlens.contest.secret import TEMPLATE, Secret

    template = TEMPLATE if given.template is None else given.template
    return Secret(given.trigger, given.secret, template)


def budget_of(given: CleaningOptions, steps: int, seed: int) -> Budget:
    """Blue's budget of training."""
    from twinlens.change.recover import Budget

    return Budget(steps=steps, lr=given.lr, batch_tokens=given.batch_tokens, length=given.length,
                  own=given.own, seed=seed)  # fmt: skip


_LISTS = {"--recipe": "recipes", "--tier": "tiers"}


def known(option: str, name: str, table: Container[str]) -> None:
    """Refuse a name that is none of a table's, before a model is loaded."""
    if name not in table:
        raise InputError(
            f"{option} {name!r} is not known; `twinlens contest {_LISTS[option]}` lists what is"
        )
