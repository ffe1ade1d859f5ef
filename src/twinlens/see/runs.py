"""The clean and the corrupted run of a question, and how their answer is scored.

What every trace starts from: two runs, one into which states are put and one from which they come.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from twinlens.errors import CorruptionError, SubjectError
from twinlens.model.anatomy import Site
from twinlens.model.model import Model
from twinlens.run.passes import Inputs, Reading, Score, Values, read
from twinlens.see.corruption import Corrupted
from twinlens.see.question import Metric, Question

SMALL_EFFECT = 0.05  # in probability: a smaller total effect makes a picture of noise


@dataclass(frozen=True)
class Runs:
    """The clean and the corrupted run up to the focus, and how their answer is scored."""

    clean: Reading
    corrupted: Reading
    base: Inputs  # the run into which states are put
    source: Reading  # the run from which they come
    answer: int
    top: int
    score: Score

    @property
    def clean_score(self) -> float:
        """The metric of the clean run."""
        return float(self.score(self.clean.logits)[0])

    @property
    def corrupted_scores(self) -> Float[np.ndarray, " sample"]:
        """The metric of every sample of the corrupted run."""
        return self.score(self.corrupted.logits).double().cpu().numpy()


def run_both(
    model: Model,
    question: Question,
    corrupted: Corrupted,
    sites: Sequence[Site],
    batch_tokens: int,
) -> Runs:
    """Run clean and corrupted up to the focus; read `sites` where the states come from."""
    stop = question.focus + 1
    if not corrupted.subject_mask[:stop].any():
        raise SubjectError(f"nothing is corrupted at or before the focus (token {question.focus})")
    denoise = question.direction == "denoise"
    clean_inputs = Inputs(torch.from_numpy(question.tokens.ids)[None, :stop])
    other_inputs = corrupted.inputs.until(stop)
    clean = read(model, clean_inputs, sites if denoise else [])
    other = read(model, other_inputs, [] if denoise else sites, batch_tokens=batch_tokens)
    top = int(clean.logits[0].argmax())
    answer = top if question.answer is None else question.answer
    return Runs(
        clean=clean,
        corrupted=other,
        base=other_inputs if denoise else clean_inputs.repeated(other_inputs.samples),
        source=clean if denoise else other,
        answer=answer,
        top=top,
        score=_scorer(question, answer, clean.logits[0]),
    )


def stacked(runs: Sequence[Runs]) -> tuple[Inputs, Values, Score]:
    """Runs of one length as one, whose rows share passes: their base runs, the states that are put
    in, and the score of rows [cell, run, sample], each by its own run's metric."""
    first = runs[0]
    if len(runs) == 1:
        return first.base, first.source.values, first.score
    samples = first.base.samples
    values = {
        site: torch.cat([run.source.values[site].expand(samples, -1, -1) for run in runs])
        for site in first.source.values
    }

    def score(logits: Float[Tensor, "row vocab"]) -> Float[Tensor, " row"]:
        rows = logits.view(-1, len(runs), samples, logits.shape[-1])
        each = [run.score(rows[:, n].flatten(0, 1)) for n, run in enumerate(runs)]
        return torch.stack(each).view(len(runs), -1, samples).transpose(0, 1).flatten()

    return Inputs.stacked([run.base for run in runs]), values, score


def refuse_not_a_number(model: Model, runs: Runs, samples: np.ndarray) -> None:
    """Raises `CorruptionError` where a score is no finite number."""
    for run, scores in (
        ("clean", np.array(runs.clean_score)),
        ("corrupted", runs.corrupted_scores),
        ("restored", samples),
    ):
        if not np.isfinite(scores).all():
            raise CorruptionError(
                f"{int((~np.isfinite(scores)).sum())} scores of the {run} run are not finite"
                f" numbers: the corruption is too strong for this model in {model.dtype}; give a"
                " smaller sigma, or load the model as float32"
            )


def _scorer(question: Question, answer: int, clean: Float[Tensor, " vocab"]) -> Score:
    """The metric as a function of logits `[row, vocab]`; one number a row."""
    reference = clean.log_softmax(-1)
    scorers: dict[Metric, Score] = {
        "probability": lambda z: z.softmax(-1)[:, answer],
        "log_probability": lambda z: z.log_softmax(-1)[:, answer],
        "logit": lambda z: z[:, answer],
        "logit_difference": lambda z: z[:, answer] - z[:, question.foil or 0],
        "kl": lambda z: (reference.exp() * (reference - z.log_softmax(-1))).sum(-1),
    }
    return scorers[question.metric]


def warnings_of(model: Model, question: Question, runs: Runs) -> list[str]:
    """What a reader must know before trusting the picture."""
    clean = float(runs.clean.logits.softmax(-1)[0, runs.answer])
    corrupted = float(runs.corrupted.logits.softmax(-1)[:, runs.answer].mean())
    notes = []
    if model.anatomy.beside is not None:
        notes.append(
            f"the blocks of {model.anatomy.family} also take {model.anatomy.beside}: what goes that"
            " way is in no cell, so that a whole row of states does not carry the whole answer"
        )
    if runs.answer != runs.top:
        top = float(runs.clean.logits.softmax(-1)[0, runs.top])
        notes.append(
            f"the answer (p = {clean:.3f}) is not the model's prediction at the focus"
            f" (token id {runs.top}, p = {top:.3f})"
        )
    if abs(clean - corrupted) < SMALL_EFFECT:
        notes.append(
            f"the corruption changes the answer's probability by only {clean - corrupted:+.3f}"
            f" (clean {clean:.3f}, corrupted {corrupted:.3f}): effects this small are mostly noise"
        )
    return notes
