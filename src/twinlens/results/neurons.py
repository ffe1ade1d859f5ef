"""What a neuron trace found: for every unit of every MLP, the score when it alone is restored."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Literal

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped

from twinlens.errors import InputError
from twinlens.results.effects import RestoredResult
from twinlens.results.units import Numbering, numbering_in, unit_name

REDUCTIONS = ("mean", "mean+max", "max", "positive", "joint")


@dataclass(frozen=True, eq=False, kw_only=True)
class NeuronResult(RestoredResult):
    """Importances of single MLP units for one answer at one focus.

    `scores[layer, token, unit]` is the metric at the focus, averaged over the samples, when that
    unit alone is restored (`direction="denoise"`: clean into corrupted; `"noise"`: corrupted into
    clean). Where `exact_mask` is false it is an estimate by `method`. The last axis has all
    `n_units` units (`kept` is empty), or the strongest of each cell, whose numbers are in
    `kept[layer, token, unit]`. `mean`, `max`, `positive` are the mean, the largest and the sum of
    the positive effects over all units of a cell; `joint` is the score with the whole MLP restored.
    Cells that were not asked for are NaN, and so are units that a block does not have where others
    have more. The neurons of a block with experts stand in one row, expert by expert; their value
    is the activation times the router's weight of the expert, nothing where it was not chosen.
    `unit_name` names them. `agreement` compares the estimate with the exact effects
    of the units that were restored after it: `restored` (how many), `pearson`, `spearman`, and
    `recall` (share of the exact top half that the estimate has in its own top half).

    `named[writer]` are the strongest neurons (layer, neuron); `promoted` and `suppressed[writer]`
    are the ids of the tokens that each of them writes for and against, strongest first.

    `basis="neuron"`: a unit is an input of the down-projection; `"coordinate"`: a coordinate of
    what the MLP adds to the residual. `method="greedy95"` holds the scores of the 2022 rule, which
    are no effects: the final probability for each unit it restored, 0 for the rest.
    """

    kind_of_result: ClassVar[str] = "neurons"

    basis: Literal["neuron", "coordinate"]
    method: Literal["exact", "relp", "ig", "atp", "greedy95"]
    scores: Float[np.ndarray, "layer token unit"]
    exact_mask: Bool[np.ndarray, "layer token unit"]
    kept: Int[np.ndarray, "layer token kept"]
    n_units: int
    mean: Float[np.ndarray, "layer token"]
    max: Float[np.ndarray, "layer token"]
    positive: Float[np.ndarray, "layer token"]
    joint: Float[np.ndarray, "layer token"]
    agreement: Mapping[str, float]
    named: Int[np.ndarray, "writer 2"]
    promoted: Int[np.ndarray, "writer k"]
    suppressed: Int[np.ndarray, "writer k"]

    @property
    def is_exact(self) -> bool:
        """Whether every score was measured, none estimated."""
        return self.method == "exact"

    def effects(self) -> Float[np.ndarray, "layer token unit"]:
        """What each unit brings back (denoise) or takes away (noise), in the metric's unit."""
        return self.scores if self.method == "greedy95" else self._effects(self.scores)

    def layer_mean(self, reduce: str = "mean") -> Float[np.ndarray, "layer token"]:
        """One number a cell: `mean` effect of its units, `max`, `mean+max` (the 2022 figure),
        `positive` (sum of the positive ones), or `joint` (the effect of the whole MLP restored,
        which is not the sum of its units' effects).

        Raises `InputError` for another reduction.
        """
        if reduce not in REDUCTIONS:
            choices = ", ".join(REDUCTIONS)
            raise InputError(f"reduce={reduce!r} is not known; choose one of {choices}")
        if reduce == "joint":
            return self._effects(self.joint)
        if reduce == "mean+max":
            return self.mean + self.max
        return getattr(self, reduce)

    def top(self, k: int = 10) -> list[tuple[str, int, float]]:
        """The `k` units with the largest effect: (`unit_name`, token position, effect)."""
        return [(self.unit_name(at, n), t, effect) for at, n, t, effect in self.strongest(k)]

    def strongest(self, k: int = 10) -> list[tuple[int, int, int, float]]:
        """The `k` units with the largest effect: (layer, unit, token position, effect)."""
        effects = self.effects()
        order = np.argsort(-np.where(np.isnan(effects), -np.inf, effects), axis=None, kind="stable")
        found: list[tuple[int, int, int, float]] = []
        for flat in order[: min(k, int(np.isfinite(effects).sum()))]:
            layer, token, at = (int(i) for i in np.unravel_index(flat, effects.shape))
            unit = int(self.kept[layer, token, at]) if self.kept.size else at
            found.append((layer, unit, token, float(effects.flat[flat])))
        return found

    def unit_name(self, layer: int, unit: int) -> str:
        """`3.112`, or of experts `3.E2.N17` and, of shared ones, `3.S.N17`."""
        return unit_name(self.layers[layer], unit, self.numbering)

    def to_xarray(self) -> Any:
        """The arrays with named dimensions and coordinates (xarray); `name` is that of each unit,
        empty where a block has fewer units than others.

        Raises `MissingExtraError` without xarray (`pip install twinlens[data]`).
        """
        made, units = super().to_xarray(), self.kept
        dims = ("layer", "token", "unit") if units.size else ("layer", "unit")
        if not units.size:
            units = np.broadcast_to(np.arange(self.n_units), (len(self.layers), self.n_units))
        layer = np.indices(units.shape)[0]
        return made.assign_coords(name=(dims, self._names(layer, units)))

    @cached_property
    def numbering(self) -> Numbering:
        """How the neurons of experts are numbered, by block; empty where there are none."""
        return numbering_in(self.settings)

    @cached_property
    def widths(self) -> Int[np.ndarray, " layer"]:
        """How many units each block has; older results tell it of those with experts alone."""
        told = self.settings.get("widths") or [
            self.numbering[name].total if name in self.numbering else self.n_units
            for name in self.layers
        ]
        if len(told) != len(self.layers) or not all(n in range(1, self.n_units + 1) for n in told):
            raise ValueError(f"the blocks cannot have {str(told)[:60]} of {self.n_units} units")
        return np.array(told, np.int64)

    def _check(self) -> None:
        """Raise `ValueError` or `TypeError` for units that no block can have."""
        most = len(self.layers), self.n_units
        for numbers, stop in ((self.named, most), (self.kept, self.n_units)):
            if ((numbers < 0) | (numbers >= stop)).any():
                raise ValueError("a unit is in no block")
        if not 0 <= self.agreement.get("restored", 0) < np.inf:
            raise ValueError("so many units cannot have been restored")
        _ = self.numbering, self.widths

    def _names(
        self, layer: Int[np.ndarray, "..."], unit: Int[np.ndarray, "..."]
    ) -> Shaped[np.ndarray, "..."]:
        """The names of many units, each made once."""
        codes, at = np.unique((layer * self.n_units + unit).ravel(), return_inverse=True)
        pairs = [divmod(code, self.n_units) for code in codes.tolist()]
        names = [self.unit_name(*pair) if pair[1] < self.widths[pair[0]] else "" for pair in pairs]
        return np.array(names, dtype=object)[at].reshape(unit.shape)

    def _variables(self) -> dict[str, tuple[tuple[str, ...], np.ndarray]]:
        unit, cell = ("layer", "token", "unit"), ("layer", "token")
        variables: dict[str, tuple[tuple[str, ...], np.ndarray]] = {
            "score": (unit, self.scores),
            "effect": (unit, self.effects()),
            "exact": (unit, self.exact_mask),
            "subject": (("token",), self.subject_mask),
        }
        if self.kept.size:
            variables["unit_number"] = (unit, self.kept)
        return variables | {
            name: (cell, self.layer_mean(name)) for name in ("mean", "max", "positive", "joint")
        }

    def _columns(self) -> dict[str, object]:
        """One row for each unit that its block has."""
        layer, token, at = (axis.ravel() for axis in np.indices(self.scores.shape))
        unit = self.kept.ravel() if self.kept.size else at
        there = unit < self.widths[layer]
        layer, token, unit = layer[there], token[there], unit[there]
        return {
            "layer": np.array(self.layers)[layer],
            "token": token,
            "unit": unit,
            "name": self._names(layer, unit),
            "token_id": self.tokens.ids[token],
            "label": np.array(self.tokens.labels)[token],
            "score": self.scores.ravel()[there],
            "effect": self.effects().ravel()[there],
            "exact": self.exact_mask.ravel()[there],
        }
