"""Prediction trajectories of tuned-lens (Belrose et al. 2023) as a lens."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

from twinlens.results.base import Tokens
from twinlens.results.foreign.fields import Fields, Stack
from twinlens.results.foreign.names import (
    NO_ID,
    UNKNOWN,
    Names,
    provenance_of,
    tokens_of,
    vocabulary_of,
)
from twinlens.results.lens import LensResult

MOST_LAST_ROW = 2**32  # bytes of the row that all others are compared with; it is kept
_STRIP_NUMBERS = 500_000  # log-probabilities reduced at once
_SUM_OFF = 0.02  # of the log of a row's sum; half precision rounds
_ASKED = ("targets", "anti_targets")


def read(fields: Fields, names: Names, model: str, top_k: int) -> LensResult:
    """`log_probs[layer, token, vocab]` and `input_ids`, reduced to a lens.

    Their rows are the inputs of block 0, 1, ... and, last, the model's own output. The input of a
    block is the residual after the one before, so they are ours: `embed`, `0`, `1`, ... A
    trajectory keeps no logits: these are NaN. `targets` and `anti_targets` are followed beside
    `final` and `next`.
    """
    stack = fields.stack("log_probs")
    n_layers, n_tokens, vocab = stack.shape
    ids = _ids(fields, "input_ids", n_tokens, vocab)
    if int(ids.min()) < 0:
        raise fields.refuse(f"input_ids has the negative id {ids.min()}")
    if not 1 <= top_k <= vocab:
        raise fields.refuse(f"top_k={top_k} must be from 1 to {vocab}, the size of the vocabulary")
    if n_tokens * vocab * stack.dtype.itemsize > MOST_LAST_ROW:
        raise fields.refuse(f"log_probs has the shape {stack.shape}; expected at most 4 GiB a row")
    tokens = tokens_of(fields, names, ids, None)
    asked = [name for name in _ASKED if name in fields and fields.get(name) is not None]
    followed = [_ids(fields, name, n_tokens, vocab) for name in asked]
    cells = _reduce_all(fields, stack, tokens, followed, top_k)
    return LensResult(
        tokens=tokens,
        layers=("embed", *map(str, range(n_layers - 1))),
        vocabulary=vocabulary_of(names, tokens, cells["top_ids"], cells["target_ids"]),
        settings={
            "source": "tuned-lens", "file": Path(fields.source).name, "rows": "block",
            "top_k": top_k, "targets": asked, "decoder": UNKNOWN,
        },
        provenance=provenance_of(model, stack.dtype),
        notes=("a trajectory of tuned-lens; which lens made it is not recorded",),
        rows="block",
        targets=("final", "next", *asked),
        **cells,  # pyright: ignore[reportArgumentType]
    )  # fmt: skip


def _ids(fields: Fields, name: str, n_tokens: int, vocab: int) -> Int[np.ndarray, " token"]:
    """Ids of the vocabulary; what is negative is no token. Axes of a batch of one may stand
    before."""
    array = fields.needed(name)
    if array.dtype.kind not in "iu" or array.shape != (*(1,) * (array.ndim - 1), n_tokens):
        raise fields.refuse(
            f"{name} is {array.dtype} of the shape {array.shape}; expected {n_tokens} token ids, as"
            " log_probs has"
        )
    if int(array.max()) >= vocab:
        raise fields.refuse(f"{name} has the id {array.max()}, but log_probs has {vocab} ids")
    return np.ascontiguousarray(array.reshape(n_tokens).astype(np.int64))


def _reduce_all(
    fields: Fields,
    stack: Stack,
    tokens: Tokens,
    followed: list[Int[np.ndarray, " token"]],
    top_k: int,
) -> dict[str, np.ndarray]:
    """All arrays of the lens. The last row is read first, since the others are compared with it."""
    n_layers = stack.shape[0]
    strips = list(_strips(stack))
    last = np.concatenate([_checked(fields, stack.read(n_layers - 1, a, b)) for a, b in strips])
    final = np.concatenate([_top(last[a:b].astype(np.float64), 1)[:, 0] for a, b in strips])
    following = np.append(tokens.ids[1:], NO_ID)
    targets = np.stack([final, following, *(np.where(t < 0, NO_ID, t) for t in followed)])
    rows: list[dict[str, np.ndarray]] = []
    for layer in range(n_layers):
        parts = [
            _reduce(
                _checked(fields, stack.read(layer, a, b)).astype(np.float64),
                last[a:b].astype(np.float64), targets[:, a:b], top_k,
            )
            for a, b in strips
        ]  # fmt: skip
        rows.append({name: np.concatenate([p[name] for p in parts]) for name in parts[0]})
    cells = {name: np.stack([row[name] for row in rows]) for name in rows[0]}
    surprisal = np.append(np.nan, -cells["log_probs"][-1, :-1, 1])
    return cells | {
        "target_ids": targets,
        "surprisal": surprisal,
        "top_logits": np.full(cells["top_probs"].shape, np.nan),
        "logits": np.full(cells["log_probs"].shape, np.nan),
    }


def _strips(stack: Stack) -> Iterator[tuple[int, int]]:
    """Spans of tokens that are reduced at once."""
    _, n_tokens, vocab = stack.shape
    size = max(1, _STRIP_NUMBERS // vocab)
    for start in range(0, n_tokens, size):
        yield start, min(start + size, n_tokens)


def _checked(
    fields: Fields, log_probs: Float[np.ndarray, "token vocab"]
) -> Float[np.ndarray, "token vocab"]:
    """Log-probabilities of a whole distribution; -inf is a token that cannot come."""
    with np.errstate(over="ignore", divide="ignore"):
        sums = np.log(np.exp(log_probs, dtype=np.float64).sum(axis=-1))
    off = np.abs(sums).max()
    if not off <= _SUM_OFF:
        raise fields.refuse(
            f"log_probs are no log-probabilities: exp of a cell sums to {np.exp(off):.3g} or its"
            " inverse, not 1; give the log_softmax of the logits"
            if np.isfinite(off)
            else "log_probs has values that are not numbers"
        )
    return log_probs


def _reduce(
    log_probs: Float[np.ndarray, "token vocab"],
    final: Float[np.ndarray, "token vocab"],
    targets: Int[np.ndarray, "target token"],
    top_k: int,
) -> dict[str, np.ndarray]:
    """One row's numbers for some tokens: top-k, targets, entropy, both divergences (nats)."""
    top = _top(log_probs, top_k)
    at = np.maximum(targets, 0).T
    wanted = np.take_along_axis(log_probs, at, axis=1)
    ranks = np.stack([(log_probs >= one[:, None]).sum(axis=1) for one in wanted.T], axis=-1)
    known = targets.T >= 0
    return {
        "top_ids": top,
        "top_probs": np.exp(np.take_along_axis(log_probs, top, axis=1)),
        "log_probs": np.where(known, wanted, np.nan),
        "ranks": np.where(known, ranks, 0),
        "entropy": -_mean(log_probs, log_probs),
        "kl_final_to_layer": np.maximum(_mean(final, final) - _mean(final, log_probs), 0),
        "kl_layer_to_final": np.maximum(_mean(log_probs, log_probs) - _mean(log_probs, final), 0),
    }


def _mean(
    weights: Float[np.ndarray, "token vocab"], values: Float[np.ndarray, "token vocab"]
) -> Float[np.ndarray, " token"]:
    """The mean of `values` under exp(`weights`); what cannot come does not count."""
    probs = np.exp(weights)
    return np.where(probs > 0, probs * np.where(probs > 0, values, 0), 0).sum(axis=-1)


def _top(log_probs: Float[np.ndarray, "token vocab"], k: int) -> Int[np.ndarray, "token k"]:
    """The ids of the likeliest, likeliest first; the smaller id first where they are equal."""
    best = np.argpartition(-log_probs, k - 1, axis=1)[:, :k]
    best.sort(axis=1)
    values = np.take_along_axis(log_probs, best, axis=1)
    order = np.argsort(-values, axis=1, kind="stable")
    return np.take_along_axis(best, order, axis=1)
