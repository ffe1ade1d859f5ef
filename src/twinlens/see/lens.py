"""The logit lens: what would each layer predict, if it were the last? (nostalgebraist 2020)

One pass keeps the residual at every row; `reduction` makes the cells' numbers of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, get_args

import torch

from twinlens.errors import InputError
from twinlens.model.anatomy import Site, SiteKind
from twinlens.model.model import Model
from twinlens.results import FittedLens, LensResult, Tokens
from twinlens.run.batches import Progress
from twinlens.run.check import require
from twinlens.run.passes import Inputs, read
from twinlens.see.decoders import OfContributions, decoder_of
from twinlens.see.provenance import provenance
from twinlens.see.question import encoded, one_of, token_id
from twinlens.see.reduction import Residuals, reduce_all

Rows = Literal["block", "mid", "attn", "mlp"]


def logit_lens(
    model: Model,
    prompt: str | Tokens,
    *,
    decoder: FittedLens | None = None,
    rows: Rows = "block",
    targets: str | int | Sequence[str | int] = (),
    top_k: int = 5,
    progress: Progress = None,
) -> LensResult:
    """What would each layer predict, if it were the last? (nostalgebraist 2020)

    Row l is `unembed(final_norm(h_l))`, h_l the residual after block l (`embed`: before block 0),
    with the norm's statistics of h_l itself and the family's own logit scaling.

    `decoder`: a fitted lens (`twinlens.fit_lens`, `twinlens.open_lens`), whose affine map goes
    before final norm and unembedding on every row but the last; None is the plain lens. It reads
    `rows="block"`. `settings["decoder"]` is its name, or `final`.

    `rows`: `block`; `mid` (also after each attention, h + attn, rows "0.mid", ...); `attn` or
    `mlp`: what each sub-block alone adds to the logits, with the final norm's scale frozen (direct
    logit attribution). `targets`: tokens (text or id) to follow at every cell besides `final` (the
    last row's argmax) and `next` (the true next token). `top_k`: how many top tokens to keep.

    Returns a `LensResult`; memory grows with layers x tokens x d_model and with a slice of logits,
    never with layers x tokens x vocabulary. Raises `PromptError`, `InputError`, `AnswerError` for
    what cannot be asked, `LensError` for a lens of another model, and `AnatomyError` where the
    model fails its checks.
    """
    one_of("rows", rows, get_args(Rows))
    if not isinstance(top_k, int) or not 1 <= top_k <= model.n_vocab:
        raise InputError(f"top_k={top_k!r} must be a whole number from 1 to {model.n_vocab}")
    if decoder is not None and rows != "block":
        raise InputError(f"rows={rows!r} is not read by a fitted lens; it reads rows='block'")
    targets = [targets] if isinstance(targets, str | int) else list(targets)
    tokens = encoded(model, prompt)
    extra = [token_id(model, tokens, len(tokens) - 1, given, "target") for given in targets]
    require(model, _needed(rows))
    shown = decoder_of(model, decoder)
    with torch.no_grad():
        states = residuals(model, Inputs(torch.from_numpy(tokens.ids)[None]), rows)
        if rows in ("attn", "mlp"):
            shown = OfContributions(model, states.final)
        cells = reduce_all(shown, tokens, states, extra, top_k, progress)
    return LensResult(
        tokens=tokens,
        layers=tuple(states.rows),
        vocabulary=model.vocabulary(tokens.ids, cells["top_ids"], cells["target_ids"]),
        settings={"rows": rows, "top_k": top_k, "targets": extra, **_settings_of(decoder)},
        provenance=provenance(model),
        notes=shown.notes,
        rows=rows,
        targets=("final", "next", *map(str, targets)),
        **cells,  # pyright: ignore[reportArgumentType]
    )


def _settings_of(decoder: FittedLens | None) -> dict[str, Any]:
    """Which lens it was, and how that was made."""
    if decoder is None:
        return {"decoder": "final"}
    return {"decoder": decoder.name, "lens": dict(decoder.settings)}


def _needed(rows: Rows) -> list[SiteKind]:
    needed: dict[Rows, list[SiteKind]] = {
        "block": ["embed", "block"],
        "mid": ["embed", "block", "attn"],
        "attn": ["block", "attn"],
        "mlp": ["block", "mlp"],
    }
    return needed[rows]


def residuals(model: Model, inputs: Inputs, rows: Rows = "block") -> Residuals:
    """The residuals of one run of `inputs` (its first sample), by row."""
    sites = [site for kind in _needed(rows) for site in model.sites(kind)]
    last = Site("block", model.n_layers - 1)
    if rows in ("attn", "mlp"):
        sites = [*model.sites(rows), last]
    values = read(model, inputs.first_sample(), sites).values
    final = values[last][0]
    if rows in ("attn", "mlp"):
        added = {str(s.layer): values[s][0] * model.added_times for s in model.sites(rows)}
        return Residuals(added, final)
    before = values[Site("embed", 0)][0]
    named = {"embed": before}
    for site in model.sites("block"):
        if rows == "mid":
            added = values[Site("attn", site.layer)][0] * model.added_times
            named[f"{site.layer}.mid"] = before.to(added.device) + added
        before = named[str(site.layer)] = values[site][0]
    return Residuals(named, final)
