"""What the page asks of runs, and what it is told of them, as types with limits."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field

Kept: TypeAlias = Literal["any", "known", "unknown", "measured", "failed"]
SortedBy: TypeAlias = Literal[
    "fact", "prompt", "subject", "answer", "said", "status", "probability", "clean", "corrupted",
    "effect",
]  # fmt: skip
MOST_FACTS = 2**31 - 1


class FactQuery(BaseModel):
    """Which facts of a run, in which order.

    `search` is looked for in prompt, subject, answers and id, whatever the case. `status`: `known`
    and `unknown` to the model, `measured` (those that have grids), `failed`. `effect` is the total
    effect: clean less corrupted. Facts without a number come last.
    """

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    search: Annotated[str, Field(max_length=200)] = ""
    status: Kept = "any"
    sort: SortedBy = "fact"
    descending: bool = False
    offset: Annotated[int, Field(ge=0, le=MOST_FACTS)] = 0
    limit: Annotated[int, Field(ge=1, le=500)] = 100


class FactRow(BaseModel):
    """A fact in the list. `known` is null where the data set does not say what is right.

    `answer` is the token that was traced, `said` what the model says; both are labels.
    """

    fact: int
    id: str
    status: Literal["measured", "unknown", "failed"]
    known: bool | None
    reason: str | None
    prompt: str
    subject: str
    answer: str | None
    said: str | None
    probability: float | None
    clean: float | None
    corrupted: float | None


class FactPage(BaseModel):
    """Some facts in order; `total` is how many there are on all pages."""

    total: int
    offset: int
    facts: list[FactRow]


class RunInfo(BaseModel):
    """A run: of which model and data set, how far it is; `problem` where it cannot be read.

    `facts` is how many the data set has, `done` how many of them are done, `begun` a time in UTC.
    `served` is the name of a model with the same weights that can be asked here.
    """

    name: str
    model: str
    data: str
    facts: int
    done: int
    measured: int
    known: int
    unknown: int
    failed: int
    begun: str
    served: str | None
    problem: str | None


class RunList(BaseModel):
    """The runs that the server was started with."""

    runs: list[RunInfo]
