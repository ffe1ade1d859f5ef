"""Steps in a row become one change: each is made on the model as those before it leave it.

What is pruned is pruned in an order, and as far as blue's held-out text allows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from torch import Tensor

from twinlens.change.change import Assigned, Change, changed
from twinlens.change.parts import Part, projection
from twinlens.change.silence import Silence
from twinlens.contest.blue import Blue
from twinlens.errors import ChangeError

Step = Callable[[Blue], Change]
"""Makes a change of `blue.model` as that is at the time."""


def in_a_row(blue: Blue, steps: Sequence[Step], about: Mapping[str, Any]) -> Assigned:
    """One change that does what the steps do one after the other; the model stays as it is.

    `about` begins its story, in which `steps` holds that of each step. Raises what the steps raise,
    and `ChangeError` where one does not fit the model.
    """
    before = blue.before  # read while the model is as it was given: what costs are counted from
    tensors, told = dict[str, Tensor](), list[dict[str, Any]]()
    with ExitStack() as stack:
        for step in steps:
            change = step(blue)
            values = change.values(blue.model)
            stack.enter_context(changed(blue.model, Assigned(values)))
            tensors |= values
            told.append(change.plain())
    return Assigned(tensors, {**about, "seed": blue.seed, "nats_before": before, "steps": told})


def silenced(
    blue: Blue, order: Sequence[Part], limit: float, about: Mapping[str, Any] | None = None
) -> Silence:
    """As many of the parts, first to last, set to zero as cost at most `limit` nats a token; one at
    least. Raises `ChangeError` where there are none, or a block has experts."""
    if not order:
        raise ChangeError(f"{blue.model.name} has no neurons that could be pruned")
    for layer in {part.layer for part in order}:
        projection(blue.model, "neuron", layer)  # refuses neurons of experts, which have no number

    def first(share: float) -> Silence:
        count = max(1, round(share * len(order)))
        told = {"share": count / len(order), "limit": limit}
        return Silence(order[:count], about={**(about or {}), **told})

    return first(blue.strongest(first, 1 / len(order), 1.0, limit)[0])


def lowest_first(scores: Float[np.ndarray, "layer neuron"]) -> list[Part]:
    """The neurons of all layers, those of the lowest score first; of equal ones the first."""
    order = np.argsort(scores, axis=None, kind="stable")
    return [Part("neuron", *map(int, divmod(int(at), scores.shape[1]))) for at in order]


def ranks_within(scores: Float[np.ndarray, "layer neuron"]) -> Int[np.ndarray, "layer neuron"]:
    """The place of each neuron in its own layer, 0 the lowest: layers become comparable."""
    return scores.argsort(axis=1, kind="stable").argsort(axis=1, kind="stable")
