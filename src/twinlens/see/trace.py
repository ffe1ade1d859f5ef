"""The causal trace: which states does the answer at the focus really depend on?

Run clean, run corrupted, then once for every state with that state taken from the other run.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, get_args

import numpy as np
from jaxtyping import Float

from twinlens.model.anatomy import Site, SiteKind
from twinlens.model.model import Model
from twinlens.model.spans import Subject
from twinlens.results import Tokens, TraceResult
from twinlens.run.batches import Progress, counting
from twinlens.run.check import require
from twinlens.run.engine import Engine, Engines
from twinlens.run.passes import Cell, State
from twinlens.see.corruption import Corrupted, Corruption, Noise, corrupt
from twinlens.see.provenance import provenance
from twinlens.see.question import Direction, Kind, Metric, Question, ask, one_of, whole
from twinlens.see.runs import Runs, refuse_not_a_number, run_both, stacked, warnings_of


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
    asked = asking(
        model, prompt, subject, corruption, focus=focus, answer=answer, kind=kind, window=window,
        metric=metric, foil=foil, direction=direction,
    )  # fmt: skip
    made = traces(model, [asked], engine=engine, batch_tokens=batch_tokens, progress=progress)[0]
    for note in made.notes:
        warnings.warn(note, stacklevel=2)
    return made


class Asked(NamedTuple):
    """A question, and its prompt as it is corrupted."""

    question: Question
    corrupted: Corrupted


def asking(
    model: Model,
    prompt: str | Tokens,
    subject: Subject | None,
    corruption: Corruption | None,
    **asked: Any,
) -> Asked:
    """What `causal_trace` is asked, resolved; it takes the same and raises the same."""
    question = ask(model, prompt, subject, **asked)
    return Asked(question, corrupt(model, question.tokens, corruption or Noise(), question.mask))


def traces(
    model: Model,
    asked: Sequence[Asked],
    *,
    engine: Engine = "auto",
    batch_tokens: int = 4096,
    progress: Progress = None,
) -> list[TraceResult]:
    """The traces of questions that differ in nothing but prompt, subject and answer.

    Their prompts have one length, and their rows share passes, as the rows of one prompt do; noise
    in the place of embeddings must be at the same tokens.
    """
    one_of("engine", engine, get_args(Engine))
    whole("batch_tokens", batch_tokens)
    kind = asked[0].question.kind
    require(model, ["embed", kind])
    sites = [s for kind in site_kinds(kind) for s in model.sites(kind)]
    runs = [run_both(model, *one, sites, batch_tokens) for one in asked]
    notes: list[str] = []
    base, source, score = stacked(runs)
    differing = np.flatnonzero(np.any([one.corrupted.subject_mask for one in asked], axis=0))
    engines = Engines(
        model, engine, base, source, _cells(model, asked[0].question), score,
        differing=differing.tolist(), batch_tokens=batch_tokens,
        on_smaller=lambda n: notes.append(f"out of memory: went on with {n} cells a batch"),
    )  # fmt: skip
    with counting(len(engines.cells), f"trace {kind}", progress) as advance:
        scores = _scores(engines, asked, runs, advance)
    notes += [engines.note] if engines.note else []
    made: list[TraceResult] = []
    for one, its_runs, found in zip(asked, runs, scores, strict=True):
        samples = _in_place(model, one.question, its_runs, found)
        refuse_not_a_number(model, its_runs, samples)
        its_notes = [*warnings_of(model, one.question, its_runs), *notes]
        made.append(_result(model, *one, its_runs, engines.used, samples, its_notes))
    return made


def _scores(
    engines: Engines,
    asked: Sequence[Asked],
    runs: Sequence[Runs],
    advance: Callable[[int], None],
) -> Float[np.ndarray, "question cell sample"]:
    """Scores of every cell; one that changes nothing for a question has its base run's score, to
    the last bit, whatever it does for the others."""
    scores = engines.scores(advance=advance).reshape(len(engines.cells), len(asked), -1)
    if engines.used == "replay" and len(asked) > 1:
        for number, (one, its_runs) in enumerate(zip(asked, runs, strict=True)):
            tokens = set(np.flatnonzero(one.corrupted.subject_mask).tolist())
            same = [n for n, cell in enumerate(engines.cells) if engines.is_known(cell, tokens)]
            scores[same, number] = _untouched(one.question, its_runs)
    return scores.swapaxes(0, 1)


def _untouched(question: Question, runs: Runs) -> float | Float[np.ndarray, " sample"]:
    """The scores of the run into which states are put."""
    return runs.corrupted_scores if question.direction == "denoise" else runs.clean_score


def _result(
    model: Model,
    question: Question,
    corrupted: Corrupted,
    runs: Runs,
    engine: str,
    samples: Float[np.ndarray, "layer token *head sample"],
    notes: list[str],
) -> TraceResult:
    low, denoise = float(runs.corrupted_scores.mean()), question.direction == "denoise"
    scores = samples.mean(axis=-1)
    nothing = low if denoise else runs.clean_score
    scores[:, question.focus + 1 :] = nothing  # to the last bit, whatever the mean rounds
    return TraceResult(
        tokens=question.tokens,
        layers=row_names(model, question.kind),
        vocabulary=model.vocabulary(question.tokens.ids, np.array([runs.answer, runs.top])),
        settings=question.settings() | corrupted.settings | {"engine": engine},
        provenance=provenance(model),
        notes=tuple(notes),
        kind=question.kind,
        direction=question.direction,
        metric=question.metric,
        scores=scores,
        samples=samples,
        clean=runs.clean_score,
        corrupted=low,
        corrupted_samples=runs.corrupted_scores,
        subject_mask=corrupted.subject_mask,
        focus=question.focus,
        answer=runs.answer,
        window=question.window,
    )


def _in_place(
    model: Model, question: Question, runs: Runs, scores: Float[np.ndarray, "cell sample"]
) -> Float[np.ndarray, "layer token *head sample"]:
    """Scores of every cell and sample; cells after the focus have the base run's score."""
    layers, heads = len(row_names(model, question.kind)), _heads(model, question.kind)
    shape = (layers, len(question.tokens), *heads, runs.base.samples)
    samples = np.empty(shape)
    samples[...] = _untouched(question, runs)
    reached = question.focus + 1
    samples[:, :reached] = scores.reshape(layers, reached, *shape[2:])
    return samples


def sites_of_row(model: Model, question: Question, row: str) -> list[Site]:
    """The sites that a row of the trace restores together."""
    if row == "embed":
        return [Site("embed", 0)]
    start = int(row) - question.window // 2
    window = range(max(0, start), min(model.n_layers, start + question.window))
    return [Site(question.kind, at) for at in window]


def site_kinds(kind: Kind) -> tuple[SiteKind, ...]:
    """The kinds of site that a trace of a kind restores."""
    return ("embed", "block") if kind == "block" else (kind,)


def row_names(model: Model, kind: Kind) -> tuple[str, ...]:
    """The names of a trace's rows."""
    numbers = tuple(str(layer) for layer in range(model.n_layers))
    return ("embed", *numbers) if kind == "block" else numbers


def _heads(model: Model, kind: Kind) -> tuple[int, ...]:
    return (model.n_heads,) if kind == "head" else ()


def _cells(model: Model, question: Question) -> list[Cell]:
    """Every cell up to the focus, in the order of the result's axes."""
    units = range(model.n_heads) if question.kind == "head" else (None,)
    return [
        tuple(State(site, token, unit) for site in sites_of_row(model, question, row))
        for row in row_names(model, question.kind)
        for token in range(question.focus + 1)
        for unit in units
    ]
