"""Facts' lenses, traces and neurons as columns of the run's tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Shaped

from twinlens.model.model import Model
from twinlens.results import LensResult, NeuronResult, Tokens, TraceResult
from twinlens.see.card import written_tokens
from twinlens.see.lens import logit_lens
from twinlens.see.neurons import neuron_trace
from twinlens.see.roles import roles
from twinlens.see.trace import asking, traces
from twinlens.sweep.facts import Fact
from twinlens.sweep.plan import Plan
from twinlens.sweep.settings import SweepSettings, SweptKind
from twinlens.sweep.tables import EMBED

Columns = dict[str, Any]


class Asked(NamedTuple):
    """A fact that is to be measured: its tokens, its subject's, and the answer that is traced."""

    fact: Fact
    tokens: Tokens
    mask: Bool[np.ndarray, " token"]
    answer: int


def measured(
    model: Model, group: Sequence[Asked], plan: Plan
) -> list[tuple[dict[str, Columns], Columns]]:
    """For each fact of a group (of one length): its tables, and what the table of facts has of it
    besides. The facts' traces share passes."""
    by_kind = [traced(model, group, plan, kind) for kind in plan.settings.traced]
    return [
        _alone(model, asked, [made[n] for made in by_kind], plan) for n, asked in enumerate(group)
    ]


def traced(model: Model, group: Sequence[Asked], plan: Plan, kind: SweptKind) -> list[TraceResult]:
    """The traces of one kind of facts of one length."""
    settings = plan.settings
    window = 1 if kind == "block" else settings.window
    asked = [
        asking(
            model, one.tokens, one.fact.subject, settings.corruption_of(one.fact, plan.sigma),
            focus=-1, answer=one.answer, kind=kind, window=window, foil=None,
            metric=settings.metric, direction=settings.direction,
        )
        for one in group
    ]  # fmt: skip
    return traces(model, asked, engine=plan.engine(kind), progress=False, **_bounded(settings))


def _alone(
    model: Model, asked: Asked, found: Sequence[TraceResult], plan: Plan
) -> tuple[dict[str, Columns], Columns]:
    """A fact's traces and what is measured of it alone, as tables."""
    settings, parts, (fact, tokens, mask, answer) = plan.settings, list[Columns](), asked
    role = roles(mask, len(tokens) - 1)
    tables: dict[str, Columns] = {"tokens": _tokens(fact.number, tokens, mask, role)}
    about: Columns = {"notes": []}
    for trace in found:
        parts.append(_trace(trace, role))
        about |= {"clean": trace.clean, "corrupted": trace.corrupted}
        about["notes"] += trace.notes
    if "neurons" in settings.measure:
        units = neuron_trace(
            model, tokens, fact.subject, answer=answer, metric=settings.metric,
            corruption=settings.corruption_of(fact, plan.sigma), direction=settings.direction,
            method=settings.method, restored=settings.restored, engine=plan.engine("neurons"),
            progress=False, **_bounded(settings),
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


def _bounded(settings: SweepSettings) -> dict[str, Any]:
    return {"batch_tokens": settings.batch_tokens} if settings.batch_tokens else {}


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
    best = units.strongest(k)
    named = [(layer, neuron) for layer, neuron, _, _ in best]
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
        "token": [token for _, _, token, _ in best],
        "role": [str(role[token]) for _, _, token, _ in best],
        "effect": [effect for _, _, _, effect in best],
        "exact": [bool(exact[layer, token, neuron]) for layer, neuron, token, _ in best],
        "promotes": [[model.label(int(i)) for i in row] for row in written[0]],
        "suppresses": [[model.label(int(i)) for i in row] for row in written[1]],
    }


def _joined(parts: Sequence[Columns]) -> Columns:
    if not parts:
        return {"layer": []}
    return {name: [v for p in parts for v in p[name]] for name in parts[0]}
