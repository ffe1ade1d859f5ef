"""A look: plain settings -> lens, traces, neurons, attention, scores of heads.

What the command line and the server measure: one prompt, everything that was asked of it.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from twinlens.errors import InputError
from twinlens.model import hamlet
from twinlens.model.model import Model
from twinlens.model.spans import Span
from twinlens.results import AttentionResult, FittedLens, Result, Tokens
from twinlens.run.batches import Progress
from twinlens.run.engine import Engine
from twinlens.see.corruption import Corruption, Noise, Replace, Rule, corrupt
from twinlens.see.heads import attention
from twinlens.see.induction import induction
from twinlens.see.lens import Rows, logit_lens
from twinlens.see.measuring import Method
from twinlens.see.neurons import neuron_trace
from twinlens.see.question import Direction, Kind, Metric, ask, encoded, token_id
from twinlens.see.restored import Place, cell_of, restored_lens, states_of
from twinlens.see.trace import causal_trace
from twinlens.see.units import Basis

MOST_ATTENTION = 8_000_000  # weights of a look; of more, only those from the focus are made
Stages = bool | Callable[[str, int, int], None] | None


@dataclass(frozen=True)
class LookSettings:
    """What is asked of one prompt, in plain values; names and defaults are the command line's.

    The lens is always made. A trace of each of `kinds`, and of single `neurons`, needs to know what
    is corrupted: a `subject`, `subject_tokens` (spans), or a `counterfactual` prompt.
    """

    prompt: str
    subject: list[str] = field(default_factory=list[str])
    subject_tokens: list[Span] = field(default_factory=list[Span])
    focus: int | str | None = None  # None: the last token
    answer: str | int | None = None
    kinds: list[Kind] = field(default_factory=lambda: list[Kind](["block"]))
    window: int = 1
    metric: Metric = "probability"
    foil: str | int | None = None
    direction: Direction = "denoise"
    engine: Engine = "auto"
    batch_tokens: int = 4096
    sigma: float | None = None
    times_std: float = 3.0
    samples: int = 10
    seed: int = 1
    rule: Rule = "gaussian"
    df: float = 3.0
    noise_replaces: bool = False
    counterfactual: str | None = None
    replace: list[str] = field(default_factory=list[str])
    neurons: bool = False
    method: Method = "auto"
    basis: Basis = "neuron"
    rows: Rows = "block"
    top_k: int = 5
    targets: list[str | int] = field(default_factory=list[str | int])
    corrupted_lens: bool = False  # the lens of the corrupted run
    restored_cells: list[str] = field(default_factory=list[str])  # their lenses: "3:7", "mlp:3:7"
    attention: bool = False  # what each head looks at
    heads: bool = False  # the scores of the model's heads on random tokens

    @property
    def has_trace(self) -> bool:
        """Whether something is corrupted, so that there is a trace to make."""
        return bool(self.subject or self.subject_tokens) or self.counterfactual is not None

    @property
    def corruption(self) -> Corruption:
        """The corruption that the settings mean; raises `CorruptionError` where they fit none."""
        if self.counterfactual is not None or self.replace:
            return Replace(prompt=self.counterfactual, subjects=self.replace or None)
        return Noise(
            sigma=self.sigma, times_std=self.times_std, samples=self.samples, seed=self.seed,
            rule=self.rule, df=self.df, replace=self.noise_replaces,
        )  # fmt: skip

    def question(self) -> dict[str, Any]:
        """What is asked at the focus, as the keywords of `ask` that every trace shares."""
        subjects = [
            *self.subject,
            *((int(start), int(stop)) for start, stop in self.subject_tokens),
        ]
        return {
            "subject": subjects or None,
            "focus": -1 if self.focus is None else self.focus,
            "answer": self.answer,
            "metric": self.metric,
            "foil": self.foil,
            "direction": self.direction,
        }


def look(
    model: Model,
    settings: LookSettings,
    *,
    lenses: Sequence[FittedLens] = (),
    progress: Stages = None,
    say: Callable[[str], None] | None = None,
) -> list[Result]:
    """The lens, with a subject the trace of each kind and of neurons, and heads, as settings ask.

    `progress` is told (stage, done, total), at the start of a stage with a total of 0; or it is
    None, False or True, for bars as elsewhere. What it raises ends the work. `say` is told how much
    memory the work will need, where that is much. Notes stand in the results, nothing is warned of.
    `lenses`: fitted lenses, each read beside the plain one.

    Raises what `logit_lens`, `causal_trace`, `neuron_trace`, `attention` and `induction` raise.
    """
    refuse_wrong(model, settings)
    decoders: list[FittedLens | None] = [None, *lenses]
    made: list[Result] = [
        logit_lens(
            model, settings.prompt, decoder=decoder, rows=settings.rows, targets=settings.targets,
            top_k=settings.top_k, progress=_stage(progress, "lens"),
        )
        for decoder in decoders
    ]  # fmt: skip
    with told(say):
        if settings.has_trace:
            made += _traces(model, settings, progress)
        if settings.attention:
            made.append(_attention(model, settings, made[0].tokens, progress))
        if settings.heads:
            made.append(induction(model, progress=_stage(progress, "heads")))
    return made


def _attention(
    model: Model, settings: LookSettings, tokens: Tokens, progress: Stages
) -> AttentionResult:
    """What all heads look at, from every token where that is little, else from the focus."""
    every = model.n_layers * model.n_heads * len(tokens) ** 2 <= MOST_ATTENTION
    focus = -1 if settings.focus is None else settings.focus
    told = _stage(progress, "attention")
    return attention(model, settings.prompt, queries=None if every else focus, progress=told)


def _traces(model: Model, settings: LookSettings, progress: Stages) -> Iterator[Result]:
    asked: dict[str, Any] = settings.question() | {
        "corruption": settings.corruption,
        "engine": settings.engine,
        "batch_tokens": settings.batch_tokens,
    }
    for kind in dict.fromkeys(settings.kinds):
        told, window = _stage(progress, f"trace {kind}"), settings.window
        yield causal_trace(model, settings.prompt, kind=kind, window=window, progress=told, **asked)
    yield from _lenses_of_other_runs(model, settings, progress)
    if settings.neurons:
        asked |= {"method": settings.method, "basis": settings.basis}
        yield neuron_trace(model, settings.prompt, progress=_stage(progress, "neurons"), **asked)


def _lenses_of_other_runs(
    model: Model, settings: LookSettings, progress: Stages
) -> Iterator[Result]:
    """The lens of the corrupted run, and of the runs with a cell of the first trace restored."""
    kind, question = _first_kind(settings), settings.question()
    cells: list[tuple[Kind, Place | None]] = [(kind, None)] if settings.corrupted_lens else []
    cells += [cell_of(text, kind) for text in settings.restored_cells]
    for kind, cell in cells:
        yield restored_lens(
            model, settings.prompt, question["subject"], cell=cell, focus=question["focus"],
            kind=kind, window=settings.window,
            corruption=settings.corruption, top_k=settings.top_k,
            direction="denoise" if cell is None else settings.direction,
            batch_tokens=settings.batch_tokens, progress=_stage(progress, "lens of another run"),
        )  # fmt: skip


def _first_kind(settings: LookSettings) -> Kind:
    """The kind of trace whose cells are meant where they do not say it themselves."""
    return settings.kinds[0] if settings.kinds else "block"


def refuse_wrong(model: Model, settings: LookSettings) -> Tokens:
    """Find what a look would be refused for, as far as that shows without running the model.

    Returns the prompt's tokens. Raises an `InputError` that names what does not fit.
    """
    tokens = encoded(model, settings.prompt)
    for target in settings.targets:
        token_id(model, tokens, len(tokens) - 1, target, "target")
    if not settings.has_trace:
        if settings.corrupted_lens or settings.restored_cells:
            raise InputError("lenses of other runs need a subject: what is corrupted in them")
        return tokens
    corruption, mask = settings.corruption, None
    for kind in settings.kinds or ["mlp"]:
        mask = ask(model, tokens, kind=kind, window=settings.window, **settings.question()).mask
    for text in settings.restored_cells:
        kind, cell = cell_of(text, _first_kind(settings))
        question = ask(model, tokens, kind=kind, window=settings.window, **settings.question())
        states_of(model, question, cell)
    if isinstance(corruption, Replace):
        corrupt(model, tokens, corruption, mask)
    return tokens


def the_story() -> LookSettings:
    """The look at hamlet's story: which earlier places a name that comes back depends on."""
    return LookSettings(**hamlet.asked_of_story())


def _stage(progress: Stages, name: str) -> Progress:
    if not callable(progress):
        return progress
    progress(name, 0, 0)
    return partial(progress, name)


@contextlib.contextmanager
def told(say: Callable[[str], None] | None) -> Generator[None]:
    """Warnings are silent within, since results hold them as notes; the need of memory is said."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if say is not None:
            warnings.filterwarnings("always", message=".*while they are made")
            warnings.showwarning = lambda message, *_, **__: say(str(message))
        yield
