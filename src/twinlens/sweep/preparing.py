"""What only the model can say before a sweep: the noise, and which engine serves."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch

from twinlens.errors import AnatomyError, InputError, TwinlensError
from twinlens.model.model import Model
from twinlens.results import Result
from twinlens.see.neurons import neuron_trace
from twinlens.see.provenance import provenance
from twinlens.see.trace import causal_trace
from twinlens.see.units import numbering_of
from twinlens.sweep.facts import Fact, Facts
from twinlens.sweep.plan import Prepared, computing
from twinlens.sweep.settings import SweepSettings

_TRIED = 5  # facts by which the replay may be proven
_UNDECIDED = ("no state that was tried", "does not fit the memory")


def prepare(
    model: Model, facts: Facts, settings: SweepSettings, resolved: dict[str, Any] | None
) -> Prepared:
    """Ask the model; what a run's folder has `resolved` before is not asked again."""
    if settings.window > model.n_layers:
        raise InputError(
            f"window={settings.window} must be a whole number from 1 to {model.n_layers}"
        )
    lengths = tuple(_length(model, fact) for fact in facts.facts)
    if resolved is None:
        order = sorted(zip(lengths, facts.facts, strict=True), key=lambda p: (p[0], p[1].number))
        sigma = settings.noise.sigma
        if settings.needs_sigma:
            subjects = [fact.subject for fact in facts.facts]
            sigma = settings.noise.times_std * subjects_std(model, subjects)
        tried = [fact for length, fact in order if length]
        threads = settings.threads or torch.get_num_threads()
        with computing(threads):
            engines = _engines(model, settings, sigma, tried)
            resolved = {"sigma": sigma, "engines": engines, "threads": threads}
    made_by, experts = provenance(model), numbering_of(model)
    return Prepared(
        model={
            "name": made_by.model,
            "family": made_by.family,
            "weights_hash": made_by.weights_hash,
            "dtype": made_by.dtype,
            "device": model.device.type,
            "n_layers": model.n_layers,
            **({"experts": experts} if experts else {}),
        },
        versions=dict(made_by.versions),
        resolved=resolved,
        lengths=lengths,
    )


def subjects_std(model: Model, subjects: Sequence[str]) -> float:
    """Standard deviation over all numbers of the embeddings of the subjects' tokens (ROME).

    Each subject is read alone, and counts as often as it occurs; in double precision.
    """
    n, sums, squares = 0, list[float](), list[float]()
    with torch.no_grad():
        for subject in subjects:
            ids = torch.from_numpy(model.encode(subject, special=False).ids)
            rows = model.embedding(ids[None].to(model.device))[0].double().cpu()
            n += rows.numel()
            sums.append(float(rows.sum()))
            squares.append(float((rows * rows).sum()))
    total = math.fsum(sums)  # the same in any order of the facts
    return ((math.fsum(squares) - total * total / n) / (n - 1)) ** 0.5


def _length(model: Model, fact: Fact) -> int:
    try:
        return len(model.encode(fact.prompt))
    except TwinlensError:
        return 0  # its unit will say why


def _engines(
    model: Model, settings: SweepSettings, sigma: float | None, facts: Sequence[Fact]
) -> dict[str, str]:
    """Which engine serves each measure. Decided once, so that no unit depends on another."""
    measures: list[str] = list(settings.kinds) if "trace" in settings.measure else []
    measures += ["neurons"] if "neurons" in settings.measure else []
    if settings.engine != "auto":
        return dict.fromkeys(measures, settings.engine)
    return {name: _proven(model, settings, sigma, facts, name) for name in measures}


def _proven(
    model: Model, settings: SweepSettings, sigma: float | None, facts: Sequence[Fact], name: str
) -> str:
    tried = 0
    for fact in facts:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                result = _trial(model, settings, sigma, fact, name)
        except AnatomyError:
            raise
        except TwinlensError:
            continue
        undecided = any(sign in note for note in result.notes for sign in _UNDECIDED)
        if not undecided:
            return str(result.settings["engine"])
        if (tried := tried + 1) == _TRIED:
            break
    return "hooks"


def _trial(
    model: Model, settings: SweepSettings, sigma: float | None, fact: Fact, name: Any
) -> Result:
    """A look at one fact with few samples, in which the engine is proven."""
    few = replace(settings, noise=replace(settings.noise, samples=1))
    corruption = few.corruption_of(fact, sigma)
    asked: dict[str, Any] = {"metric": settings.metric, "direction": settings.direction}
    if name == "neurons":
        return neuron_trace(
            model, fact.prompt, fact.subject, corruption=corruption, method=settings.method,
            cells=[(0, 0)], restored=0, progress=False, **asked,
        )  # fmt: skip
    return causal_trace(
        model, fact.prompt, fact.subject, kind=name, corruption=corruption, progress=False, **asked
    )
