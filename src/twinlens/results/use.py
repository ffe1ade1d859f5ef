"""Which units a text uses: scores of every neuron and head, and how stable they are."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, Literal, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Float32, Int

from twinlens.errors import InputError
from twinlens.results.base import Result
from twinlens.results.units import Numbering, numbering_in, unit_name

UnitKind = Literal["neuron", "head"]
MEASURES = ("use", "mean_use", "effect", "wanda")  # they depend on the text
USE_SCORES = (*MEASURES, "magnitude")
_SIGNS: dict[UnitKind, str] = {"neuron": "N", "head": "H"}


class Stability(NamedTuple):
    """How much two halves of a text agree on a score, as means over random halves.

    `spearman`: rank correlation over all units; `overlap`: share of the lowest units that both
    halves name, `by_chance` what unrelated scores would share. `layers` has the rank correlation
    within each layer.
    """

    spearman: float
    overlap: float
    by_chance: float
    layers: Float[np.ndarray, " layer"]


@dataclass(frozen=True, eq=False, kw_only=True)
class UseResult(Result):
    """What every neuron and every head of a model does on a text.

    Five scores a unit, all of what it writes into the residual (for a neuron |a| |W_out|):

    - `use`: mean over tokens of what it writes; what is lost when it is set to zero.
    - `mean_use`: mean of its distance from its mean; what is lost when it is set to the mean.
    - `effect`: mean over tokens of |sum of a dL/da|, L the summed loss of the window, in nats: to
      first order what zeroing it at one token does (NaN where gradients were not asked for).
    - `wanda`: root of the summed squares of |W_ij| |x_j| over its weights, |x_j| the root mean
      square over tokens (Sun et al. 2023).
    - `magnitude`: length of its weights, whatever the text.

    `neurons` and `heads` hold the first four by group of documents, as means over the tokens of a
    group (of `wanda` the square), so that halves of the text can be compared; `score` sums them up.
    `neuron_peak` and `head_peak` are the most that a unit writes at one token; a unit is `silent`
    where that is less than `threshold` times the mean `use` in its layer. `loss` is the text's, in
    nats a token. `tokens` is empty: the result is about no prompt.
    """

    kind_of_result: ClassVar[str] = "use"

    neurons: Float32[np.ndarray, "measure group layer neuron"]
    heads: Float32[np.ndarray, "measure group layer head"]
    neuron_magnitude: Float32[np.ndarray, "layer neuron"]
    head_magnitude: Float32[np.ndarray, "layer head"]
    neuron_peak: Float32[np.ndarray, "layer neuron"]
    head_peak: Float32[np.ndarray, "layer head"]
    group_tokens: Int[np.ndarray, " group"]
    threshold: float
    loss: float

    @property
    def n_tokens(self) -> int:
        """Tokens of the text."""
        return int(self.group_tokens.sum())

    def score(
        self, name: str = "use", kind: UnitKind = "neuron"
    ) -> Float[np.ndarray, "layer unit"]:
        """A score of every unit of a kind. Raises `InputError` for another name or kind."""
        _refuse_unknown(name, kind)
        if name == "magnitude":
            values = self.neuron_magnitude if kind == "neuron" else self.head_magnitude
            return values.astype(np.float64)
        return self._of_groups(name, kind, np.arange(len(self.group_tokens)))

    def silent(self, kind: UnitKind = "neuron") -> Bool[np.ndarray, "layer unit"]:
        """The units that at no token write as much as `threshold` times the mean of their layer."""
        _refuse_unknown("use", kind)
        peak = self.neuron_peak if kind == "neuron" else self.head_peak
        return peak < self.threshold * self.score("use", kind).mean(axis=1, keepdims=True)

    def stability(
        self,
        name: str = "use",
        kind: UnitKind = "neuron",
        *,
        lowest: float = 0.1,
        resamples: int = 50,
        seed: int = 1,
    ) -> Stability:
        """Does one half of the documents rank the units as the other half does?

        `lowest` is the share of units whose overlap is told. Halves are drawn `resamples` times
        from the groups of documents. All NaN where there is one group; 1 for `magnitude`, which
        no text changes. Raises `InputError` for a name, kind or share that cannot be.
        """
        _refuse_unknown(name, kind)
        if not 0 < lowest < 1:
            raise InputError(f"lowest={lowest!r} must be a share between 0 and 1")
        n_groups, rng = len(self.group_tokens), np.random.default_rng(seed)
        n_layers, n_units = (self.neuron_peak if kind == "neuron" else self.head_peak).shape
        if n_groups < 2 or n_units == 0:
            return Stability(np.nan, np.nan, lowest, np.full(n_layers, np.nan))
        found: list[list[float]] = []
        for _ in range(resamples if name != "magnitude" else 1):
            order = rng.permutation(n_groups)
            halves = (order[: n_groups // 2], order[n_groups // 2 :])
            one, other = (self._half(name, kind, half) for half in halves)
            within = [spearman(a, b) for a, b in zip(one, other, strict=True)]
            pooled = spearman(one.ravel(), other.ravel())
            found.append([pooled, _shared(one.ravel(), other.ravel(), lowest), *within])
        first, second, *layers = np.mean(found, axis=0)
        return Stability(float(first), float(second), lowest, np.array(layers))

    def ranked(self, name: str = "use", kind: UnitKind = "neuron") -> list[tuple[str, float]]:
        """All units of a kind, the least used first: ("3.N17", score)."""
        values = self.score(name, kind)
        order = np.argsort(values, axis=None, kind="stable")
        places = (divmod(int(flat), values.shape[1]) for flat in order)
        return [(self.unit_name(kind, *place), float(values[place])) for place in places]

    def unit_name(self, kind: UnitKind, layer: int, unit: int) -> str:
        """`3.N17` is neuron 17 of block 3 (of experts `3.E2.N17`), `4.H2` head 2 of block 4."""
        experts = self.numbering if kind == "neuron" else {}
        return unit_name(layer, unit, experts, _SIGNS[kind])

    @cached_property
    def numbering(self) -> Numbering:
        """How the neurons of experts are numbered, by block; empty where there are none."""
        return numbering_in(self.settings)

    def _check(self) -> None:
        """Raise `ValueError` or `TypeError` for a numbering of experts that cannot be."""
        _ = self.numbering

    def _half(self, name: str, kind: UnitKind, groups: Int[np.ndarray, " some"]) -> np.ndarray:
        return (
            self.score(name, kind) if name == "magnitude" else self._of_groups(name, kind, groups)
        )

    def _of_groups(
        self, name: str, kind: UnitKind, groups: Int[np.ndarray, " some"]
    ) -> Float[np.ndarray, "layer unit"]:
        """A score over the tokens of some groups."""
        means = (self.neurons if kind == "neuron" else self.heads)[MEASURES.index(name)]
        shares = self.group_tokens[groups] / self.group_tokens[groups].sum()
        values = np.tensordot(shares, means[groups].astype(np.float64), axes=1)
        return np.sqrt(values) if name == "wanda" else values

    def _variables(self) -> dict[str, tuple[tuple[str, ...], np.ndarray]]:
        found: dict[str, tuple[tuple[str, ...], np.ndarray]] = {}
        for kind in _SIGNS:
            for name in USE_SCORES:
                found[f"{kind}_{name}"] = (("layer", kind), self.score(name, kind))
            found[f"{kind}_silent"] = (("layer", kind), self.silent(kind))
        return found

    def _columns(self) -> dict[str, object]:
        kinds: list[UnitKind] = ["neuron", "head"]
        columns: dict[str, list[np.ndarray]] = {}
        for kind in kinds:
            layer, unit = (axis.ravel() for axis in np.indices(self.score("use", kind).shape))
            columns.setdefault("kind", []).append(np.full(len(layer), kind))
            columns.setdefault("layer", []).append(np.array(self.layers)[layer])
            columns.setdefault("unit", []).append(unit)
            pairs = zip(layer.tolist(), unit.tolist(), strict=True)
            names = [self.unit_name(kind, *pair) for pair in pairs]
            columns.setdefault("name", []).append(np.array(names, dtype=object))
            for name in USE_SCORES:
                columns.setdefault(name, []).append(self.score(name, kind).ravel())
            columns.setdefault("silent", []).append(self.silent(kind).ravel())
        return {name: np.concatenate(parts) for name, parts in columns.items()}


def spearman(one: Float[np.ndarray, " unit"], other: Float[np.ndarray, " unit"]) -> float:
    """Rank correlation, ties at the mean of their ranks; NaN where one side is all the same."""
    a, b = (_ranks(values) - (len(values) - 1) / 2 for values in (one, other))
    length = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / length if length else float("nan")


def _ranks(values: Float[np.ndarray, " unit"]) -> Float[np.ndarray, " unit"]:
    _, at, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts + 1) / 2)[at]


def _shared(one: np.ndarray, other: np.ndarray, share: float) -> float:
    """Share of the lowest units of one that are among the lowest of the other."""
    k = max(1, round(share * len(one)))
    lowest = [set(np.argsort(values, kind="stable")[:k].tolist()) for values in (one, other)]
    return len(lowest[0] & lowest[1]) / k


def _refuse_unknown(name: str, kind: str) -> None:
    if name not in USE_SCORES:
        raise InputError(f"score={name!r} is not known; choose one of {', '.join(USE_SCORES)}")
    if kind not in _SIGNS:
        raise InputError(f"kind={kind!r} is not known; choose one of {', '.join(_SIGNS)}")
