"""A run in a few numbers: effects by layer and token role, and the neurons that matter most often.

Of two runs: the difference, fact by fact.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from twinlens.errors import InputError
from twinlens.results.base import optional
from twinlens.results.storage import plain
from twinlens.see.question import whole
from twinlens.see.roles import ROLES
from twinlens.sweep.bootstrap import bootstrap
from twinlens.sweep.store import SweepRun

MATTERS = 0.1  # of the effect of the strongest neuron of a fact
SUMMED = ("block", "mlp", "attn", "neurons")
_ROLES = ROLES[:-1]  # nothing is beyond the focus of a sweep
_CONTENT = ("prompt", "subject", "answer", "counterfactual")


@dataclass(frozen=True, eq=False)
class RoleAverage:
    """One kind's effects, averaged over facts: `mean`, and its interval from `low` to `high`,
    `[layer, role]`; NaN where no fact has the role. `count[role]` facts have it."""

    layers: tuple[str, ...]
    roles: tuple[str, ...]
    mean: Float[np.ndarray, "layer role"]
    low: Float[np.ndarray, "layer role"]
    high: Float[np.ndarray, "layer role"]
    count: Int[np.ndarray, " role"]

    def peak(self) -> tuple[str, str, float]:
        """The cell with the largest mean: its layer, role, and mean."""
        layer, role = np.unravel_index(np.nanargmax(self.mean), self.mean.shape)
        return self.layers[layer], self.roles[role], float(self.mean[layer, role])


@dataclass(frozen=True)
class FrequentNeuron:
    """A neuron that matters in `count` facts, with its mean `effect` there: in these its effect is
    at least `MATTERS` of that of the fact's strongest neuron."""

    name: str
    count: int
    share: float
    effect: float
    promotes: tuple[str, ...]
    suppresses: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Summary:
    """Averages of a run over its measured facts, by kind; or of two runs, first minus second.

    `total` is the total effect of the corruption (mean, low, high). `level` is that of intervals.
    """

    names: tuple[str, ...]
    about: Mapping[str, Any]
    n_facts: int
    level: float
    total: tuple[float, float, float]
    kinds: Mapping[str, RoleAverage]
    neurons: tuple[FrequentNeuron, ...]
    notes: tuple[str, ...]

    @property
    def is_difference(self) -> bool:
        """Whether two runs are compared."""
        return len(self.names) == 2

    def to_dict(self) -> dict[str, Any]:
        """The whole summary as plain lists, numbers and strings (None for "not a number")."""
        return plain(self)

    def to_dataframe(self) -> Any:
        """One row a kind, layer and role (polars): mean, low, high, facts."""
        polars: Any = optional("polars", "sweep")
        rows = [
            {
                "kind": kind, "layer": layer, "role": role, "mean": float(made.mean[i, j]),
                "low": float(made.low[i, j]), "high": float(made.high[i, j]),
                "facts": int(made.count[j]),
            }
            for kind, made in self.kinds.items()
            for i, layer in enumerate(made.layers)
            for j, role in enumerate(made.roles)
        ]  # fmt: skip
        return polars.DataFrame(rows)


def summed_up(
    run: SweepRun,
    against: SweepRun | None = None,
    *,
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 1,
    top: int = 20,
) -> Summary:
    """Sum up a run, or compare it with another one on the facts that both measured.

    Raises `InputError` where nothing was measured, or nothing in common.
    """
    if not 0 < level < 1:
        raise InputError(f"level={level!r} must be more than 0 and less than 1, e.g. 0.95")
    for name, value, least in (("resamples", resamples, 2), ("seed", seed, 0), ("top", top, 0)):
        whole(name, value, least)
    facts, others, notes = _chosen(run, against)
    options: dict[str, Any] = {"level": level, "resamples": resamples, "seed": seed}
    kinds: dict[str, RoleAverage] = {}
    for kind in SUMMED:
        values = _by_role(run, kind, facts)
        if values is None:
            continue
        layers = run.layers(kind)
        if against is not None:
            other = _by_role(against, kind, others)
            if other is None:
                continue
            values, layers = _difference(values, layers, other, against.layers(kind))
        kinds[kind] = _averaged(values, layers, options)
    if against is not None and run.manifest["model"]["n_layers"] != len(against.layers("mlp")):
        notes.append("the models differ in depth: rows are compared at the same share of it")
    totals = _totals(run, facts)
    if against is not None:
        totals = totals - _totals(against, others)
    mean, low, high = (float(x[0]) for x in bootstrap(totals[:, None], **options))
    return Summary(
        names=tuple(str(r.path.name) for r in (run, against) if r is not None),
        about={k: run.manifest[k] for k in ("model", "settings", "resolved", "facts")},
        n_facts=len(facts),
        level=level,
        total=(mean, low, high),
        kinds=kinds,
        neurons=_frequent(run, len(facts), top) if against is None and top else (),
        notes=tuple(notes),
    )


def averaged_lens(
    run: SweepRun, *, level: float = 0.95, resamples: int = 2000, seed: int = 1
) -> RoleAverage | None:
    """The answer's probability in the lens, averaged as effects are; None without a lens."""
    values = _by_role(run, "lens", list(_measured(run).values()), "score")
    options: dict[str, Any] = {"level": level, "resamples": resamples, "seed": seed}
    return None if values is None else _averaged(values, run.layers("lens"), options)


def _chosen(run: SweepRun, against: SweepRun | None) -> tuple[list[int], list[int], list[str]]:
    """The numbers of the facts in each run, in the same order."""
    content = _measured(run)
    if not content:
        raise InputError(f"{run.path}: no fact was measured, so there is nothing to sum up")
    if against is None:
        counts = run.counts()
        share = counts["share_known"]
        notes = [] if share is None else [f"the model knows {share:.0%} of the facts"]
        return list(content.values()), [], notes
    other = _measured(against)
    both = [c for c in content if c in other]
    if not both:
        raise InputError(f"{run.path} and {against.path} have no measured fact in common")
    note = f"{len(both)} facts were measured in both, of {len(content)} and {len(other)}"
    notes = [note]
    for name in ("metric", "direction"):
        ours, theirs = run.manifest["settings"][name], against.manifest["settings"][name]
        if ours != theirs:
            raise InputError(f"the runs differ in {name} ({ours!r}, {theirs!r}): no difference")
    return [content[c] for c in both], [other[c] for c in both], notes


def _measured(run: SweepRun) -> dict[tuple[Any, ...], int]:
    polars: Any = optional("polars", "sweep")
    rows = run.facts.filter(polars.col("status") == "measured").select(*_CONTENT, "fact").rows()
    return {row[:-1]: row[-1] for row in rows}


def _by_role(
    run: SweepRun, kind: str, facts: Sequence[int], value: str = "effect"
) -> Float[np.ndarray, "fact layer role"] | None:
    """Mean of a value over the tokens of a role, of each fact; NaN where it has none."""
    polars: Any = optional("polars", "sweep")
    cells = run.cells.lazy().filter(polars.col("kind") == kind)
    means = cells.group_by("fact", "layer", "role").agg(polars.col(value).mean()).collect()
    if not len(means):
        return None
    layers = run.layers(kind)
    values = np.full((len(facts), len(layers), len(_ROLES)), np.nan)
    row_of, role_of = {f: n for n, f in enumerate(facts)}, {r: n for n, r in enumerate(_ROLES)}
    first = 1 if layers[0] == "embed" else 0
    for fact, layer, role, effect in means.iter_rows():
        if fact in row_of:
            values[row_of[fact], layer + first, role_of[role]] = effect
    return values


def _averaged(
    values: Float[np.ndarray, "fact layer role"], layers: tuple[str, ...], options: dict[str, Any]
) -> RoleAverage:
    shape = values.shape[1:]
    mean, low, high = (
        x.reshape(shape) for x in bootstrap(values.reshape(len(values), -1), **options)
    )
    return RoleAverage(layers, _ROLES, mean, low, high, np.isfinite(values).any(1).sum(0))


def _difference(
    ours: Float[np.ndarray, "fact layer role"],
    our_layers: tuple[str, ...],
    theirs: Float[np.ndarray, "fact depth role"],
    their_layers: tuple[str, ...],
) -> tuple[Float[np.ndarray, "fact row role"], tuple[str, ...]]:
    """Ours minus theirs, on the rows of the model with fewer layers."""
    if len(our_layers) == len(their_layers):
        return ours - theirs, our_layers
    if len(our_layers) < len(their_layers):
        return ours - _at_depths(theirs, their_layers, our_layers), our_layers
    return _at_depths(ours, our_layers, their_layers) - theirs, their_layers


def _at_depths(
    values: Float[np.ndarray, "fact depth role"], layers: tuple[str, ...], wanted: tuple[str, ...]
) -> Float[np.ndarray, "fact row role"]:
    """Rows of a deeper model at the shares of its depth where the wanted ones stand."""
    has, asks = (np.linspace(0, 1, len(names)) for names in (layers, wanted))
    at = np.searchsorted(has, asks, side="right").clip(1, len(has) - 1)
    part = ((asks - has[at - 1]) / (has[at] - has[at - 1]))[None, :, None]
    return values[:, at - 1] * (1 - part) + values[:, at] * part


def _totals(run: SweepRun, facts: Sequence[int]) -> Float[np.ndarray, " fact"]:
    """The total effect of each fact; the distance, for a divergence."""
    rows = run.facts.select("fact", "clean", "corrupted").rows()
    found = {fact: np.nan if a is None or b is None else a - b for fact, a, b in rows}
    sign = -1 if run.manifest["settings"]["metric"] == "kl" else 1
    return sign * np.array([found[fact] for fact in facts], dtype=np.float64)


def _frequent(run: SweepRun, n_facts: int, top: int) -> tuple[FrequentNeuron, ...]:
    """Neurons by the number of facts in which they matter (each at its best token)."""
    polars: Any = optional("polars", "sweep")
    column = polars.col
    once = (
        run.neurons.lazy()
        .filter(column("effect") > 0)
        .group_by("layer", "neuron", "fact")
        .agg(column("effect").max(), column("promotes").first(), column("suppresses").first())
    )
    once = once.filter(column("effect") >= MATTERS * column("effect").max().over("fact"))
    found = (
        once.group_by("layer", "neuron")
        .agg(
            column("fact").count().alias("count"),
            column("effect").sort_by("fact").mean(),
            column("promotes").sort_by("fact").first(),
            column("suppresses").sort_by("fact").first(),
        )
        .sort(["count", "effect", "layer", "neuron"], descending=[True, True, False, False])
        .head(top)
        .collect()
    )
    return tuple(
        FrequentNeuron(
            name=run.unit_name(row["layer"], row["neuron"]),
            count=row["count"],
            share=row["count"] / n_facts,
            effect=row["effect"],
            promotes=tuple(row["promotes"] or ()),
            suppresses=tuple(row["suppresses"] or ()),
        )
        for row in found.to_dicts()
    )
