"""Blue: what it has to clean a model with, and how strong a change may be.

Blue knows neither trigger nor secret. It has the weights, clean text, and a budget of training;
how strong a change may be it measures on text that it held out.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from twinlens.change.change import Change, changed
from twinlens.change.losses import Passages, mean_loss, passages_of
from twinlens.change.recover import Budget
from twinlens.errors import ChangeError, InputError
from twinlens.model.model import Model
from twinlens.run.batches import Progress
from twinlens.see.texts import Text, documents, windows

_LENGTH = 128  # tokens of a window
_EVERY = 4  # one document of so many is held out
_HALVINGS = 6


@dataclass(frozen=True, eq=False)
class Blue:
    """What a recipe has: the implanted `model`, clean `text` (every fourth document is held out),
    a `budget` of training, and how much quality a change may cost.

    `cost`: nats a token on the held-out text, of a change without training after it. `dose`: the
    same of a change that training follows. `seed` draws what is drawn.
    """

    model: Model
    text: Text
    budget: Budget = field(default_factory=Budget)
    cost: float = 0.01
    dose: float = 0.5
    seed: int = 1
    progress: Progress = None

    def __post_init__(self) -> None:
        if len(documents(self.text)) < _EVERY:
            raise InputError(f"blue needs {_EVERY} documents of clean text at least")

    @cached_property
    def shown(self) -> list[str]:
        """The documents to score and train on."""
        return [one for n, one in enumerate(documents(self.text)) if n % _EVERY != _EVERY - 1]

    @cached_property
    def held_out(self) -> Passages:
        """The windows of the documents on which strengths are chosen."""
        kept = documents(self.text)[_EVERY - 1 :: _EVERY]
        return passages_of(windows(self.model, kept, min(_LENGTH, self.model.context or _LENGTH)))

    def loss(self) -> float:
        """Nats a token of the model, as it is now, on the held-out text."""
        return mean_loss(self.model, self.held_out, self.budget.batch_tokens)

    @cached_property
    def before(self) -> float:
        """Nats a token of the model as blue was given it."""
        return self.loss()

    def strongest(
        self, change_of: Callable[[float], Change], weakest: float, most: float, cost: float
    ) -> tuple[float, Change]:
        """The strongest change that costs at most `cost` nats a token, by halving between two
        strengths on a log scale, and its strength. The weakest is taken where none will do."""
        low, high = np.log(weakest), np.log(most)
        best = (weakest, change_of(weakest))
        before = self.before
        for _ in range(_HALVINGS):
            middle = (low + high) / 2
            tried = change_of(float(np.exp(middle)))
            try:
                with changed(self.model, tried):
                    fits = self.loss() - before <= cost
            except ChangeError:
                fits = False
            if fits:
                low, best = middle, (float(np.exp(middle)), tried)
            else:
                high = middle
        return best
