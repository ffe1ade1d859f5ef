"""How single units are measured: each restored, estimated by gradients, or by the rule of 2022."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Float

from twinlens.model.model import Model
from twinlens.results.effects import effects_of
from twinlens.run.batches import Progress, counting
from twinlens.run.passes import Inputs
from twinlens.see.corruption import Corrupted
from twinlens.see.estimates import Estimate, estimate
from twinlens.see.question import Question
from twinlens.see.runs import Runs
from twinlens.see.units import Place, Units

Method = Literal["auto", "exact", "relp", "ig", "atp", "greedy95"]
EXACT_SECONDS = 60.0  # `auto` measures every unit where that is predicted to take less
BEST_ESTIMATE: Estimate = "atp"  # by benchmarks/neurons.py


@dataclass(frozen=True)
class Work:
    """What is measured, and with what."""

    model: Model
    question: Question
    corrupted: Corrupted
    runs: Runs
    units: Units
    asked: Sequence[Place]
    batch_tokens: int
    progress: Progress
    notes: list[str]

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
        scores[~np.broadcast_to(self.units.exists, shape)] = np.nan
        return scores

    def effects(self, scores: np.ndarray) -> np.ndarray:
        """Scores as effects; positive means that the unit matters."""
        clean, gone = self.runs.clean_score, float(self.runs.corrupted_scores.mean())
        return effects_of(scores, clean, gone, self.question.direction, self.question.metric)


@dataclass(frozen=True)
class Found:
    """Scores, which of them were measured, by which method, and how well an estimate agreed."""

    method: str
    scores: Float[np.ndarray, "layer token unit"]
    exact_mask: Bool[np.ndarray, "layer token unit"]
    agreement: Mapping[str, float] = field(default_factory=dict)


def measure(work: Work, method: Method, restored: int) -> Found:
    """Scores of all units that are asked for, by a method; `auto` chooses one."""
    if method == "auto":
        affordable = work.units.predicted_seconds(work.reached) < EXACT_SECONDS
        estimate = "ig" if _is_flat(work.question) else BEST_ESTIMATE
        method = "exact" if affordable else estimate
    if method == "exact":
        return _exact(work)
    return _greedy(work) if method == "greedy95" else _estimated(work, method, restored)


def _is_flat(question: Question) -> bool:
    """Whether the metric has no slope at the base run: a divergence from that run itself."""
    return question.metric == "kl" and question.direction == "noise"


def joint_scores(work: Work) -> Float[np.ndarray, "layer token"]:
    """The score with the whole MLP of each cell restored."""
    joint = work.nothing()[..., 0]
    if reached := work.reached:
        joint[tuple(np.array(reached).T)] = work.units.whole(reached, work.progress)
    return joint


def _exact(work: Work) -> Found:
    scores = work.nothing()
    if reached := work.reached:
        total = sum(work.units.widths[layer] for layer, _ in reached)
        with counting(total, "neurons", work.progress) as advance:
            layers, tokens = np.array(reached).T
            scores[layers, tokens] = work.units.all_units(reached, advance)
    return Found("exact", scores, np.broadcast_to(work.units.exists, scores.shape).copy())


def _estimated(work: Work, method: Estimate, restored: int) -> Found:
    scores = work.nothing()
    made = estimate(
        work.model, work.runs.base, _source_inputs(work), work.runs.score, work.units.kind, method,
        batch_tokens=work.batch_tokens, progress=work.progress,
        on_smaller=lambda n: work.notes.append(f"out of memory: went on with {n} rows a batch"),
    )  # fmt: skip
    scores[:, : made.shape[1]] += made.numpy()
    exact = np.zeros(scores.shape, bool)
    order = np.argsort(-np.nan_to_num(work.effects(scores), nan=-np.inf), axis=None, kind="stable")
    reached = np.zeros(scores.shape, bool)
    if work.reached:
        reached[tuple(np.array(work.reached).T)] = True
    reached &= work.units.exists
    order = order[reached.ravel()[order]][:restored]
    chosen = np.stack(np.unravel_index(order, scores.shape), axis=1)
    at = tuple(chosen.T)
    with counting(len(chosen), f"neurons after {method}", work.progress) as advance:
        measured = work.units.some_units(chosen, advance)
    agreement = _agreement(work.effects(scores[at]), work.effects(measured))
    scores[at], exact[at] = measured, True
    exact |= ~reached  # known without a run: nothing changes there
    return Found(method, scores, exact, agreement)


def _greedy(work: Work) -> Found:
    scores = np.where(np.isnan(work.nothing()), np.nan, 0.0)
    for place in work.asked:  # where nothing changes one unit is enough; after the focus none
        if place[1] <= work.question.focus:
            scores[*place, work.units.restored_by_greedy(place, 1)] = work.base_score
    wholes = work.units.whole(work.reached, work.progress)
    with counting(len(work.reached), "neurons, greedily", work.progress) as advance:
        for place, whole in zip(work.reached, wholes, strict=True):
            count, value = work.units.greedy(place, 0.95 * float(whole))
            scores[*place, work.units.restored_by_greedy(place, count)] = value
            advance(1)
    return Found("greedy95", scores, np.ones(scores.shape, bool))


def _source_inputs(work: Work) -> Inputs:
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
    ranks = [_ranks(x) for x in (estimated, exact)]
    best = [set(np.argsort(-x, kind="stable")[: n // 2].tolist()) for x in (estimated, exact)]
    with np.errstate(invalid="ignore", divide="ignore"):
        return {
            "restored": float(n),
            "pearson": float(np.corrcoef(estimated, exact)[0, 1]),
            "spearman": float(np.corrcoef(ranks[0], ranks[1])[0, 1]),
            "recall": len(best[0] & best[1]) / (n // 2),
        }


def _ranks(values: Float[np.ndarray, " unit"]) -> Float[np.ndarray, " unit"]:
    """Ranks from 0; equal values share the mean of theirs."""
    _, which, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts + 1) / 2)[which]
