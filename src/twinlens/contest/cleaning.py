"""Blue's own recipes: neurons that clean text hardly uses go, noise on the rest, then recovery.

What is hidden behind a trigger lies in weights that clean text does not need. Both steps damage
these first, in either order, and what clean text does need is trained back.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

from twinlens.change.change import Assigned, Change
from twinlens.change.noise import WeightNoise
from twinlens.change.silence import Silence
from twinlens.change.use import use_map
from twinlens.contest.blue import Blue
from twinlens.contest.chain import Step, in_a_row, lowest_first, silenced
from twinlens.contest.learn import recovering
from twinlens.errors import InputError
from twinlens.results.use import UseResult
from twinlens.see.texts import Text

_SUBTLE, _WILD = 1e-3, 2.0  # noise, relative to a matrix' own deviation


def cleaned(
    blue: Blue, steps: Sequence[str], recover: bool = False, *, by: str = "use"
) -> Assigned:
    """What the steps ("prune", "noise") do one after the other, each to the model as those before
    it leave it, as one `Change`.

    Without training all together cost at most `blue.cost` nats a token on the held-out text, each
    step an equal part; with `recover` it is `blue.dose`, and behind the last step the model is
    trained towards what it was (`tl.recover`, the whole budget). "prune" takes the neurons of the
    lowest score `by` (`UseResult.score`) on clean text. Raises `InputError` for a step or a score
    that is not known, and for no step.
    """
    known: Mapping[str, Callable[[Blue, float], Change]] = {
        "prune": partial(_prune, by=by), "noise": _noise,
    }  # fmt: skip
    if isinstance(steps, str) or not steps or any(step not in known for step in steps):
        raise InputError(f"steps={steps!r} must be a list of some of: {', '.join(known)}")
    whole = blue.dose if recover else blue.cost
    made: list[Step] = [
        partial(known[name], limit=whole * (n + 1) / len(steps)) for n, name in enumerate(steps)
    ]
    told = {"kind": "cleaning", "recipe": "+".join(steps), "within": whole}
    return in_a_row(blue, [*made, recovering(blue)] if recover else made, told)


def use_of(blue: Blue, text: Text, gradients: bool = False) -> UseResult:
    """The use map of a text, read as the budget says."""
    budget = blue.budget
    return use_map(
        blue.model, text, gradients=gradients, length=budget.length,
        batch_tokens=budget.batch_tokens, progress=blue.progress,
    )  # fmt: skip


def _prune(blue: Blue, limit: float, by: str) -> Silence:
    scores = use_of(blue, blue.shown, by == "effect").score(by)
    return silenced(blue, lowest_first(scores), limit, {"by": by})


def _noise(blue: Blue, limit: float) -> WeightNoise:
    def of(scale: float) -> WeightNoise:
        return WeightNoise(scale, blue.seed)

    scale, _ = blue.strongest(of, _SUBTLE, _WILD, limit)
    return of(scale)
