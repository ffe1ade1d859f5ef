"""The recipes by name: what blue may do to a model, one line each."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from twinlens.change.change import Assigned
from twinlens.change.recover import Budget
from twinlens.change.weights import By
from twinlens.contest.adversarial import adversarially_pruned, consistent
from twinlens.contest.anneal import annealed
from twinlens.contest.baselines import (
    fine_pruned,
    fine_tuned,
    pruned_weights,
    rounded,
    shrunk_and_perturbed,
)
from twinlens.contest.blue import Blue
from twinlens.contest.chain import in_a_row
from twinlens.contest.cleaning import cleaned
from twinlens.errors import InputError
from twinlens.model.model import Model
from twinlens.run.batches import Progress
from twinlens.see.question import whole
from twinlens.see.texts import Text


@dataclass(frozen=True)
class Cleaning:
    """A way to clean a model: what it is, in a line; what makes the change; whether it trains."""

    about: str
    make: Callable[[Blue], Assigned]
    trains: bool


def clean(
    model: Model,
    text: Text,
    recipe: str = "noise+recover",
    *,
    budget: Budget | None = None,
    cost: float = 0.01,
    dose: float = 0.5,
    seed: int = 1,
    progress: Progress = None,
) -> Assigned:
    """The change that a recipe makes of a model from clean text alone; the model stays as it is.

    `recipe`: a name in `RECIPES`. `text`: a file, "hamlet" or documents, four at least; every
    fourth is held out to choose strengths on. `budget`: of training (default: `Budget(seed=seed)`).
    `cost`, `dose`: nats a token on the held-out text that a change may cost, without training after
    it and with. `seed` draws what is drawn.

    Raises `InputError` for an unknown recipe, for settings that cannot be and too little text;
    `ChangeError` where the recipe does not fit the model or training leaves the finite numbers.
    """
    refuse_unfit(recipe, cost, dose)
    whole("seed", seed, 0)
    budget = budget or Budget(seed=seed)
    return RECIPES[recipe].make(Blue(model, text, budget, cost, dose, seed, progress))


def refuse_unfit(recipe: str, cost: float, dose: float) -> None:
    """Raises `InputError` for what `clean` would refuse, before anything is made."""
    if recipe not in RECIPES:
        raise InputError(f"recipe={recipe!r} is not known; choose one of {', '.join(RECIPES)}")
    for name, value in (("cost", cost), ("dose", dose)):
        if not isinstance(value, int | float) or not 0 < value < math.inf:
            raise InputError(f"{name}={value!r} must be a positive number, in nats a token")


def _nothing(blue: Blue) -> Assigned:
    return in_a_row(blue, [], {"kind": "cleaning", "recipe": "none"})


def _steps(name: str) -> Cleaning:
    """`prune`, `noise+prune`, `prune+recover`, ..."""
    steps = name.split("+")
    recover = steps[-1] == "recover"
    did = steps[:-1] if recover else steps
    said = " then ".join(_SAID[step] for step in did)
    return Cleaning(
        f"{said}, then distillation" if recover else said,
        lambda blue: cleaned(blue, did, recover),
        recover,
    )


def _weights(by: By) -> Cleaning:
    rule = {"random": "drawn", "magnitude": "the smallest", "wanda": "by Wanda on clean text"}[by]
    return Cleaning(
        f"single weights set to zero, {rule}", lambda blue: pruned_weights(blue, by), False
    )


def _rounded(bits: int) -> Cleaning:
    return Cleaning(
        f"every matrix rounded to {bits} bits, a scale for each output",
        lambda blue: rounded(blue, bits),
        False,
    )


_SAID = {
    "prune": "neurons that clean text uses least set to zero",
    "noise": "Gaussian noise on every matrix",
}
_OWN = ("prune", "noise", "prune+noise", "noise+prune")

RECIPES: Mapping[str, Cleaning] = {
    "none": Cleaning("nothing", _nothing, False),
    **{name: _steps(name) for name in _OWN},
    **{name: _steps(name) for name in (f"{own}+recover" for own in _OWN)},
    "fine-tune": Cleaning("training on the next tokens of clean text", fine_tuned, True),
    "random-weights": _weights("random"),
    "magnitude": _weights("magnitude"),
    "wanda": _weights("wanda"),
    "fine-pruning": Cleaning(
        "neurons least active on clean text set to zero, then training", fine_pruned, True
    ),
    "anp": Cleaning(
        "adversarial neuron pruning: neurons that harm a disturbed model set to zero",
        adversarially_pruned,
        True,
    ),
    "crow": Cleaning(
        "training for consistency between blocks, embeddings disturbed", consistent, True
    ),
    "int8": _rounded(8),
    "int4": _rounded(4),
    "shrink-perturb": Cleaning(
        "every matrix shrunk, noise on it, then distillation", shrunk_and_perturbed, True
    ),
    "anneal": Cleaning(
        "noise and decay at every step while it learns from text that it wrote itself",
        annealed,
        True,
    ),
}
"""Name -> recipe. All are blind: they know clean text, not the trigger."""
