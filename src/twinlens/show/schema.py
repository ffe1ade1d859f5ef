"""The schema of a document: what a saved page, a notebook and the server's page are given.

A document is about one prompt's tokens; each look in it is what one set of results says of them
(two looks: a comparison). A look has grids, each a `Panel` with an id, a side and a short name.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

SCHEMA = 2


@dataclass(frozen=True)
class Array:
    """Numbers as base64 of little-endian bytes, in C order."""

    dtype: Literal["float32", "int32", "uint16", "uint8"]
    shape: list[int]
    data: str


@dataclass(frozen=True)
class TokenList:
    """The tokens: position and id are the key, labels are for eyes only."""

    text: str
    ids: list[int]
    labels: list[str]
    special: list[bool]


@dataclass(frozen=True)
class Asked:
    """What a grid of effects is about: the scores with nothing restored, and of what they are."""

    metric: str
    direction: Literal["denoise", "noise"]
    focus: int
    answer: str
    clean: float | None
    corrupted: float | None


@dataclass(frozen=True)
class Grid:
    """One grid: `values[row, token]`, or with a last axis of heads or units.

    `side` is where it stands at first, `group` its heading in the list of grids. `columns` names
    the columns where they are not the prompt's tokens, and `column` says what one is (a head).
    `lens` is the id of the lens whose top tokens are the texts of the cells. `marked` says what a
    star means where `details["marked"]` has them. `experts` has, by row, how units are numbered
    that are neurons of experts (how many experts, neurons of each, neurons of the shared ones): the
    page names them by it.
    """

    id: str
    side: Literal["left", "right"]
    group: str
    name: str
    title: str
    subtitle: str
    meaning: str
    scale: Literal["sequential", "diverging", "log", "symlog"]
    low: float
    high: float
    values: Array
    parts: Literal["none", "head", "unit"] = "none"
    details: dict[str, Array] = field(default_factory=dict[str, Array])
    asked: Asked | None = None
    columns: list[str] | None = None
    column: str = "token"
    lens: str | None = None
    marked: str | None = None
    experts: dict[str, list[int]] = field(default_factory=dict[str, list[int]])


@dataclass(frozen=True)
class LensTop:
    """A lens' top tokens of every cell, likeliest first: `ids`, `values[row, token, k]`.

    Where the `unit` is "none", the values of most are not known (NaN), and an id of -1 is no token.
    """

    id: str
    name: str
    unit: Literal["probability", "logit", "none"]
    ids: Array
    values: Array


@dataclass(frozen=True)
class Writes:
    """What a neuron writes: labels of the tokens it promotes and suppresses, strongest first."""

    promotes: list[str]
    suppresses: list[str]


@dataclass(frozen=True)
class Attention:
    """How much heads look at tokens: `weights[head, query, token]`; rows sum to one.

    `heads` are named as everywhere ("1.H0"). Where `tokens` is given, only the strongest weights
    of each row are here, of the tokens at these positions.
    """

    heads: list[str]
    queries: list[int]
    weights: Array
    tokens: Array | None
    value_weighted: bool


@dataclass(frozen=True)
class Look:
    """What one set of results says of the tokens."""

    name: str
    rows: list[str]
    vocabulary: dict[str, str]
    grids: list[Grid]
    subject: list[bool]
    notes: list[str]
    settings: list[dict[str, Any]]
    provenance: dict[str, Any]
    surprisal: Array | None = None  # bits
    lenses: list[LensTop] = field(default_factory=list[LensTop])
    focus: int | None = None  # where all results of the look have the same
    neurons: dict[str, Writes] = field(default_factory=dict[str, Writes])  # by name
    attention: Attention | None = None


@dataclass(frozen=True)
class Document:
    """Everything that a page shows, and how it is shown at first."""

    schema_version: int
    twinlens: str
    tokens: TokenList
    looks: list[Look]
    flip: bool = False
    transpose: bool = False
