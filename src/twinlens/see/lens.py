"""The logit lens: what would each layer predict, if it were the last? (nostalgebraist 2020)

One pass keeps the residual at every row; then, for a slice of tokens at a time, each row is
unembedded, reduced to a few numbers a cell, and dropped.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from twinlens.errors import InputError
from twinlens.model.anatomy import Site, SiteKind
from twinlens.model.model import Model
from twinlens.results import LensResult, Tokens
from twinlens.run.batches import Progress, counting, in_batches
from twinlens.run.check import require
from twinlens.run.passes import Inputs, read
from twinlens.see.attribution import FrozenTail
from twinlens.see.provenance import provenance
from twinlens.see.question import encoded, one_of, token_id

Rows = Literal["block", "mid", "attn", "mlp"]
Unembed = Callable[[Float[Tensor, "token d_model"], slice], Float[Tensor, "token vocab"]]

_SLICE_NUMBERS = 8_000_000  # logits of one slice, in numbers: 32 MB a copy in float32
_STRIP_NUMBERS = 500_000  # logits reduced at once: a few copies stay in the processor's cache


def logit_lens(
    model: Model,
    prompt: str | Tokens,
    *,
    rows: Rows = "block",
    targets: str | int | Sequence[str | int] = (),
    top_k: int = 5,
    progress: Progress = None,
) -> LensResult:
    """What would each layer predict, if it were the last? (nostalgebraist 2020)

    Row l is `unembed(final_norm(h_l))`, h_l the residual after block l (`embed`: before block 0),
    with the norm's statistics of h_l itself and the family's own logit scaling.

    `rows`: `block`; `mid` (also after each attention, h + attn, rows "0.mid", ...); `attn` or
    `mlp`: what each sub-block alone adds to the logits, with the final norm's scale frozen (direct
    logit attribution). `targets`: tokens (text or id) to follow at every cell besides `final` (the
    last row's argmax) and `next` (the true next token). `top_k`: how many top tokens to keep.

    Returns a `LensResult`; memory grows with layers x tokens x d_model and with a slice of logits,
    never with layers x tokens x vocabulary. Raises `PromptError`, `InputError`, `AnswerError` for
    what cannot be asked, and `AnatomyError` where the model fails its checks.
    """
    one_of("rows", rows, get_args(Rows))
    if not isinstance(top_k, int) or not 1 <= top_k <= model.n_vocab:
        raise InputError(f"top_k={top_k!r} must be a whole number from 1 to {model.n_vocab}")
    targets = [targets] if isinstance(targets, str | int) else list(targets)
    tokens = encoded(model, prompt)
    extra = [token_id(model, tokens, len(tokens) - 1, given, "target") for given in targets]
    require(model, _needed(rows))
    with torch.no_grad():
        states = _states(model, tokens, rows)
        cells = _reduce_all(model, tokens, states, extra, top_k, progress)
    return LensResult(
        tokens=tokens,
        layers=tuple(states.rows),
        vocabulary=model.vocabulary(tokens.ids, cells["top_ids"], cells["target_ids"]),
        settings={"rows": rows, "top_k": top_k, "targets": extra, "decoder": "final"},
        provenance=provenance(model),
        rows=rows,
        targets=("final", "next", *map(str, targets)),
        **cells,  # pyright: ignore[reportArgumentType]
    )


@dataclass(frozen=True)
class _States:
    """The rows of the grid, the last residual, and how a row becomes logits."""

    rows: dict[str, Float[Tensor, "token d_model"]]
    final: Float[Tensor, "token d_model"]
    unembed: Unembed
    are_contributions: bool


def _needed(rows: Rows) -> list[SiteKind]:
    needed: dict[Rows, list[SiteKind]] = {
        "block": ["embed", "block"],
        "mid": ["embed", "block", "attn"],
        "attn": ["block", "attn"],
        "mlp": ["block", "mlp"],
    }
    return needed[rows]


def _states(model: Model, tokens: Tokens, rows: Rows) -> _States:
    sites = [site for kind in _needed(rows) for site in model.sites(kind)]
    if rows in ("attn", "mlp"):
        last = Site("block", model.n_layers - 1)
        sites = [*model.sites(rows), last]
    values = read(model, Inputs(torch.from_numpy(tokens.ids)[None]), sites).values
    final = values[Site("block", model.n_layers - 1)][0]
    if rows in ("attn", "mlp"):
        parts = {str(s.layer): values[s][0] for s in model.sites(rows)}
        return _States(parts, final, FrozenTail(model, final).logits, True)
    before = values[Site("embed", 0)][0]
    named = {"embed": before}
    for site in model.sites("block"):
        if rows == "mid":
            added = values[Site("attn", site.layer)][0]
            named[f"{site.layer}.mid"] = before.to(added.device) + added
        before = named[str(site.layer)] = values[site][0]
    return _States(named, final, lambda residual, _: model.unembed(residual), False)


def _reduce_all(
    model: Model,
    tokens: Tokens,
    states: _States,
    extra: list[int],
    top_k: int,
    progress: Progress,
) -> dict[str, np.ndarray]:
    """All arrays of the result, a slice of tokens at a time."""
    n_tokens = len(tokens)
    following = torch.from_numpy(np.append(tokens.ids[1:], -1))
    fixed = torch.tensor(extra, dtype=torch.int64)[:, None].expand(-1, n_tokens)
    size = max(1, _SLICE_NUMBERS // model.n_vocab)
    parts: list[dict[str, Tensor]] = []

    def reduce(positions: Sequence[int]) -> dict[str, Tensor]:
        at = slice(positions[0], positions[-1] + 1)
        wanted = torch.cat([following[None, at], fixed[:, at]])
        return _reduce_slice(model, states, at, wanted, top_k)

    with counting(n_tokens, "lens", progress) as advance:
        for part in in_batches(range(n_tokens), size, reduce):
            parts.append(part)
            advance(part["top_ids"].shape[1])
    cells = {name: torch.cat([p[name] for p in parts], dim=1).numpy() for name in parts[0]}
    surprisal = -cells.pop("next_log_probs")[0]
    return cells | {"surprisal": np.append(np.nan, surprisal[:-1])}


def _reduce_slice(
    model: Model, states: _States, at: slice, wanted: Int[Tensor, "target token"], top_k: int
) -> dict[str, Tensor]:
    """The arrays of some tokens: every row unembedded and reduced against the last."""
    final = model.unembed(states.final[at]).float()
    targets = torch.cat([final.argmax(-1)[None].cpu(), wanted])
    final_log_probs = final.log_softmax(-1)
    rows: list[dict[str, Tensor]] = []
    for residual in states.rows.values():
        logits = states.unembed(residual[at], at).float()
        rows.append(_by_strips(logits, final_log_probs, targets, top_k))
    cells = {name: torch.stack([row[name] for row in rows]) for name in rows[0]}
    if states.are_contributions:
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
