"""Units of work to tables: the one place where a sweep measures.

A unit's numbers are those of the calls that a user would make for its prompt alone, to the last
bit, whatever the order, the number of workers, and who else is in the sweep. Where facts share
passes, as `share` asks, that holds to rounding.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from twinlens.errors import CorruptionError, InputError
from twinlens.model.model import Model
from twinlens.model.spans import subject_mask
from twinlens.results import Tokens
from twinlens.run.batches import free_memory, is_out_of_memory
from twinlens.run.check import require
from twinlens.run.passes import Inputs, read
from twinlens.sweep.facts import Fact
from twinlens.sweep.measures import Asked, measured
from twinlens.sweep.plan import Plan, Unit, computing
from twinlens.sweep.tables import part

Status = Literal["measured", "unknown", "failed"]


@dataclass(frozen=True)
class Made:
    """A unit that is done: its rows (an Arrow table of one row) and how it went."""

    key: str
    number: int
    status: Status
    known: bool | None
    table: Any


def run(model: Model, units: Sequence[Unit], plan: Plan) -> Iterator[Made]:
    """Measure units, with the plan's number of threads.

    A fact that this model cannot be asked (too long, a counterfactual of another length) is a unit
    that `failed`, with the reason; other errors are raised.
    """
    for group in plan.groups(units):
        with computing(int(plan.resolved["threads"])), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # notes stand in the table
            done = _measure(model, group, plan)
        yield from done


@dataclass
class _Begun:
    """A unit on its way: its row of the table of facts, and what is still to be measured."""

    unit: Unit
    row: dict[str, Any]
    status: Status = "failed"
    known: bool | None = None
    asked: Asked | None = None
    tables: dict[str, Any] = field(default_factory=dict[str, Any])

    def failed(self, error: InputError) -> None:
        """The fact cannot be asked."""
        self.status, self.asked = "failed", None
        self.row["reason"] = " ".join(str(error).split())

    def made(self) -> Made:
        """The unit as it is kept."""
        self.row |= {"status": self.status, "known": self.known}
        tables = self.tables | {"facts": {name: [value] for name, value in self.row.items()}}
        return Made(self.unit.key, self.unit.fact.number, self.status, self.known, part(tables))


def _measure(model: Model, group: Sequence[Unit], plan: Plan) -> list[Made]:
    begun = [_begin(model, unit, plan) for unit in group]
    todo = [one for one in begun if one.asked is not None]
    try:
        _finish(model, todo, plan)
    except Exception as error:
        if len(todo) < 2 or not (isinstance(error, InputError) or is_out_of_memory(error)):
            raise
        free_memory()
        for one in todo:  # one of them alone is the reason
            _finish(model, [one], plan)
    return [one.made() for one in begun]


def _begin(model: Model, unit: Unit, plan: Plan) -> _Begun:
    """Encode the fact, and ask the model whether it knows it."""
    fact, names = unit.fact, ("id", "prompt", "subject", "answer", "counterfactual")
    row: dict[str, Any] = {"fact": fact.number, "key": unit.key}
    begun = _Begun(unit, row | {name: getattr(fact, name) for name in names})
    try:
        if plan.settings.corruption == "counterfactual" and fact.counterfactual is None:
            raise CorruptionError("the row has no counterfactual")
        tokens = model.encode(fact.prompt)
        mask = subject_mask(tokens, fact.subject, len(tokens) - 1)
        prediction = predict(model, tokens, fact)
    except InputError as error:
        begun.failed(error)
        return begun
    begun.known, begun.status = prediction.known, "unknown"
    begun.row |= prediction.columns(model) | {"n_tokens": len(tokens), "focus": len(tokens) - 1}
    if begun.known is not False or plan.settings.unknown:
        begun.asked = Asked(fact, tokens, mask, prediction.answer)
    return begun


def _finish(model: Model, todo: Sequence[_Begun], plan: Plan) -> None:
    """Measure facts together. Raises `InputError` where one of several cannot be asked."""
    if not todo:
        return
    try:
        found = measured(model, [one.asked for one in todo if one.asked], plan)
    except InputError as error:
        if len(todo) > 1:
            raise
        todo[0].failed(error)
        return
    for one, (tables, about) in zip(todo, found, strict=True):
        one.status, one.tables = "measured", tables
        one.row |= about


@dataclass(frozen=True)
class Prediction:
    """What the model says at the focus, and whether that is the fact's answer."""

    predicted: int
    answer: int
    probability: float  # of the answer
    known: bool | None  # None: the data set does not say what is right

    def columns(self, model: Model) -> dict[str, Any]:
        """As columns of the table of facts."""
        return {
            "predicted_id": self.predicted,
            "predicted_label": model.label(self.predicted),
            "answer_id": self.answer,
            "answer_label": model.label(self.answer),
            "probability": self.probability,
        }


def predict(model: Model, tokens: Tokens, fact: Fact) -> Prediction:
    """Does the model know the fact: does it put out all tokens of the answer, one by one, greedily?

    For an answer of one token that is ROME's test; ROME leaves out longer ones. The answer that is
    traced is the first of them, or the model's own prediction where the data set has none.
    """
    require(model, ["embed"])
    ids = torch.from_numpy(tokens.ids)
    logits = _logits(model, ids)
    predicted = int(logits.argmax())
    if fact.answer is None:
        return Prediction(predicted, predicted, float(logits.softmax(-1)[predicted]), None)
    expected = answer_ids(model, tokens, fact.answer)
    known, more = predicted == expected[0], ids
    for before, after in pairwise(expected):
        if known:
            more = torch.cat([more, torch.tensor([before])])
            known = int(_logits(model, more).argmax()) == after
    probability = float(logits.softmax(-1)[expected[0]])
    return Prediction(predicted, expected[0], probability, known)


def answer_ids(model: Model, tokens: Tokens, answer: str) -> list[int]:
    """The tokens of an answer as it goes on from the prompt (after a space, unless one is there).

    Raises `InputError` where it has none.
    """
    text = tokens.text
    glue = "" if text[-1:].isspace() or answer[:1].isspace() else " "
    special = bool(tokens.special.any())
    whole = model.encode(text + glue + answer, special=special).ids.tolist()
    n = len(tokens)
    if whole[:n] == tokens.ids.tolist() and len(whole) > n:
        return whole[n:]
    return model.encode(glue + answer, special=False).ids.tolist()


def _logits(model: Model, ids: Tensor) -> Float[Tensor, " vocab"]:
    return read(model, Inputs(ids[None]), []).logits[0]
