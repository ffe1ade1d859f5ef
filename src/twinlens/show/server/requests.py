"""What the page asks and what it is told, as types with limits; OpenAPI is made from them."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Any, Literal, TypeAlias, get_type_hints

from pydantic import BaseModel, ConfigDict, Field, create_model

from twinlens.see.look import LookSettings

MOST_CHARACTERS = 20_000

_Text: TypeAlias = Annotated[str, Field(max_length=1_000)]
_Prompt: TypeAlias = Annotated[str, Field(max_length=MOST_CHARACTERS)]
_Index: TypeAlias = Annotated[int, Field(ge=-(10**6), le=10**6)]
_Named: TypeAlias = _Text | _Index
_Count: TypeAlias = Annotated[int, Field(ge=0, le=10**6, strict=True)]
_Span: TypeAlias = Annotated[tuple[_Count, _Count], Field(strict=False)]
_Positive: TypeAlias = Annotated[float, Field(gt=0)]
_Kind: TypeAlias = Literal["block", "mlp", "attn", "head"]
_LIMITED: dict[str, Any] = {
    "prompt": Annotated[str, Field(min_length=1, max_length=MOST_CHARACTERS)],
    "subject": Annotated[list[_Text], Field(max_length=32)],
    "subject_tokens": Annotated[list[_Span], Field(max_length=32)],
    "focus": Annotated[_Named | None, Field()],
    "answer": Annotated[_Named | None, Field()],
    "kinds": Annotated[list[_Kind], Field(max_length=4)],
    "window": Annotated[int, Field(ge=1, le=1_000)],
    "foil": Annotated[_Named | None, Field()],
    "batch_tokens": Annotated[int, Field(ge=1, le=2**20)],
    "sigma": Annotated[_Positive | None, Field()],
    "times_std": _Positive,
    "samples": Annotated[int, Field(ge=1, le=100)],
    "seed": Annotated[int, Field(ge=0, lt=2**32)],
    "df": _Positive,
    "counterfactual": Annotated[_Prompt | None, Field()],
    "replace": Annotated[list[_Text], Field(max_length=32)],
    "restored_cells": Annotated[list[_Text], Field(max_length=16)],
    "top_k": Annotated[int, Field(ge=1, le=50)],
    "targets": Annotated[list[_Named], Field(max_length=16)],
}


class Request(BaseModel):
    """About which model something is asked."""

    model_config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)

    model: _Text


def _fields() -> dict[str, Any]:
    """The fields of `LookSettings`, with their defaults, and limits where there are any."""
    hints = get_type_hints(LookSettings)
    made: dict[str, Any] = {}
    for item in dataclasses.fields(LookSettings):
        kind = _LIMITED.get(item.name, hints[item.name])
        if item.default_factory is not dataclasses.MISSING:
            made[item.name] = kind, Field(default_factory=item.default_factory)
        else:
            made[item.name] = kind, ... if item.default is dataclasses.MISSING else item.default
    return made


LookRequest: type[Request] = create_model(
    "LookRequest", __base__=Request, __doc__="A look at a prompt.", **_fields()
)


def settings_of(request: Request) -> LookSettings:
    """The request as plain settings."""
    return LookSettings(**request.model_dump(exclude={"model"}))


class CardRequest(Request):
    """The card of a neuron is asked for; with a prompt, its activation along it too.

    `neuron` is its number in the block, or of experts its name there: "E2.N17", "S.N17".
    """

    layer: Annotated[int, Field(ge=0, le=10**4)]
    neuron: Annotated[int, Field(ge=0, le=10**7)] | Annotated[str, Field(max_length=20)]
    prompt: _Prompt | None = None


class Accepted(BaseModel):
    """A look is taken on: its id, how many are before it, and whether its result is there."""

    id: str
    place: int
    cached: bool


class ModelInfo(BaseModel):
    """A model that the server looks at; `context` is its longest prompt, where it says so."""

    name: str
    family: str
    layers: int
    heads: int
    context: int | None


class Models(BaseModel):
    """The models that the server was started with."""

    models: list[ModelInfo]


class Logit(BaseModel):
    """A token and what a neuron adds to its logit."""

    id: int
    label: str
    logit: float


class Activation(BaseModel):
    """How active a neuron is at a token of the prompt."""

    token: int
    id: int
    label: str
    activation: float


class Card(BaseModel):
    """What a neuron writes, and with a prompt when it is active. `notes` say what stands between
    the experts of its block and the residual."""

    name: str
    layer: int
    neuron: int
    norm: float
    promoted: list[Logit]
    suppressed: list[Logit]
    activations: list[Activation] | None = None
    notes: list[str]
