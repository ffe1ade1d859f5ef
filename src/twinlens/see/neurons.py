"""Which single neurons does the answer depend on? Exact where that is affordable, else estimated.

Every estimate is followed by the exact restoration of its strongest units, and the result says how
well both agree.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, cast, get_args

import numpy as np
import torch
from jaxtyping import Bool, Float, Int

from twinlens.errors import InputError
from twinlens.model.model import Model
from twinlens.model.spans import Subject
from twinlens.results import NeuronResult, Tokens
from twinlens.results.effects import effects_of
from twinlens.run.batches import Progress, counting
from twinlens.run.check import require
from twinlens.run.engine import Engine
from twinlens.run.passes import Inputs
from twinlens.see.corruption import Corrupted, Corruption, Noise, corrupt
from twinlens.see.estimates import Estimate, estimate
from twinlens.see.provenance import provenance
from twinlens.see.question import Direction, Metric, Question, ask, one_of
from twinlens.see.runs import Runs, refuse_not_a_number, run_both, warnings_of
from twinlens.see.units import Basis, Place, Units, kind_of

Method = Literal["auto", "exact", "relp", "ig", "atp", "greedy95"]
EXACT_SECONDS = 60.0  # `auto` measures every unit where that is predicted to take less
BEST_ESTIMATE: Estimate = "atp"  # by benchmarks/neurons.py
DENSE_BYTES = 2**29  # larger results keep the strongest units of each cell
_KEPT = 64


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
    restored: int = 100,
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

    `keep`: how many of the strongest units of each cell the result holds; default all where they
    take at most 512 MiB, else 64 (it says so before it starts).

    Returns a `NeuronResult`, `scores[layer, token, unit]`. Raises an `InputError` naming the
    argument that does not fit, and `AnatomyError` where the model's MLPs have no known neurons.
    """
    question = ask(
        model, prompt, subject, focus=focus, answer=answer, kind="mlp", window=1,
        metric=metric, foil=foil, direction=direction,
    )  # fmt: skip
    _refuse_wrong(method, basis, engine, metric, restored, keep, batch_tokens)
    require(model, ["embed", "mlp", "neuron"] if basis == "neuron" else ["embed", "mlp"])
    corrupted = corrupt(model, question.tokens, corruption or Noise(), question.mask)
    kind = kind_of(basis)
    sites = [s for k in dict.fromkeys((kind, "mlp")) for s in model.sites(k)]
    runs = run_both(model, question, corrupted, sites, batch_tokens)
    notes = warnings_of(question, runs)
    units = Units(
        model, runs, basis, differing=np.flatnonzero(corrupted.subject_mask).tolist(),
        engine=engine, batch_tokens=batch_tokens,
        on_smaller=lambda n: notes.append(f"out of memory: went on with {n} cells a batch"),
    )  # fmt: skip
    asked = _places(model, question, cells)
    keep = _kept(question, units, asked, keep, notes)
    work = _Work(model, question, corrupted, runs, units, asked, batch_tokens, progress)
    found = _measure(work, method, restored)
    refuse_not_a_number(model, runs, found.scores[found.measured])
    notes += units.notes
    for note in notes:
        warnings.warn(note, stacklevel=2)
    asked_for = {"method": method, "basis": basis, "restored": restored, "engine": units.used}
    return _result(work, found, keep, basis, tuple(notes), asked_for)


@dataclass(frozen=True)
class _Work:
    """What is measured, and with what."""

    model: Model
    question: Question
    corrupted: Corrupted
    runs: Runs
    units: Units
    asked: Sequence[Place]
    batch_tokens: int
    progress: Progress

    @property
    def base_score(self) -> float:
        """The metric with nothing restored."""
        runs = self.runs
        denoise = self.question.direction == "denoise"
        return float(runs.corrupted_scores.mean()) if denoise else runs.clean_score

    @property
    def reached(self) -> list[Place]:
        """The places that can differ between both runs; elsewhere the score is the base's."""
        return [p for p in self.asked if self.units.first <= p[1] <= self.question.focus]

    def nothing(self) -> Float[np.ndarray, "layer token unit"]:
        """The base run's score where something was asked, NaN elsewhere."""
        shape = (self.model.n_layers, len(self.question.tokens), self.units.n_units)
        scores = np.full(shape, np.nan)
        layers, tokens = np.array(self.asked).T
        scores[layers, tokens] = self.base_score
        return scores

    def effects(self, scores: np.ndarray) -> np.ndarray:
        """Scores as effects; positive means that the unit matters."""
        clean, gone = self.runs.clean_score, float(self.runs.corrupted_scores.mean())
        return effects_of(scores, clean, gone, self.question.direction, self.question.metric)


@dataclass(frozen=True)
class _Found:
    method: str
    scores: Float[np.ndarray, "layer token unit"]
    exact_mask: Bool[np.ndarray, "layer token unit"]
    agreement: Mapping[str, float] = field(default_factory=dict)

    @property
    def measured(self) -> np.ndarray:
        return ~np.isnan(self.scores)


def _measure(work: _Work, method: Method, restored: int) -> _Found:
    if method == "auto":
        affordable = work.units.predicted_seconds(work.reached) < EXACT_SECONDS
        method = "exact" if affordable else BEST_ESTIMATE
    if method == "exact":
        return _exact(work)
    return _greedy(work) if method == "greedy95" else _estimated(work, method, restored)


def _exact(work: _Work) -> _Found:
    scores = work.nothing()
    if reached := work.reached:
        total = len(reached) * work.units.n_units
        with counting(total, "neurons", work.progress) as advance:
            layers, tokens = np.array(reached).T
            scores[layers, tokens] = work.units.all_units(reached, advance)
    return _Found("exact", scores, np.ones(scores.shape, bool))


def _estimated(work: _Work, method: Estimate, restored: int) -> _Found:
    scores = work.nothing()
    made = estimate(
        work.model, work.runs.base, _source_inputs(work), work.runs.score, work.units.kind, method,
        batch_tokens=work.batch_tokens,
    )  # fmt: skip
    scores[:, : made.shape[1]] += made.numpy()
    exact = np.zeros(scores.shape, bool)
    order = np.argsort(-np.nan_to_num(work.effects(scores), nan=-np.inf), axis=None, kind="stable")
    reached = np.zeros(scores.shape, bool)
    if work.reached:
        reached[tuple(np.array(work.reached).T)] = True
    order = order[reached.ravel()[order]][:restored]
    chosen = np.stack(np.unravel_index(order, scores.shape), axis=1)
    at = tuple(chosen.T)
    with counting(len(chosen), f"neurons after {method}", work.progress) as advance:
        measured = work.units.some_units(chosen, advance)
    agreement = _agreement(work.effects(scores[at]), work.effects(measured))
    scores[at], exact[at] = measured, True
    exact |= ~reached  # known without a run: nothing changes there
    return _Found(method, scores, exact, agreement)


def _greedy(work: _Work) -> _Found:
    scores = np.where(np.isnan(work.nothing()), np.nan, 0.0)
    with counting(len(work.reached), "neurons, greedily", work.progress) as advance:
        for place, whole in zip(work.reached, work.units.whole(work.reached), strict=True):
            count, value = work.units.greedy(place, 0.95 * float(whole))
            scores[*place, work.units.restored_by_greedy(place, count)] = value
            advance(1)
    return _Found("greedy95", scores, np.ones(scores.shape, bool))


def _source_inputs(work: _Work) -> Inputs:
    """The inputs of the run that states come from."""
    if work.question.direction == "noise":
        return work.corrupted.inputs.until(work.question.focus + 1)
    return Inputs(torch.from_numpy(work.question.tokens.ids)[None, : work.question.focus + 1])


def _agreement(
    estimated: Float[np.ndarray, " unit"], exact: Float[np.ndarray, " unit"]
) -> dict[str, float]:
    """How well an estimate ordered the units that were restored after it."""
    n = len(exact)
    if n < 2:
        return {"restored": float(n)}
    ranks = np.stack([np.argsort(np.argsort(x)) for x in (estimated, exact)])
    best = [set(np.argsort(-x, kind="stable")[: n // 2].tolist()) for x in (estimated, exact)]
    with np.errstate(invalid="ignore", divide="ignore"):
        return {
            "restored": float(n),
            "pearson": float(np.corrcoef(estimated, exact)[0, 1]),
            "spearman": float(np.corrcoef(ranks[0], ranks[1])[0, 1]),
            "recall": len(best[0] & best[1]) / (n // 2),
        }


def _places(model: Model, question: Question, cells: Sequence[Place] | None) -> list[Place]:
    """The (layer, token) pairs that are asked for; after the focus nothing has an effect."""
    n_layers, n_tokens = model.n_layers, len(question.tokens)
    if cells is None:
        return [(layer, token) for layer in range(n_layers) for token in range(n_tokens)]
    try:
        places = [(int(layer), int(token)) for layer, token in cells]
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
    question: Question, units: Units, asked: Sequence[Place], keep: int | None, notes: list[str]
) -> int:
    """How many units of a cell the result holds; says so before the work starts."""
    everything = units.model.n_layers * len(question.tokens) * units.n_units * 9
    if keep is not None:
        return min(keep, units.n_units)
    if everything <= DENSE_BYTES:
        return units.n_units
    note = (
        f"all {len(asked) * units.n_units:,} scores would take {everything / 2**30:.1f} GiB: the"
        f" result keeps the {_KEPT} strongest units of each cell, and the sums over all"
    )
    warnings.warn(note, stacklevel=3)
    notes.append(note)
    return min(_KEPT, units.n_units)


def _result(
    work: _Work,
    found: _Found,
    keep: int,
    basis: Basis,
    notes: tuple[str, ...],
    asked: dict[str, Any],
) -> NeuronResult:
    model, question, runs, scores = work.model, work.question, work.runs, found.scores
    effects = scores if found.method == "greedy95" else work.effects(scores)
    kept = np.zeros((*scores.shape[:2], 0), np.int64)
    mask = found.exact_mask
    if keep < work.units.n_units:
        kept = _strongest(effects, keep)
        scores, mask = (np.take_along_axis(a, kept, axis=2) for a in (scores, mask))
    joint = work.nothing()[..., 0]
    if reached := work.reached:
        joint[tuple(np.array(reached).T)] = work.units.whole(reached)
    return NeuronResult(
        tokens=question.tokens,
        layers=tuple(str(layer) for layer in range(model.n_layers)),
        vocabulary=model.vocabulary(question.tokens.ids, np.array([runs.answer, runs.top])),
        settings=question.settings() | work.corrupted.settings | asked,
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
        mean=effects.mean(-1),
        max=effects.max(-1),
        positive=np.where(effects > 0, effects, 0.0 * effects).sum(-1),
        joint=joint,
        clean=runs.clean_score,
        corrupted=float(runs.corrupted_scores.mean()),
        corrupted_samples=runs.corrupted_scores,
        subject_mask=work.corrupted.subject_mask,
        focus=question.focus,
        answer=runs.answer,
        agreement=found.agreement,
    )


def _strongest(
    effects: Float[np.ndarray, "layer token unit"], keep: int
) -> Int[np.ndarray, "layer token kept"]:
    """The numbers of the strongest units of each cell, strongest first."""
    strength = np.nan_to_num(np.abs(effects), nan=-1.0)
    return np.argsort(-strength, axis=-1, kind="stable")[..., :keep]


def _refuse_wrong(
    method: str, basis: str, engine: str, metric: str, restored: int, keep: int | None, tokens: int
) -> None:
    one_of("method", method, get_args(Method))
    one_of("basis", basis, get_args(Basis))
    one_of("engine", engine, get_args(Engine))
    if method == "greedy95" and metric != "probability":
        raise InputError("method='greedy95' is a rule about metric='probability'")
    for name, value, least in (
        ("restored", restored, 0), ("batch_tokens", tokens, 1), ("keep", keep, 1),
    ):  # fmt: skip
        if value is not None and (not isinstance(value, int) or value < least):
            raise InputError(f"{name}={value!r} must be a whole number of at least {least}")
