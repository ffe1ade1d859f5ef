"""Units of work to tables: the one place where a sweep measures.

Every unit is measured alone, by the calls that a user would make for one prompt, so its numbers are
theirs to the last bit, whatever the order, the number of workers, and who else is in the sweep.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from twinlens.errors import CorruptionError, InputError
from twinlens.model.model import Model
from twinlens.model.spans import subject_mask
from twinlens.results import Tokens
from twinlens.run.check import require
from twinlens.run.passes import Inputs, read
from twinlens.sweep.facts import Fact
from twinlens.sweep.measures import measured
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
    """Measure units one after the other, with the plan's number of threads.

    A fact that this model cannot be asked (too long, a counterfactual of another length) is a unit
    that `failed`, with the reason; other errors are raised.
    """
    for unit in units:
        with computing(int(plan.resolved["threads"])), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # notes stand in the table
            done = _measure(model, unit, plan)
        yield done


def _measure(model: Model, unit: Unit, plan: Plan) -> Made:
    fact = unit.fact
    facts: dict[str, Any] = {
        "fact": fact.number,
        "key": unit.key,
        **{n: getattr(fact, n) for n in ("id", "prompt", "subject", "answer", "counterfactual")},
    }
    tables: dict[str, Any] = {}
    known: bool | None = None
    status: Status = "failed"
    try:
        if plan.settings.corruption == "counterfactual" and fact.counterfactual is None:
            raise CorruptionError("the row has no counterfactual")
        tokens = model.encode(fact.prompt)
        mask = subject_mask(tokens, fact.subject, len(tokens) - 1)
        prediction = predict(model, tokens, fact)
        known = prediction.known
        facts |= prediction.columns(model) | {"n_tokens": len(tokens), "focus": len(tokens) - 1}
        status = "unknown"
        if known is not False or plan.settings.unknown:
            tables, more = measured(model, tokens, mask, fact, prediction.answer, plan)
            facts |= more
            status = "measured"
    except InputError as error:
        tables, status, facts["reason"] = {}, "failed", " ".join(str(error).split())
    facts |= {"status": status, "known": known}
    tables["facts"] = {name: [value] for name, value in facts.items()}
    return Made(unit.key, fact.number, status, known, part(tables))


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
