"""Rows of residuals to the numbers of a lens' cells.

For a slice of tokens at a time each row becomes logits, is reduced to a few numbers a cell, and is
dropped. The rows may be of any run (clean, corrupted, restored).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from twinlens.results import Tokens
from twinlens.run.batches import Progress, counting, in_batches
from twinlens.see.decoders import Decoder

SLICE_NUMBERS = 8_000_000  # logits of one slice, in numbers: 32 MB a copy in float32
_STRIP_NUMBERS = 500_000  # logits reduced at once: a few copies stay in the processor's cache


@dataclass(frozen=True)
class Residuals:
    """The residuals of a run by row (`embed`, "0", "1", ...), and the last residual that each row
    is compared with: of the same run, or of another over as many tokens. Where rows have samples,
    the decoder makes one set of logits of them."""

    rows: Mapping[str, Float[Tensor, "token *sample d_model"]]
    final: Float[Tensor, "token d_model"]


def reduce_all(
    decoder: Decoder,
    tokens: Tokens,
    states: Residuals,
    extra: Sequence[int] = (),
    top_k: int = 5,
    progress: Progress = None,
) -> dict[str, np.ndarray]:
    """The arrays of a `LensResult`, by name, for the rows in `states` (call it without gradients).

    `tokens` are those of the run; `extra` are ids followed at every cell after `final` (the argmax
    of `states.final`) and `next`.
    """
    model, n_tokens = decoder.model, len(tokens)
    following = torch.from_numpy(np.append(tokens.ids[1:], -1))
    fixed = torch.tensor(list(extra), dtype=torch.int64)[:, None].expand(-1, n_tokens)
    size = max(1, SLICE_NUMBERS // model.n_vocab)
    parts: list[dict[str, Tensor]] = []

    def reduce(positions: Sequence[int]) -> dict[str, Tensor]:
        at = slice(positions[0], positions[-1] + 1)
        wanted = torch.cat([following[None, at], fixed[:, at]])
        return _reduce_slice(decoder, states, at, wanted, top_k)

    with counting(n_tokens, "lens", progress) as advance:
        for part in in_batches(range(n_tokens), size, reduce):
            parts.append(part)
            advance(part["top_ids"].shape[1])
    cells = {name: torch.cat([p[name] for p in parts], dim=1).numpy() for name in parts[0]}
    surprisal = -cells.pop("next_log_probs")[0]
    return cells | {"surprisal": np.append(np.nan, surprisal[:-1])}


def _reduce_slice(
    decoder: Decoder, states: Residuals, at: slice, wanted: Int[Tensor, "target token"], top_k: int
) -> dict[str, Tensor]:
    """The arrays of some tokens: every row unembedded and reduced against the last."""
    final = decoder.model.unembed(states.final[at]).float()
    targets = torch.cat([final.argmax(-1)[None].cpu(), wanted])
    final_log_probs = final.log_softmax(-1)
    rows: list[dict[str, Tensor]] = []
    for row, residual in states.rows.items():
        logits = decoder.logits(row, residual[at], at).float()
        rows.append(_by_strips(logits, final_log_probs, targets, top_k))
    cells = {name: torch.stack([row[name] for row in rows]) for name in rows[0]}
    if decoder.of_contributions:
        for name in ("top_probs", "log_probs", "entropy", "kl_final_to_layer", "kl_layer_to_final"):
            cells[name] = torch.full_like(cells[name], torch.nan)
    index = targets[1].clamp(min=0).to(final.device)
    surprising = final_log_probs.gather(-1, index[:, None])[:, 0].cpu()
    next_log_probs = torch.where(targets[1] >= 0, surprising, torch.nan)[None]
    return cells | {"target_ids": targets, "next_log_probs": next_log_probs}


def _by_strips(
    logits: Float[Tensor, "token vocab"],
    final_log_probs: Float[Tensor, "token vocab"],
    targets: Int[Tensor, "target token"],
    top_k: int,
) -> dict[str, Tensor]:
    """Reduce a few tokens at a time on the CPU, where that keeps the passes in the cache."""
    size = logits.shape[0]
    if logits.device.type == "cpu":
        size = max(1, _STRIP_NUMBERS // logits.shape[1])
    strips = [
        _reduce(
            logits[i : i + size], final_log_probs[i : i + size], targets[:, i : i + size], top_k
        )
        for i in range(0, logits.shape[0], size)
    ]
    return {name: torch.cat([strip[name] for strip in strips]) for name in strips[0]}


def _reduce(
    logits: Float[Tensor, "token vocab"],
    final_log_probs: Float[Tensor, "token vocab"],
    targets: Int[Tensor, "target token"],
    top_k: int,
) -> dict[str, Tensor]:
    """One row's numbers for each token: top-k, targets, entropy, both KLs (nats)."""
    final_log_probs = final_log_probs.to(logits.device)
    log_probs = logits.log_softmax(-1)
    probs = log_probs.exp()
    top = logits.topk(top_k, dim=-1)
    index = targets.clamp(min=0).T.to(logits.device)
    target_logits = logits.gather(-1, index)
    ranks = torch.stack([(logits >= z[:, None]).sum(-1) for z in target_logits.T], dim=-1)
    excess = final_log_probs - log_probs
    cells = {
        "top_ids": top.indices,
        "top_probs": probs.gather(-1, top.indices),
        "top_logits": top.values,
        "logits": target_logits,
        "log_probs": log_probs.gather(-1, index),
        "ranks": ranks,
        "entropy": -torch.linalg.vecdot(probs, log_probs),
        "kl_final_to_layer": torch.linalg.vecdot(final_log_probs.exp(), excess).clamp(min=0),
        "kl_layer_to_final": -torch.linalg.vecdot(probs, excess).clamp(max=0),
    }
    return {name: value.cpu() for name, value in cells.items()}
