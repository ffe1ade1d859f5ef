"""Fitting a lens to a model on a user's text."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch

from twinlens.errors import InputError
from twinlens.model.model import Model
from twinlens.results import FittedLens
from twinlens.results.fitted import LensKind, no_tokens
from twinlens.run.batches import Progress
from twinlens.run.check import require
from twinlens.see import texts
from twinlens.see.comparison import measure
from twinlens.see.decoders import Decoder, Fitted, rows_of
from twinlens.see.fitting import Checkpoint, Fit, run
from twinlens.see.jacobian import JacobianFit, Reach
from twinlens.see.provenance import provenance
from twinlens.see.question import one_of, whole
from twinlens.see.texts import Text, Windows
from twinlens.see.tuned import TunedFit

JACOBIAN_WINDOWS = 64
STEPS = 250
RATE = 1e-3


@dataclass(frozen=True)
class _Asked:
    """What a fit hangs on, besides model and text, in plain values; None is the default's."""

    kind: LensKind
    steps: int | None
    lr: float | None
    rank: int | None
    reach: Reach | None
    windows: int | None
    length: int
    held_out: float
    batch_tokens: int
    seed: int


def fit_lens(
    model: Model,
    text: Text,
    kind: LensKind = "tuned",
    *,
    steps: int | None = None,
    lr: float | None = None,
    rank: int | None = None,
    reach: Reach | None = None,
    windows: int | None = None,
    length: int = 128,
    held_out: float = 0.1,
    batch_tokens: int = 2048,
    seed: int = 1,
    checkpoint: str | Path | None = None,
    output: str | Path | None = None,
    progress: Progress = None,
) -> FittedLens:
    """Fit a lens to a model: for each row an affine map that goes before the unembedding.

    `kind="tuned"` (Belrose et al. 2023): h + A h + b for `embed` and every block but the last,
    trained with KL(final || row) from A = b = 0, the plain lens: `steps` (250) steps of Adam of
    about `batch_tokens` tokens, the rate falling linearly from `lr` (0.001) to zero.

    `kind="jacobian"`: J h, where J is the sum over targets t >= s of d h_final(t) / d h(s), its
    mean over the sources s of all windows; h_final is the last residual before the final norm, and
    targets stay within a window. `reach="own"` counts only t = s (estimated with random signs),
    `"later"`, the default, all. `rank`: keep that many singular values; `lens.kept` says which
    share of their squares that is. The cost is d_model backward passes over the windows.

    `text`: a .txt or .jsonl file ("text" in each line), "hamlet", or a list of documents (texts, or
    mappings with "text"). It is cut into windows of `length` tokens, of which at most `windows` are
    fitted to, evenly spread (all; for Jacobians 64). Every 1/`held_out`-th document, or the last
    windows of few documents, is only measured on: `lens.kl` beside `lens.kl_plain`.

    `checkpoint`: a file that keeps how far the fit is; with it the same call goes on where it was
    stopped, to the same bits on the same machine, and removes it in the end, after the lens was
    written to the file `output`, where one is given. Returns the lens. Raises `InputError`
    for what cannot be asked, `LensError` for a checkpoint of another fit, `ResultFileError` for one
    that is damaged, `AnatomyError` where the model fails its checks.
    """
    asked = _Asked(kind, steps, lr, rank, reach, windows, length, held_out, batch_tokens, seed)
    asked = _with_defaults(model, asked)
    require(model, ("embed", "block"))
    fitted_to, kept_out = texts.split(texts.windows(model, text, length), held_out)
    fitted_to = _spread(fitted_to, asked.windows)
    settings = _settings(asked, fitted_to, kept_out)
    point = None
    if checkpoint is not None:
        made, threads = provenance(model), torch.get_num_threads()
        weights = {"model": made.weights_hash, "device": made.device, "threads": threads}
        point = Checkpoint(Path(checkpoint), settings | weights)
    fit = _fit(model, fitted_to, asked)
    run(fit, point, f"fitting the {kind} lens", progress)
    lens = measured(model, _lens(model, fit, asked, settings), kept_out, batch_tokens)
    if output is not None:
        lens.save(output)
    if point is not None:
        point.clear()
    return lens


def _settings(asked: _Asked, fitted_to: Windows, kept_out: Windows) -> dict[str, Any]:
    """What was asked, and of which text, for the result and the checkpoint."""
    return asdict(asked) | {
        "text": fitted_to.sha256,
        "n_tokens": fitted_to.n_tokens,
        "held_out_text": kept_out.sha256,
        "held_out_tokens": kept_out.n_tokens,
    }


def _lens(model: Model, fit: Fit, asked: _Asked, settings: dict[str, Any]) -> FittedLens:
    """What a fit made, not yet measured."""
    name = f"own-position {asked.kind}" if asked.reach == "own" else asked.kind
    unknown = np.full(model.n_layers, math.nan)
    return FittedLens(
        tokens=no_tokens(),
        layers=rows_of(model)[:-1],
        vocabulary={},
        settings=settings,
        provenance=provenance(model),
        kind=asked.kind,
        name=name if asked.rank is None else f"{name} rank {asked.rank}",
        kl=unknown,
        kl_plain=unknown,
        **fit.maps(),  # pyright: ignore[reportArgumentType]
    )


def measured(model: Model, lens: FittedLens, kept_out: Windows, batch_tokens: int) -> FittedLens:
    """The lens with its divergence on held-out text beside the plain lens', and a note where it is
    the worse of the two."""
    with torch.no_grad():
        found = measure(model, kept_out, [Decoder(model), Fitted(model, lens)], batch_tokens)
    plain, own = found["kl"][:, :-1]
    worse = [row for row, a, b in zip(lens.layers, own, plain, strict=True) if not a <= b]
    notes: tuple[str, ...] = ()
    if worse:
        rows = ", ".join(worse)
        notes = (f"on held-out text this lens is further from the answer than the plain: {rows}",)
    return replace(lens, kl=own, kl_plain=plain, notes=notes)


def _fit(model: Model, windows: Windows, asked: _Asked) -> Fit:
    if asked.kind == "jacobian":
        return JacobianFit(
            model, windows, batch_tokens=asked.batch_tokens, rank=asked.rank,
            reach=asked.reach or "later", seed=asked.seed,
        )  # fmt: skip
    return TunedFit(
        model, windows, steps=asked.steps or STEPS, batch_tokens=asked.batch_tokens,
        lr=asked.lr or RATE, seed=asked.seed,
    )  # fmt: skip


def _with_defaults(model: Model, asked: _Asked) -> _Asked:
    """Refuse what cannot be, and fill in what was left open."""
    one_of("kind", asked.kind, get_args(LensKind))
    for name in ("steps", "windows", "rank", "batch_tokens"):
        if (value := getattr(asked, name)) is not None:
            whole(name, value)
    whole("seed", asked.seed, 0)
    if asked.kind == "jacobian":
        if asked.steps is not None or asked.lr is not None:
            raise InputError("steps and lr are about kind='tuned'; a Jacobian is a mean, not a fit")
        if asked.rank is not None and asked.rank > model.d_model:
            raise InputError(f"rank={asked.rank} is more than the model's width, {model.d_model}")
        reach = "later" if asked.reach is None else asked.reach
        one_of("reach", reach, get_args(Reach))
        return replace(asked, reach=reach, windows=asked.windows or JACOBIAN_WINDOWS)
    if asked.rank is not None or asked.reach is not None:
        raise InputError("rank and reach are about kind='jacobian'")
    lr = RATE if asked.lr is None else asked.lr
    if not isinstance(lr, int | float) or isinstance(lr, bool) or not 0 < lr < math.inf:
        raise InputError(f"lr={lr!r} must be a positive number")
    return replace(asked, steps=asked.steps or STEPS, lr=float(lr))


def _spread(windows: Windows, most: int | None) -> Windows:
    """At most so many windows, evenly spread over all."""
    if most is None or most >= len(windows):
        return windows
    picked = np.linspace(0, len(windows) - 1, most).round().astype(int)
    return Windows(tuple(windows.ids[number] for number in picked))
