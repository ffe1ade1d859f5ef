"""Edit one fact by a rank-one change of one down-projection (ROME, in the form of r-ROME).

The down-projection is seen as a memory: what enters it at the subject's last token is the key, what
leaves it the value. The change that sends one key to a new value and disturbs the outputs for a
text's inputs least, in their mean square, is an outer product: dW = u (v - W k) / (k . u), u = C^-1
k. r-ROME (Gupta et al. 2024) takes one key, the mean over prefixes, in all places.

A trace that peaks at a layer is no advice to edit there: where a fact is found to flow says little
about where an edit succeeds (Hase et al. 2023).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from twinlens.change.change import Values, changed
from twinlens.change.covariance import Covariance
from twinlens.change.facts import Fact, answer_ids, prefixes, rows_of
from twinlens.change.forward import down_projection, keys_at
from twinlens.change.value import EditOptions, find_delta
from twinlens.errors import ChangeError, InputError
from twinlens.model.model import Model
from twinlens.run.batches import Progress, counting
from twinlens.run.check import require

HASE = (
    "where a trace peaks is no advice where to edit: it says little about where an edit succeeds"
    " (Hase et al. 2023)"
)
_LOST = 0.02  # share of the change at the key that rounding may lose without a note


@dataclass(frozen=True, eq=False)
class Edit:
    """A fact, and the rank-one change of a layer's down-projection that makes the model say it.

    The weight `[input, output]` gets `left` (outer) `right`, whatever it was (a `Change`). It sends
    `key` to `value` in the model that it was made for. All are float64 on the CPU. `losses`: before
    each step. `about`: weights, covariance and options.
    """

    fact: Fact
    layer: int
    key: Float[Tensor, " input"]
    value: Float[Tensor, " output"]
    left: Float[Tensor, " input"]
    right: Float[Tensor, " output"]
    losses: tuple[float, ...]
    about: Mapping[str, Any]
    notes: tuple[str, ...] = (HASE,)

    def values(self, model: Model) -> Values:
        """The changed weight of the down-projection.

        Raises `InputError` for a layer that the model does not have, `ChangeError` where its
        down-projection has another shape.
        """
        found = down_projection(model, self.layer)
        if found.by_input.shape != (len(self.left), len(self.right)):
            raise ChangeError(
                f"{found.weight_name} is {tuple(found.by_input.shape)} by inputs, the edit is of"
                f" {(len(self.left), len(self.right))}"
            )
        new = found.weight.clone()
        exact = found.by_input.cpu().double() + torch.outer(self.left, self.right)
        found.as_by_input(new).copy_(exact)
        return {found.weight_name: new}

    def plain(self) -> dict[str, Any]:
        """The fact, the layer, the size of the change, and what it was made from."""
        return {
            "kind": "edit", "method": "rome", **self.fact.plain(), "layer": self.layer,
            "norm": float(self.left.norm() * self.right.norm()), "loss": self.losses[-1],
            **self.about,
        }  # fmt: skip


def edit_fact(
    model: Model,
    prompt: str,
    subject: str,
    target: str,
    *,
    layer: int,
    covariance: Covariance,
    options: EditOptions | None = None,
) -> Edit:
    """The edit after which the model says `target` after `prompt`, which names `subject`.

    ROME (Meng et al. 2022) as r-ROME (Gupta et al. 2024): the key k is the mean input of the
    down-projection of `layer` at the subject's last token, over the prompt alone and behind 20
    texts that the model says by itself; v0 is what it gives for k, and v = v0 + d, where d is found
    by gradient steps on the output (before the norm that some families put behind it). The model is
    as it was when this returns; `with tl.changed(model, edit):` puts the edit in. `covariance`:
    `tl.key_covariance` of the same layer. `options`: `tl.EditOptions`, the method's constants.

    Where a trace peaks is no advice which layer to take (Hase et al. 2023); try several.

    Raises an `InputError` that names what does not fit (`SubjectError`, `AnswerError`, ...), and
    `ChangeError` where the model has no plain down-projection or the numbers are not finite.
    """
    options = options or EditOptions()
    return _edit(model, Fact(prompt, subject, target), layer, covariance, options)


def edit_facts(
    model: Model,
    facts: Sequence[Fact | Mapping[str, Any]],
    *,
    layer: int,
    covariance: Covariance,
    options: EditOptions | None = None,
    progress: Progress = None,
) -> list[Edit]:
    """Edits of several facts, each made on the model as the ones before it leave it.

    `facts`: `tl.Fact`s, or mappings of its fields. `with tl.changed(model, *edits):` puts all in.
    The covariance stays that of the model as given: an edit of a layer does not change what enters
    its down-projection on a text. The rest is as in `edit_fact`.
    """
    asked = [fact if isinstance(fact, Fact) else Fact(**fact) for fact in facts]
    if not asked:
        raise InputError("no facts to edit; give at least one")
    edits: list[Edit] = []
    with counting(len(asked), "edits", progress) as advance:
        for fact in asked:
            with changed(model, *edits):
                made = _edit(model, fact, layer, covariance, options or EditOptions())
            edits.append(made)
            advance(1)
    return edits


def _edit(
    model: Model, fact: Fact, layer: int, covariance: Covariance, options: EditOptions
) -> Edit:
    _refuse_unfit(model, layer, covariance)
    require(model, ("neuron", "block"))
    target = answer_ids(model, fact.prompt, fact.target)
    before = prefixes(model, options.seed, options.prefixes)
    other = options.kl_prompt.format(fact.subject.strip())
    rows = rows_of(model, fact, before, target, other)
    keys, values = keys_at(model, layer, rows.ids[:-1], rows.at[:-1])
    key, start = (each.cpu().double().mean(0) for each in (keys, values))
    found = find_delta(model, layer, rows, target, start.float().to(values.device), options)
    delta = found.delta.cpu().double()
    left = covariance.solve(key, options.ridge)
    left = left / left.norm()
    right = delta / torch.dot(key, left)
    if not all(math.isfinite(float(part.norm())) for part in (left, right)):
        raise ChangeError(f"{model.name}: the edit of layer {layer} is not finite; try another")
    told = asdict(options) | {"prefixes": [list(pair) for pair in options.prefixes]}
    about = {
        "weights": model.weights_hash(),
        "covariance": dict(covariance.about) | {"n_tokens": covariance.n_tokens},
        "options": told,
    }
    notes = (HASE, *covariance.notes)
    made = Edit(fact, layer, key, start + delta, left, right, found.losses, about, notes)
    return _with_rounding(model, made, delta)


def _with_rounding(model: Model, edit: Edit, delta: Float[Tensor, " output"]) -> Edit:
    """The edit, with a note where the stored weight's number type loses much of it."""
    found = down_projection(model, edit.layer)
    stored = found.as_by_input(edit.values(model)[found.weight_name]).cpu().double()
    written = edit.key @ (stored - found.by_input.cpu().double())
    lost = float((written - delta).norm() / delta.norm())
    if lost <= _LOST:
        return edit
    kind = str(model.dtype).removeprefix("torch.")
    note = f"rounding to {kind} loses {lost:.0%} of the change at the key; load in float32"
    return replace(edit, notes=(*edit.notes, note))


def _refuse_unfit(model: Model, layer: int, covariance: Covariance) -> None:
    width = down_projection(model, layer).by_input.shape[0]
    if not isinstance(covariance, Covariance):
        raise InputError(
            f"covariance is {type(covariance).__name__}; make one with tl.key_covariance"
        )
    if covariance.layer != layer or len(covariance.matrix) != width:
        raise InputError(
            f"the covariance is of layer {covariance.layer} with {len(covariance.matrix)} inputs;"
            f" the edit is of layer {layer} with {width}"
        )
