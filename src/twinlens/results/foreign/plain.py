"""A plain grid of numbers, one a state: how much each matters, by whatever rule."""

from __future__ import annotations

from typing import Literal, cast, get_args

import numpy as np
from jaxtyping import Float

from twinlens.results.base import Tokens
from twinlens.results.foreign.fields import Fields
from twinlens.results.foreign.names import (
    NO_ID,
    Names,
    answer_of,
    provenance_of,
    tokens_of,
    vocabulary_of,
)
from twinlens.results.foreign.rome import subject_mask
from twinlens.results.trace import TraceResult

Kind = Literal["block", "mlp", "attn"]
_KNOWN = (
    "scores", "tokens", "input_ids", "layers", "clean", "corrupted", "subject_range", "focus",
    "answer", "kind", "metric",
)  # fmt: skip


def read(
    fields: Fields, names: Names, model: str, *, transposed: bool, flipped: bool
) -> TraceResult:
    """`scores[layer, token]` and what is known about them, as a trace of one sample.

    `transposed`: they are `[token, layer]`; `flipped`: their first row is the last layer. NaN is a
    state that was not measured. Where `clean` and `corrupted` are not given, the scores count as
    effects: `corrupted` is 0 and `clean` is not a number.
    """
    if unknown := set(fields.known()) - set(_KNOWN):
        raise fields.refuse(
            f"a plain grid has no array {', '.join(sorted(unknown))}; it may have"
            f" {', '.join(_KNOWN)}"
        )
    tokens = _tokens(fields, names)
    scores = _oriented(fields, transposed, flipped)
    layers = fields.texts("layers") if "layers" in fields else [str(i) for i in range(len(scores))]
    _refuse_what_does_not_fit(fields, scores, layers, tokens)
    kind = _kind(fields)
    clean = fields.number("clean") if "clean" in fields else float("nan")
    corrupted = fields.number("corrupted") if "corrupted" in fields else 0.0
    metric = fields.text("metric") if "metric" in fields else "value"
    answer, label = NO_ID, "the answer"
    if "answer" in fields:
        answer, label = answer_of(names, fields.text("answer"))
    focus = _focus(fields, len(tokens))
    settings = {
        "source": "plain arrays", "file": fields.source, "kind": kind, "metric": metric,
        "transposed": transposed, "flipped": flipped, "focus": focus, "answer": answer,
    }  # fmt: skip
    nothing = np.zeros(len(tokens), bool)
    return TraceResult(
        tokens=tokens,
        layers=tuple(layers),
        vocabulary=vocabulary_of(names, tokens) | {answer: label},
        settings=settings,
        provenance=provenance_of(model, fields.needed("scores").dtype),
        kind=kind,
        direction="denoise",
        metric=metric,
        scores=scores,
        samples=scores[..., None],
        clean=clean,
        corrupted=corrupted,
        corrupted_samples=np.array([corrupted]),
        subject_mask=subject_mask(fields, len(tokens)) if "subject_range" in fields else nothing,
        focus=focus,
        answer=answer,
        window=1,
    )


def _tokens(fields: Fields, names: Names) -> Tokens:
    texts = fields.texts("tokens") if "tokens" in fields else None
    ids = fields.prompt_ids("input_ids") if "input_ids" in fields else None
    if texts is None and ids is None:
        raise fields.refuse(
            "a plain grid needs its tokens: `tokens` (their texts) or `input_ids`; in Python"
            " tl.convert(scores, tokens=[...]), in a file an .npz with both"
        )
    if texts is not None and (not texts or (ids is not None and len(texts) != len(ids))):
        raise fields.refuse(
            f"tokens has {len(texts)} entries, expected {'some' if ids is None else len(ids)}"
        )
    return tokens_of(fields, names, ids, texts)


def _oriented(fields: Fields, transposed: bool, flipped: bool) -> Float[np.ndarray, "layer token"]:
    scores = fields.numbers("scores", 2)
    scores = scores.T if transposed else scores
    return np.ascontiguousarray(scores[::-1] if flipped else scores)


def _refuse_what_does_not_fit(
    fields: Fields, scores: Float[np.ndarray, "layer token"], layers: list[str], tokens: Tokens
) -> None:
    if not len(scores) or scores.shape[1] != len(tokens):
        hint = "; is it transposed?" if len(scores) == len(tokens) else ""
        raise fields.refuse(
            f"scores has {scores.shape[0]} layers and {scores.shape[1]} tokens, but there are"
            f" {len(tokens)} tokens{hint}"
        )
    if np.isinf(scores).any() or np.isnan(scores).all():
        raise fields.refuse("scores has values that are infinite, or no number at all")
    if len(layers) != len(scores) or len(set(layers)) != len(layers):
        raise fields.refuse(
            f"layers are {len(set(layers))} different names for {len(scores)} rows (top to bottom)"
        )


def _kind(fields: Fields) -> Kind:
    kind = fields.text("kind") if "kind" in fields else "block"
    if kind not in get_args(Kind):
        raise fields.refuse(f"kind is {kind!r}; expected one of {', '.join(get_args(Kind))}")
    return cast("Kind", kind)


def _focus(fields: Fields, n_tokens: int) -> int:
    focus = fields.whole("focus") if "focus" in fields else -1
    if not -n_tokens <= focus < n_tokens:
        raise fields.refuse(f"focus is {focus} in {n_tokens} tokens")
    return focus % n_tokens
