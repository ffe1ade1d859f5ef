"""Which parts a text uses: scores of every neuron and head, read off in one pass over the text."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float32, Int
from torch import Tensor

from twinlens.change.constants import means_of
from twinlens.change.written import Sums, Writers, sums_of
from twinlens.errors import ChangeError, InputError
from twinlens.model.anatomy import Site, SiteKind
from twinlens.model.model import Model
from twinlens.results.fitted import no_tokens
from twinlens.results.use import MEASURES, UseResult
from twinlens.run.batches import Progress, counting, in_batches
from twinlens.run.check import require
from twinlens.see.provenance import provenance
from twinlens.see.question import whole
from twinlens.see.texts import Text, Windows, joined, windows
from twinlens.see.units import numbering_of

GROUPS = 16  # of documents, from which halves are drawn
_KINDS: tuple[SiteKind, ...] = ("neuron", "head")
PILOT = 8192  # tokens that give the first estimate of the means


def use_map(
    model: Model,
    text: Text,
    *,
    gradients: bool = True,
    threshold: float = 0.1,
    length: int = 128,
    batch_tokens: int = 2048,
    progress: Progress = None,
) -> UseResult:
    """How much does a text use each neuron and each head of a model?

    `text`: a file, "hamlet" or documents (see `fit_lens`), read in windows of `length` tokens,
    special tokens included, at most `batch_tokens` in a pass. The scores are those of `UseResult`;
    `effect` needs a pass back as well (`gradients`). `threshold` says which units are silent. What
    is held does not grow with the text: sums of up to 16 groups of documents (of windows, where
    there are fewer documents).

    `mean_use` is the mean distance from a mean, which a single pass knows at its end. Distances are
    taken from the mean of about 8,192 tokens in windows spread evenly over the text, read
    beforehand, and then moved to the mean of all by the tangent there: exact where the text has no
    more tokens, else a lower bound, below the truth by `settings["mean_use_error"]` at the very
    most (a share; the median over units).

    Returns a `UseResult`. Raises `InputError` where the text cannot be read, `ChangeError` where
    layers differ in width or units write by no plain linear map, `AnatomyError` where the model is
    not known well enough.
    """
    whole("batch_tokens", batch_tokens)
    if not isinstance(threshold, int | float) or not 0 <= threshold < np.inf:
        raise InputError(f"threshold={threshold!r} must be a number that is not negative")
    writers = _writers(model)
    groups = _groups(windows(model, text, length))
    read = joined(groups)
    pilot = _pilot(read)
    centres = _centres(model, writers, pilot, batch_tokens)
    with counting(read.n_tokens, "use", progress) as advance:
        sums = [
            _summed(model, group, writers, centres, gradients, batch_tokens, advance)
            for group in groups
        ]
    per_group = np.array([group.n_tokens for group in groups])
    made, error = _arrays(model, sums, writers, centres, per_group)
    settings: dict[str, Any] = {"text": read.sha256, "length": length, "gradients": gradients}
    if numbering := numbering_of(model):
        settings["experts"] = numbering
    return UseResult(
        tokens=no_tokens(),
        layers=tuple(map(str, range(model.n_layers))),
        vocabulary={},
        settings=settings | {"pilot_tokens": pilot.n_tokens, "mean_use_error": error},
        provenance=provenance(model),
        group_tokens=per_group,
        threshold=float(threshold),
        **made,
    )


def _writers(model: Model) -> dict[Site, Writers]:
    """The units of all sites that the model has, refused where their place is not proven."""
    kinds: list[SiteKind] = [kind for kind in _KINDS if model.anatomy.has(kind)]
    if not kinds:
        raise ChangeError(f"{model.name}: the anatomy knows neither neurons nor heads")
    require(model, kinds)
    return {site: Writers.of(model, site) for kind in kinds for site in model.sites(kind)}


def _arrays(
    model: Model,
    sums: Sequence[Sums],
    writers: Mapping[Site, Writers],
    centres: Mapping[Site, Float[Tensor, "..."]],
    tokens: Int[np.ndarray, " group"],
) -> tuple[dict[str, Any], float]:
    """The arrays and the loss of a `UseResult`, by name, and the error of `mean_use`."""
    every = Sums()
    for one in sums:
        every.add(one)
    error = _move_to_means(every, sums, writers, centres, tokens)
    magnitudes = {site: units.magnitude for site, units in writers.items()}
    made: dict[str, Any] = {
        "loss": every.loss / every.predicted if every.predicted else float("nan")
    }
    for kind in _KINDS:
        made[f"{kind}s"] = _by_group(model, kind, sums, tokens)
        made[f"{kind}_magnitude"] = _stacked(model, kind, magnitudes)
        made[f"{kind}_peak"] = _stacked(model, kind, every.peak)
    return made, error


def _groups(parts: Sequence[Windows]) -> list[Windows]:
    """Documents in turn, or, where there are few, runs of windows; none is empty."""
    if len(parts) >= GROUPS:
        return [joined(parts[start::GROUPS]) for start in range(GROUPS)]
    every = joined(parts).ids
    edges = np.linspace(0, len(every), min(GROUPS, len(every)) + 1).round().astype(int)
    return [Windows(every[a:b]) for a, b in pairwise(edges.tolist())]


def _pilot(read: Windows) -> Windows:
    """All windows, or every n-th, so that they have about `PILOT` tokens."""
    return Windows(read.ids[:: -(-read.n_tokens // PILOT)])


def _centres(
    model: Model, writers: Mapping[Site, Writers], pilot: Windows, batch_tokens: int
) -> dict[Site, Float[Tensor, "..."]]:
    means = means_of(model, list(writers), pilot, batch_tokens, False)
    return {at: torch.from_numpy(mean).to(writers[at].root) for at, mean in means.items()}


def _summed(
    model: Model,
    group: Windows,
    writers: Mapping[Site, Writers],
    centres: Mapping[Site, Float[Tensor, "..."]],
    gradients: bool,
    batch_tokens: int,
    advance: Callable[[int], None],
) -> Sums:
    """The sums over a group of documents, pass by pass."""
    per_batch = max(1, batch_tokens // max(len(window) for window in group.ids))
    total = Sums()

    def work(numbers: Sequence[int]) -> tuple[Sums, int]:
        batch = group.batch(numbers)
        made = sums_of(model, batch, writers, centres, gradients=gradients)
        return made, int(batch.real.sum())

    for made, n_tokens in in_batches(range(len(group)), per_batch, work):
        total.add(made)
        advance(n_tokens)
    return total


def _by_group(
    model: Model, kind: SiteKind, sums: Sequence[Sums], tokens: Int[np.ndarray, " group"]
) -> Float32[np.ndarray, "measure group layer unit"]:
    """Means over the tokens of each group."""
    groups = [
        np.stack(
            [_stacked(model, kind, {s: m[n] for s, m in one.measures.items()}) for one in sums]
        )
        for n in range(len(MEASURES))
    ]
    return (np.stack(groups) / tokens[:, None, None]).astype(np.float32)


def _stacked(
    model: Model, kind: SiteKind, values: Mapping[Site, Float[Tensor, "..."]]
) -> Float32[np.ndarray, "layer unit"]:
    """The values of a kind of site, layers top to bottom; no units where there are none."""
    rows = [values[site].cpu().numpy() for site in model.sites(kind) if site in values]
    if not rows:
        return np.zeros((model.n_layers, 0), np.float32)
    if len({len(row) for row in rows}) > 1:
        raise ChangeError(f"{model.name}: its layers differ in their number of {kind}s")
    return np.stack(rows).astype(np.float32)


def _move_to_means(
    every: Sums,
    sums: Sequence[Sums],
    writers: Mapping[Site, Writers],
    centres: Mapping[Site, Float[Tensor, "..."]],
    tokens: Int[np.ndarray, " group"],
) -> float:
    """Turn mean distances from the centres into those from the means, which are known by now.

    By the tangent at the centre: a mean distance is convex in what it is from, so the true one is
    no less, and no more than that at the centre and the way between both. Returns how far these
    bounds are apart, as a share: the median over units.
    """
    n_tokens, shares = int(tokens.sum()), list[np.ndarray]()
    for site, units in writers.items():
        mean = (every.inputs[site] / n_tokens).to(units.root)
        way = units.written((mean - centres[site])[None])[0].double().cpu()
        for one in (*sums, every):
            one.measures[site][1] -= (one.turned[site] * way).sum(1)
            one.measures[site][1].clamp_(min=0)
        slack = way.norm(dim=1) + (every.turned[site] * way).sum(1) / n_tokens
        shares.append((slack * n_tokens / every.measures[site][1].clamp(min=1e-30)).numpy())
    return float(np.median(np.concatenate(shares)))
