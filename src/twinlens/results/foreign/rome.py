"""Cases of ROME (Meng et al. 2022): what its `experiments/causal_trace.py` writes as `.npz`."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float

from twinlens.results.base import Tokens
from twinlens.results.foreign.fields import Fields
from twinlens.results.foreign.names import (
    Names,
    answer_of,
    provenance_of,
    tokens_of,
    vocabulary_of,
)
from twinlens.results.trace import TraceResult

Kind = Literal["block", "mlp", "attn"]
_KINDS: dict[str, Kind] = {"": "block", "None": "block", "mlp": "mlp", "attn": "attn"}


def read(fields: Fields, names: Names, model: str) -> TraceResult:
    """A case `[token, layer]` as a trace `[layer, token]`.

    Rows are blocks from 0: ROME does not restore the embedding. The answer is explained at the last
    token, its probability is the metric, and every score is a mean over runs of noise whose number
    and strength the file does not keep: it counts as one sample.
    """
    _refuse_wrong_prediction(fields)
    tokens = _tokens(fields, names)
    subject = subject_mask(fields, len(tokens))
    scores = _scores(fields, len(tokens), subject)
    kind, notes = _kind(fields)
    answer, label = answer_of(names, fields.text("answer"))
    clean, corrupted = _probability(fields, "high_score"), _probability(fields, "low_score")
    window = fields.whole("window") if kind != "block" and "window" in fields else 1
    if window < 1:
        raise fields.refuse(f"window is {window}; expected at least 1")
    settings = {
        "source": "ROME", "file": Path(fields.source).name, "kind": kind, "window": window,
        "metric": "probability", "direction": "denoise", "answer": answer,
        "focus": len(tokens) - 1, "corruption": "noise",
    }  # fmt: skip
    return TraceResult(
        tokens=tokens,
        layers=tuple(str(layer) for layer in range(len(scores))),
        vocabulary=vocabulary_of(names, tokens) | {answer: label},
        settings=settings,
        provenance=provenance_of(model, fields.needed("scores").dtype),
        notes=(
            "a case of ROME; how strong its noise was, and how many runs were averaged, is not"
            " recorded",
            *notes,
        ),
        kind=kind,
        direction="denoise",
        metric="probability",
        scores=scores,
        samples=scores[..., None],
        clean=clean,
        corrupted=corrupted,
        corrupted_samples=np.array([corrupted]),
        subject_mask=subject,
        focus=len(tokens) - 1,
        answer=answer,
        window=window,
    )


def subject_mask(fields: Fields, n_tokens: int) -> Bool[np.ndarray, " token"]:
    """The tokens of `subject_range`, its end not included."""
    start, stop = fields.ids("subject_range", 2).tolist()
    if not 0 <= start < stop <= n_tokens:
        raise fields.refuse(f"subject_range is {start}:{stop} in {n_tokens} tokens")
    at = np.arange(n_tokens)
    return (start <= at) & (at < stop)


def _refuse_wrong_prediction(fields: Fields) -> None:
    if "correct_prediction" in fields and "scores" not in fields:
        raise fields.refuse(
            "a case without a trace: ROME writes it where the model did not predict the attribute"
        )


def _tokens(fields: Fields, names: Names) -> Tokens:
    ids = fields.prompt_ids("input_ids")
    texts = fields.texts("input_tokens") if "input_tokens" in fields else None
    if texts is not None and len(texts) != len(ids):
        raise fields.refuse(f"input_tokens has {len(texts)} entries for {len(ids)} ids")
    return tokens_of(fields, names, ids, texts)


def _scores(
    fields: Fields, n_tokens: int, subject: Bool[np.ndarray, " token"]
) -> Float[np.ndarray, "layer token"]:
    """ROME's own `[token, layer]` turned; where it traced the last subject token alone
    (`token_range="subject_last"`), the others are NaN."""
    scores = fields.numbers("scores", 2)
    if scores.shape[1] == 0 or scores.shape[0] not in (1, n_tokens):
        raise fields.refuse(
            f"scores has the shape {scores.shape}; expected [token, layer] with {n_tokens} tokens"
        )
    if not np.isfinite(scores).all():
        raise fields.refuse("scores has values that are not numbers")
    if len(scores) == n_tokens:
        return np.ascontiguousarray(scores.T)
    placed = np.full((scores.shape[1], n_tokens), np.nan)
    placed[:, np.flatnonzero(subject)[-1]] = scores[0]
    return placed


def _kind(fields: Fields) -> tuple[Kind, list[str]]:
    """What was restored. `None`, ROME's word for whole states, is an object in a file."""
    if "kind" not in fields:
        return "block", []
    if fields.get("kind") is None:
        return "block", [
            "the kind of state is a pickled object, which is not read; ROME writes whole states so"
        ]
    kind = fields.text("kind")
    if kind not in _KINDS:
        raise fields.refuse(f"kind is {kind!r}; expected '' (whole states), 'mlp' or 'attn'")
    return _KINDS[kind], []


def _probability(fields: Fields, name: str) -> float:
    value = fields.number(name)
    if not 0 <= value <= 1 + 1e-3:  # half precision rounds
        raise fields.refuse(f"{name} is {value}; expected a probability")
    return value
