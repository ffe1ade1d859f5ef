"""One fact's lens, traces and neurons as columns of the run's tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Shaped

from twinlens.model.model import Model
from twinlens.results import LensResult, NeuronResult, Tokens, TraceResult
from twinlens.see.card import written_tokens
from twinlens.see.lens import logit_lens
from twinlens.see.neurons import neuron_trace
from twinlens.see.roles import roles
from twinlens.see.trace import causal_trace
from twinlens.sweep.facts import Fact
from twinlens.sweep.plan import Plan
from twinlens.sweep.settings import SweepSettings
from twinlens.sweep.tables import EMBED

Columns = dict[str, Any]


def measured(
    model: Model,
    tokens: Tokens,
    mask: Bool[np.ndarray, " token"],
    fact: Fact,
    answer: int,
    plan: Plan,
) -> tuple[dict[str, Columns], Columns]:
    """The tables of a fact, and what the table of facts has of it besides."""
    settings, parts = plan.settings, list[Columns]()
    role = roles(mask, len(tokens) - 1)
    tables: dict[str, Columns] = {"tokens": _tokens(fact.number, tokens, mask, role)}
    about: Columns = {"notes": []}
    asked = _asked(settings, fact, answer, plan)
    if "trace" in settings.measure:
        for kind in settings.kinds:
            window = 1 if kind == "block" else settings.window
            engine: Any = plan.resolved["engines"][kind]
            trace = causal_trace(
                model, tokens, fact.subject, kind=kind, window=window, engine=engine, **asked
            )
            parts.append(_trace(trace, role))
            about |= {"clean": trace.clean, "corrupted": trace.corrupted}
            about["notes"] += trace.notes
    if "neurons" in settings.measure:
        engine = plan.resolved["engines"]["neurons"]
        units = neuron_trace(
            model, tokens, fact.subject, method=settings.method, restored=settings.restored,
            engine=engine, **asked,
        )  # fmt: skip
        parts.append(_layer_mean(units, role))
        tables["neurons"] = _top(model, units, role, settings.top_neurons, fact.number)
        about |= {"clean": units.clean, "corrupted": units.corrupted}
        about["notes"] += units.notes
    if "lens" in settings.measure:
        lens = logit_lens(model, tokens, targets=[answer], top_k=1, progress=False)
        parts.append(_lens(lens, str(answer), role))
    cells = _joined(parts)
    tables["cells"] = {"fact": np.full(len(cells["layer"]), fact.number), **cells}
    about["notes"] = list(dict.fromkeys(about["notes"]))
    return tables, about


def _asked(settings: SweepSettings, fact: Fact, answer: int, plan: Plan) -> dict[str, Any]:
    asked: dict[str, Any] = {
        "answer": answer,
        "corruption": settings.corruption_of(fact, plan.resolved["sigma"]),
        "metric": settings.metric,
        "direction": settings.direction,
        "progress": False,
    }
    return asked | ({"batch_tokens": settings.batch_tokens} if settings.batch_tokens else {})


def _tokens(
    number: int,
    tokens: Tokens,
    mask: Bool[np.ndarray, " token"],
    role: Shaped[np.ndarray, " token"],
) -> Columns:
    return {
        "fact": np.full(len(tokens), number),
        "token": np.arange(len(tokens)),
        "token_id": tokens.ids,
        "label": list(tokens.labels),
        "start": tokens.starts,
        "end": tokens.ends,
        "special": tokens.special,
        "subject": mask,
        "role": role.tolist(),
    }


def _grid(
    kind: str, layers: Sequence[str], role: Shaped[np.ndarray, " token"], **values: Any
) -> Columns:
    """Columns of one kind's cells: layers top to bottom, tokens left to right."""
    numbers = [EMBED if name == "embed" else int(name) for name in layers]
    n = len(numbers) * len(role)
    columns: Columns = {
        "kind": [kind] * n,
        "layer": np.repeat(numbers, len(role)),
        "token": np.tile(np.arange(len(role)), len(numbers)),
        "role": role.tolist() * len(numbers),
    }
    for name in ("score", "effect", "corrupted", "clean", "spread", "rank", "top"):
        value = values.get(name)
        if value is None:
            columns[name] = [None] * n
        else:
            columns[name] = [value] * n if isinstance(value, float) else value.ravel().tolist()
    return columns


def _trace(trace: TraceResult, role: Shaped[np.ndarray, " token"]) -> Columns:
    return _grid(
        trace.kind, trace.layers, role, score=trace.scores, effect=trace.effects(),
        corrupted=trace.corrupted, clean=trace.clean, spread=trace.spread(),
    )  # fmt: skip


def _layer_mean(units: NeuronResult, role: Shaped[np.ndarray, " token"]) -> Columns:
    """The mean effect of the neurons of each MLP; of the other numbers there is no mean score."""
    return _grid(
        "neurons", units.layers, role, effect=units.layer_mean("mean"),
        corrupted=units.corrupted, clean=units.clean,
    )  # fmt: skip


def _lens(lens: LensResult, target: str, role: Shaped[np.ndarray, " token"]) -> Columns:
    """The probability and rank of the answer in every cell, and what is first there."""
    probability: Float[np.ndarray, "layer token"] = lens.metric("probability", target)
    top = np.array([lens.label(i) for i in lens.top_ids[:, :, 0].ravel()], dtype=object)
    rank = lens.metric("rank", target).astype(np.int64)
    return _grid("lens", lens.layers, role, score=probability, rank=rank, top=top)


def _top(
    model: Model, units: NeuronResult, role: Shaped[np.ndarray, " token"], k: int, number: int
) -> Columns:
    """The strongest neurons, each at its token, and what they write."""
    best = units.top(k)
    named = [(int(name.split(".")[0]), int(name.split(".")[1])) for name, _, _ in best]
    written = written_tokens(model, named)
    exact = np.zeros((model.n_layers, len(role), units.n_units), bool)
    at = tuple(np.indices(units.scores.shape)[:2])
    exact[(*at, units.kept if units.kept.size else np.indices(units.scores.shape)[2])] = (
        units.exact_mask
    )
    return {
        "fact": np.full(len(best), number),
        "layer": [layer for layer, _ in named],
        "neuron": [neuron for _, neuron in named],
        "token": [token for _, token, _ in best],
        "role": [str(role[token]) for _, token, _ in best],
        "effect": [effect for _, _, effect in best],
        "exact": [
            bool(exact[layer, token, neuron])
            for (layer, neuron), (_, token, _) in zip(named, best, strict=True)
        ],
        "promotes": [[model.label(int(i)) for i in row] for row in written[0]],
        "suppresses": [[model.label(int(i)) for i in row] for row in written[1]],
    }


def _joined(parts: Sequence[Columns]) -> Columns:
    if not parts:
        return {"layer": []}
    return {name: [v for p in parts for v in p[name]] for name in parts[0]}
