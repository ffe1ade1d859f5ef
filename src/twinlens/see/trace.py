"""The causal trace: which states does the answer at the focus really depend on?

Run clean, run corrupted, then once for every state with that state taken from the other run.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import get_args

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from twinlens.errors import CorruptionError, InputError, SubjectError
from twinlens.model.anatomy import Site, SiteKind
from twinlens.model.model import Model
from twinlens.model.spans import Subject
from twinlens.results import Tokens, TraceResult
from twinlens.run.batches import Progress, counting
from twinlens.run.check import require
from twinlens.run.engine import Engine, Engines
from twinlens.run.passes import Cell, Inputs, Reading, Score, State, read
from twinlens.see.corruption import Corrupted, Corruption, Noise, corrupt
from twinlens.see.provenance import provenance
from twinlens.see.question import Direction, Kind, Metric, Question, ask, one_of

SMALL_EFFECT = 0.05  # in probability: a smaller total effect makes a picture of noise


def causal_trace(
    model: Model,
    prompt: str | Tokens,
    subject: Subject | None = None,
    *,
    focus: int | str = -1,
    answer: str | int | None = None,
    kind: Kind = "block",
    window: int = 1,
    corruption: Corruption | None = None,
    metric: Metric = "probability",
    foil: str | int | None = None,
    direction: Direction = "denoise",
    engine: Engine = "auto",
    batch_tokens: int = 4096,
    progress: Progress = None,
) -> TraceResult:
    """Which states does the answer at the focus depend on? (Meng et al. 2022)

    The `subject` (text: each occurrence before the focus; a token span; or several) is corrupted by
    `corruption` (default `tl.Noise()`); then, for every layer and token, the state there is set to
    its clean value and the `metric` of the `answer` at the `focus` is read, for each sample.

    `focus`: the position whose next-token prediction is explained, an index or a text (the token
    where its last occurrence begins); default the last. `answer`: the token explained there, as
    text or id, "next" for the true next token, or None for the model's own prediction.
    `kind`: `block` (residual after the block, with the `embed` row), `mlp`, `attn` (outputs of
    the sub-blocks), `head` (each head's output before the projection). `window`: how many layers
    around a row are restored together, `[l - w//2, l + ceil(w/2))`.
    `metric`: `probability`, `log_probability`, `logit`, `logit_difference` (needs `foil`), or `kl`
    (from the clean prediction, nats). `direction`: `denoise` restores clean states in the corrupted
    run (sufficiency), `noise` puts corrupted states into the clean run (necessity).
    `engine`: `hooks` runs the whole model for every cell; `replay` only what the cell can reach;
    `auto` replays where a few cells, run both ways on this model, agree, and says where not.
    `batch_tokens` bounds the tokens of one forward pass.

    Returns a `TraceResult`, `scores[layer, token]` (and a head axis for `head`). Warns where the
    total effect is small or the answer is not the model's prediction. Raises an `InputError`
    naming the argument that does not fit, `AnatomyError` where the model fails its checks, and
    `ReplayError` where `engine="replay"` is asked of blocks that cannot be replayed.
    """
    question = ask(
        model, prompt, subject, focus=focus, answer=answer, kind=kind, window=window,
        metric=metric, foil=foil, direction=direction,
    )  # fmt: skip
    one_of("engine", engine, get_args(Engine))
    if not isinstance(batch_tokens, int) or batch_tokens < 1:
        raise InputError(f"batch_tokens={batch_tokens!r} must be a whole number of at least 1")
    require(model, ["embed", kind])
    corrupted = corrupt(model, question.tokens, corruption or Noise(), question.mask)
    runs = _run_both(model, question, corrupted, batch_tokens)
    notes: list[str] = []
    engines = Engines(
        model, engine, runs.base, runs.source.values, _cells(model, question), runs.score,
        first=int(np.flatnonzero(corrupted.subject_mask)[0]), batch_tokens=batch_tokens,
        on_smaller=lambda n: notes.append(f"out of memory: went on with {n} cells a batch"),
    )  # fmt: skip
    samples = _restore_all(model, question, runs, engines, progress)
    _refuse_not_a_number(model, runs, samples)
    notes = [*_warnings(question, runs), *notes, *([engines.note] if engines.note else [])]
    scores = samples.mean(axis=-1)
    nothing = float(runs.corrupted_scores.mean()) if direction == "denoise" else runs.clean_score
    scores[:, question.focus + 1 :] = nothing  # to the last bit, whatever the mean rounds
    for note in notes:
        warnings.warn(note, stacklevel=2)
    return TraceResult(
        tokens=question.tokens,
        layers=_row_names(model, kind),
        vocabulary=model.vocabulary(question.tokens.ids, np.array([runs.answer, runs.top])),
        settings=question.settings() | corrupted.settings | {"engine": engines.used},
        provenance=provenance(model),
        notes=tuple(notes),
        kind=kind,
        direction=direction,
        metric=metric,
        scores=scores,
        samples=samples,
        clean=runs.clean_score,
        corrupted=float(runs.corrupted_scores.mean()),
        corrupted_samples=runs.corrupted_scores,
        subject_mask=corrupted.subject_mask,
        focus=question.focus,
        answer=runs.answer,
        window=window,
    )


@dataclass(frozen=True)
class _Runs:
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
        return float(self.score(self.clean.logits)[0])

    @property
    def corrupted_scores(self) -> Float[np.ndarray, " sample"]:
        return self.score(self.corrupted.logits).double().cpu().numpy()


def _run_both(model: Model, question: Question, corrupted: Corrupted, batch_tokens: int) -> _Runs:
    stop = question.focus + 1
    if not corrupted.subject_mask[:stop].any():
        raise SubjectError(f"nothing is corrupted at or before the focus (token {question.focus})")
    denoise = question.direction == "denoise"
    sites = [s for kind in _kinds(question.kind) for s in model.sites(kind)]
    clean_inputs = Inputs(torch.from_numpy(question.tokens.ids)[None, :stop])
    other_inputs = corrupted.inputs.until(stop)
    clean = read(model, clean_inputs, sites if denoise else [])
    other = read(model, other_inputs, [] if denoise else sites, batch_tokens=batch_tokens)
    top = int(clean.logits[0].argmax())
    answer = top if question.answer is None else question.answer
    return _Runs(
        clean=clean,
        corrupted=other,
        base=other_inputs if denoise else Inputs(clean_inputs.ids.expand(other_inputs.samples, -1)),
        source=clean if denoise else other,
        answer=answer,
        top=top,
        score=_scorer(question, answer, clean.logits[0]),
    )


def _restore_all(
    model: Model, question: Question, runs: _Runs, engines: Engines, progress: Progress
) -> Float[np.ndarray, "layer token *head sample"]:
    """Scores of every cell and sample; cells after the focus have the base run's score."""
    n_cells, n_samples = len(engines.cells), runs.base.samples
    scores = np.empty((n_cells, n_samples))
    with counting(n_cells, f"trace {question.kind}", progress) as advance:
        for numbers, made in engines.run():
            scores[numbers] = made.double().cpu().numpy()
            advance(len(numbers))
    denoise = question.direction == "denoise"
    layers, heads = len(_row_names(model, question.kind)), _heads(model, question.kind)
    shape = (layers, len(question.tokens), *heads, n_samples)
    samples = np.empty(shape)
    samples[...] = runs.corrupted_scores if denoise else runs.clean_score
    reached = question.focus + 1
    samples[:, :reached] = scores.reshape(layers, reached, *shape[2:])
    return samples


def _refuse_not_a_number(model: Model, runs: _Runs, samples: np.ndarray) -> None:
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


def _kinds(kind: Kind) -> tuple[SiteKind, ...]:
    return ("embed", "block") if kind == "block" else (kind,)


def _row_names(model: Model, kind: Kind) -> tuple[str, ...]:
    numbers = tuple(str(layer) for layer in range(model.n_layers))
    return ("embed", *numbers) if kind == "block" else numbers


def _heads(model: Model, kind: Kind) -> tuple[int, ...]:
    return (model.n_heads,) if kind == "head" else ()


def _cells(model: Model, question: Question) -> list[Cell]:
    """Every cell up to the focus, in the order of the result's axes."""
    kind, half = question.kind, question.window // 2
    units = range(model.n_heads) if kind == "head" else (None,)
    rows: list[list[Site]] = [[Site("embed", 0)]] if kind == "block" else []
    for layer in range(model.n_layers):
        window = range(max(0, layer - half), min(model.n_layers, layer - half + question.window))
        rows.append([Site(kind, at) for at in window])
    return [
        tuple(State(site, token, unit) for site in row)
        for row in rows
        for token in range(question.focus + 1)
        for unit in units
    ]


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


def _warnings(question: Question, runs: _Runs) -> list[str]:
    """What a reader must know before trusting the picture."""
    clean = float(runs.clean.logits.softmax(-1)[0, runs.answer])
    corrupted = float(runs.corrupted.logits.softmax(-1)[:, runs.answer].mean())
    notes = []
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
