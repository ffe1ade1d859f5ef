"""Which single neurons does the answer depend on? Exact where that is affordable, else estimated.

Every estimate is followed by the exact restoration of its strongest units, and the result says how
well both agree.
"""

from __future__ import annotations

import operator
import warnings
from collections.abc import Sequence
from typing import Any, cast, get_args

import numpy as np
import torch
from jaxtyping import Float, Int

from twinlens.errors import InputError
from twinlens.model.anatomy import SiteKind
from twinlens.model.model import Model
from twinlens.model.spans import Subject
from twinlens.results import NeuronResult, Tokens
from twinlens.run.batches import Progress
from twinlens.run.check import require
from twinlens.run.engine import Engine
from twinlens.see.card import written_tokens
from twinlens.see.corruption import Corrupted, Corruption, Noise, corrupt
from twinlens.see.measuring import Found, Method, Work, joint_scores, measure
from twinlens.see.provenance import provenance
from twinlens.see.question import Direction, Metric, Question, ask, one_of, whole
from twinlens.see.runs import refuse_not_a_number, run_both, warnings_of
from twinlens.see.units import Basis, Place, Units, kind_of, told_of, widths_of

DENSE_BYTES = 2**29  # larger results keep the strongest units of each cell
_KEPT = 64
_NAMED = 100  # neurons of which the result tells what they write
_BYTES = 56  # a score, at the peak of the work
_HALF = (
    "the weights are {dtype}: effects of single neurons are about as large as its rounding; load"
    " the model with dtype='float32' for effects that can be trusted"
)


def neuron_trace(
    model: Model,
    prompt: str | Tokens,
    subject: Subject | None = None,
    *,
    focus: int | str = -1,
    answer: str | int | None = None,
    method: Method = "auto",
    basis: Basis = "neuron",
    cells: Sequence[Place] | None = None,
    restored: int = 110,
    keep: int | None = None,
    corruption: Corruption | None = None,
    metric: Metric = "probability",
    foil: str | int | None = None,
    direction: Direction = "denoise",
    engine: Engine = "auto",
    batch_tokens: int = 16384,
    progress: Progress = None,
) -> NeuronResult:
    """Which single MLP units does the answer at the focus depend on?

    The question is that of `causal_trace`, with the same arguments, asked of every unit of every
    MLP: `basis="neuron"` means the inputs of the down-projection, `"coordinate"` the coordinates of
    what the MLP adds to the residual. `cells`: only these (layer, token) pairs; default all.

    `method`:
    `exact` restores each unit alone. `atp` (attribution patching), `ig` (integrated gradients over
    the embeddings) and `relp` (relevance patching) estimate that from gradients, after which the
    `restored` strongest units are restored exactly. `greedy95` is the rule of 2022: units are
    restored together in descending order of their clean activation until the probability reaches
    95 % of that with the whole MLP restored; their score is that probability, all others get 0. It
    is not the default because the score says how many units were needed in an order that does
    not know the answer, not what each of them does. `auto` (default) is exact where that is
    predicted to take under a minute, else `atp`, which agreed best with exact where it was measured
    (docs/benchmarks.md).

    `keep`: how many of the strongest units of each cell the result holds; default all where the
    scores take at most 512 MiB, else 64. Where the work takes more than that, it says so before it
    starts.

    Returns a `NeuronResult`, `scores[layer, token, unit]`. Raises an `InputError` naming the
    argument that does not fit, and `AnatomyError` where the model's MLPs have no known neurons.
    """
    question = ask(
        model, prompt, subject, focus=focus, answer=answer, kind="mlp", window=1,
        metric=metric, foil=foil, direction=direction,
    )  # fmt: skip
    _refuse_wrong(model, method, basis, engine, metric, direction, restored, keep, batch_tokens)
    require(model, ["embed", "mlp", "neuron"] if basis == "neuron" else ["embed", "mlp"])
    corrupted = corrupt(model, question.tokens, corruption or Noise(), question.mask)
    asked = _places(model, question, cells)
    kept, large = _kept(model, question, kind_of(basis), keep)
    if large:
        warnings.warn(large, stacklevel=2)
    work = _work(model, question, corrupted, asked, basis, engine, batch_tokens, progress)
    found = measure(work, method, restored)
    joint = joint_scores(work)
    filled = np.where(work.units.exists, found.scores, 0.0)
    for scores in (filled, joint):
        refuse_not_a_number(model, work.runs, scores[tuple(np.array(asked).T)])
    said = tuple(dict.fromkeys([*work.notes, *work.units.notes]))
    for note in said:
        warnings.warn(note, stacklevel=2)
    asked_for = {"method": method, "basis": basis, "restored": restored, "engine": work.units.used}
    notes = said if large is None else (large, *said)
    return _result(work, found, joint, min(kept, work.units.n_units), basis, notes, asked_for)


def _work(
    model: Model,
    question: Question,
    corrupted: Corrupted,
    asked: Sequence[Place],
    basis: Basis,
    engine: Engine,
    batch_tokens: int,
    progress: Progress,
) -> Work:
    """Both runs, and what restores units in one of them."""
    sites = [s for k in dict.fromkeys((kind_of(basis), "mlp")) for s in model.sites(k)]
    runs = run_both(model, question, corrupted, sites, batch_tokens)
    notes = warnings_of(model, question, runs)
    if model.precision in (torch.float16, torch.bfloat16):
        kind = "quantised" if model.is_quantised else model.dtype
        notes.append(_HALF.format(dtype=kind))
    units = Units(
        model, runs, basis, differing=np.flatnonzero(corrupted.subject_mask).tolist(),
        engine=engine, batch_tokens=batch_tokens,
        on_smaller=lambda n: notes.append(f"out of memory: went on with {n} cells a batch"),
    )  # fmt: skip
    return Work(model, question, corrupted, runs, units, asked, batch_tokens, progress, notes)


def _places(model: Model, question: Question, cells: Sequence[Place] | None) -> list[Place]:
    """The (layer, token) pairs that are asked for; after the focus nothing has an effect."""
    n_layers, n_tokens = model.n_layers, len(question.tokens)
    if cells is None:
        return [(layer, token) for layer in range(n_layers) for token in range(n_tokens)]
    try:
        places = [(operator.index(layer), operator.index(token)) for layer, token in cells]
    except (TypeError, ValueError):
        places = []
    wrong = [p for p in places if not (0 <= p[0] < n_layers and 0 <= p[1] < n_tokens)]
    if wrong or not places:
        raise InputError(
            f"cells={wrong or cells!r}: expected (layer, token) pairs, layers 0 to"
            f" {n_layers - 1}, tokens 0 to {n_tokens - 1}"
        )
    return list(dict.fromkeys(places))


def _kept(
    model: Model, question: Question, kind: SiteKind, keep: int | None
) -> tuple[int, str | None]:
    """How many units of a cell the result holds, and what to say of it before the work starts."""
    n_units = max(widths_of(model, kind))
    n = model.n_layers * len(question.tokens) * n_units
    kept = keep or (n_units if n * 9 <= DENSE_BYTES else _KEPT)
    if n * _BYTES <= DENSE_BYTES:
        return kept, None
    holds = "all of them" if kept >= n_units else f"the {kept} strongest of each cell, and sums"
    return kept, (
        f"{n:,} scores need about {n * _BYTES / 2**30:.1f} GiB while they are made; the result"
        f" holds {holds}"
    )


def _result(
    work: Work,
    found: Found,
    joint: Float[np.ndarray, "layer token"],
    keep: int,
    basis: Basis,
    notes: tuple[str, ...],
    asked: dict[str, Any],
) -> NeuronResult:
    model, question, runs, scores = work.model, work.question, work.runs, found.scores
    effects = scores if found.method == "greedy95" else work.effects(scores)
    named = _named(effects) if basis == "neuron" else np.zeros((0, 2), np.int64)
    promoted, suppressed = written_tokens(model, [(int(at), int(n)) for at, n in named])
    scores, mask, kept = _kept_arrays(work, found, effects, keep)
    settings = question.settings() | work.corrupted.settings | asked
    settings |= told_of(model, basis, work.units.widths)
    return NeuronResult(
        tokens=question.tokens,
        layers=tuple(str(layer) for layer in range(model.n_layers)),
        vocabulary=model.vocabulary(
            question.tokens.ids, np.array([runs.answer, runs.top]), promoted, suppressed
        ),
        settings=settings,
        provenance=provenance(model),
        notes=notes,
        basis=basis,
        method=cast(Any, found.method),
        direction=question.direction,
        metric=question.metric,
        scores=scores,
        exact_mask=mask,
        kept=kept,
        n_units=work.units.n_units,
        **_by_cell(work.units, effects),
        joint=joint,
        clean=runs.clean_score,
        corrupted=float(runs.corrupted_scores.mean()),
        corrupted_samples=runs.corrupted_scores,
        subject_mask=work.corrupted.subject_mask,
        focus=question.focus,
        answer=runs.answer,
        agreement=found.agreement,
        named=named,
        promoted=promoted,
        suppressed=suppressed,
    )


def _by_cell(
    units: Units, effects: Float[np.ndarray, "layer token unit"]
) -> dict[str, Float[np.ndarray, "layer token"]]:
    """Mean, maximum and sum of the positive effects of the units that there are."""
    there = np.where(units.exists, effects, 0.0)
    return {
        "mean": there.sum(-1) / np.array(units.widths)[:, None],
        "max": np.where(units.exists, effects, -np.inf).max(-1),
        "positive": np.where(there > 0, there, 0.0 * there).sum(-1),
    }


def _kept_arrays(
    work: Work, found: Found, effects: Float[np.ndarray, "layer token unit"], keep: int
) -> tuple[np.ndarray, np.ndarray, Int[np.ndarray, "layer token kept"]]:
    """Scores, what is exact, and the numbers of the units that are kept (none where all are)."""
    scores, mask = found.scores, found.exact_mask
    if keep >= work.units.n_units:
        return scores, mask, np.zeros((*scores.shape[:2], 0), np.int64)
    kept = _strongest(effects, keep)
    scores, mask = (np.take_along_axis(a, kept, axis=2) for a in (scores, mask))
    return scores, mask, kept


def _named(effects: Float[np.ndarray, "layer token unit"]) -> Int[np.ndarray, "writer 2"]:
    """The neurons (layer, number) with the largest effect at any token, strongest first."""
    strength = np.nan_to_num(np.abs(effects), nan=0.0).max(axis=1)
    order = np.argsort(-strength, axis=None, kind="stable")[:_NAMED]
    order = order[strength.ravel()[order] > 0]
    return np.stack(np.unravel_index(order, strength.shape), axis=1)


def _strongest(
    effects: Float[np.ndarray, "layer token unit"], keep: int
) -> Int[np.ndarray, "layer token kept"]:
    """The numbers of the strongest units of each cell, strongest first."""
    strength = np.nan_to_num(np.abs(effects), nan=-1.0)
    return np.argsort(-strength, axis=-1, kind="stable")[..., :keep]


def _refuse_wrong(
    model: Model,
    method: str,
    basis: str,
    engine: str,
    metric: str,
    direction: str,
    restored: int,
    keep: int | None,
    tokens: int,
) -> None:
    one_of("method", method, get_args(Method))
    one_of("basis", basis, get_args(Basis))
    one_of("engine", engine, get_args(Engine))
    if method == "greedy95" and (metric, direction) != ("probability", "denoise"):
        raise InputError(
            "method='greedy95' is a rule about metric='probability' and direction='denoise'"
        )
    if method in ("atp", "relp") and (metric, direction) == ("kl", "noise"):
        raise InputError(
            f"method={method!r} is a slope at the clean run, where a divergence from that run has"
            " none; choose 'ig' or 'exact'"
        )
    if method == "relp" and model.anatomy.experts is not None:
        raise InputError(
            "method='relp' has no rules for experts and their router; choose 'atp', 'ig' or 'exact'"
        )
    for name, value, least in (
        ("restored", restored, 0), ("batch_tokens", tokens, 1), ("keep", keep, 1),
    ):  # fmt: skip
        if value is not None:
            whole(name, value, least)
