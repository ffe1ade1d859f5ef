"""Tokens and provenance of a result that was made elsewhere."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Int

from twinlens.results.base import Provenance, Tokens
from twinlens.results.foreign.fields import Fields

UNKNOWN = "unknown"
NO_ID = -1  # of an answer whose text alone is known; its label stands in the vocabulary


@runtime_checkable
class Names(Protocol):
    """What a tokenizer knows. Where there is none, what it knows of ids is None."""

    def labels(self, ids: Sequence[int]) -> list[str] | None:
        """What each token looks like."""
        ...

    def texts(self, ids: Sequence[int]) -> list[str] | None:
        """What each token decodes to, alone."""
        ...

    def special(self, ids: Sequence[int]) -> list[bool] | None:
        """Which tokens are special."""
        ...

    def id_of(self, text: str) -> int | None:
        """The one token that a text is."""
        ...

    def visible(self, texts: Sequence[str]) -> list[str]:
        """What texts of tokens look like: white space and the like with signs."""
        ...


def tokens_of(
    fields: Fields, names: Names, ids: Int[np.ndarray, " token"] | None, texts: list[str] | None
) -> Tokens:
    """The tokens of a prompt, from their ids, their texts, or both.

    Refused where the tokenizer says other texts than the source (white space apart, which decoders
    clean in different ways): it is the tokenizer of another model.
    """
    numbers = None if ids is None else ids.tolist()
    decoded = None if numbers is None else names.texts(numbers)
    if texts is not None and decoded is not None:
        for at, (given, ours) in enumerate(zip(texts, decoded, strict=True)):
            if given.strip() != ours.strip():
                raise fields.refuse(
                    f"token {at} is {given!r} there, but {ours!r} by the tokenizer that was given:"
                    " it belongs to another model"
                )
    labels = None if numbers is None else names.labels(numbers)
    special = None if numbers is None else names.special(numbers)
    spelled = texts or decoded
    if labels is None:
        labels = [f"#{i}" for i in numbers or []] if spelled is None else names.visible(spelled)
    spelled = [_storable(text) for text in spelled or labels]
    ends = np.cumsum([len(text) for text in spelled], dtype=np.int64)
    return Tokens(
        text="".join(spelled),
        ids=np.full(len(labels), NO_ID, dtype=np.int64) if ids is None else ids,
        labels=tuple(labels),
        starts=np.concatenate([np.zeros(1, np.int64), ends[:-1]]),
        ends=ends,
        special=np.zeros(len(labels), bool) if special is None else np.array(special, dtype=bool),
    )


def vocabulary_of(names: Names, tokens: Tokens, *others: np.ndarray) -> dict[int, str]:
    """The labels of all ids that occur; without a tokenizer, of those of the prompt alone."""
    known = dict(zip(tokens.ids.tolist(), tokens.labels, strict=True))
    known.pop(NO_ID, None)
    ids = np.unique(np.concatenate([tokens.ids, *(other.ravel() for other in others)]))
    wanted = [int(i) for i in ids if i >= 0]
    return known | dict(zip(wanted, names.labels(wanted) or [], strict=False))


def answer_of(names: Names, text: str) -> tuple[int, str]:
    """The id of an answer (`NO_ID` where only its text is known) and its label."""
    token_id = names.id_of(text)
    labels = None if token_id is None else names.labels([token_id])
    if token_id is None or labels is None:
        return NO_ID, names.visible([text])[0]
    return token_id, labels[0]


def provenance_of(model: str, dtype: np.dtype) -> Provenance:
    """Made elsewhere: what the source does not say is unknown."""
    try:
        version = importlib.metadata.version("twinlens")
    except importlib.metadata.PackageNotFoundError:
        version = "not installed as a package"
    return Provenance(
        model=model,
        family=UNKNOWN,
        weights_hash=UNKNOWN,
        dtype=dtype.name,
        device=UNKNOWN,
        versions={"twinlens (converted)": version, "numpy": np.__version__},
    )


def _storable(text: str) -> str:
    """A lone surrogate is no Unicode and cannot be saved: `?` in its place, as long."""
    return text.encode("utf-8", errors="replace").decode("utf-8")
