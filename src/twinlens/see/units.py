"""Single units of MLPs put into the base run: all of them, some of them, or as the 2022 rule does.

A unit is a neuron (an input of the down-projection) or a coordinate of what the MLP adds.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Int

from twinlens.model.anatomy import Site, SiteKind
from twinlens.model.model import Model
from twinlens.results.units import plain_numbering
from twinlens.run.batches import Progress, counting
from twinlens.run.engine import Engine, Engines
from twinlens.run.passes import Cell, Inputs, State, read
from twinlens.see.runs import Runs

Basis = Literal["neuron", "coordinate"]
Place = tuple[int, int]  # layer, token

_AT_ONCE = 100_000  # cells that are written down at a time


class Units:
    """Runs with units of one base restored, and the metric of the answer in each."""

    def __init__(
        self,
        model: Model,
        runs: Runs,
        basis: Basis,
        *,
        differing: Sequence[int],
        engine: Engine,
        batch_tokens: int,
        on_smaller: Callable[[int], None],
    ) -> None:
        self.model, self.runs, self.first = model, runs, min(differing)
        self.kind: SiteKind = kind_of(basis)
        self.tokens = int(runs.base.ids.shape[1])
        self.widths = [
            int(runs.source.values[Site(self.kind, layer)].shape[-1])
            for layer in range(model.n_layers)
        ]
        self.n_units = max(self.widths)
        self.batch_tokens = batch_tokens

        def engines(cells: Sequence[Cell]) -> Engines:
            return Engines(
                model, engine, runs.base, runs.source.values, cells, runs.score,
                differing=differing, batch_tokens=batch_tokens, on_smaller=on_smaller,
            )  # fmt: skip

        reached = [
            (layer, t) for layer in range(model.n_layers) for t in range(self.first, self.tokens)
        ]
        tried = [self._cell(place, units) for place in reached for units in self._sets(place[0])]
        self._single = engines(tried)
        self._whole = engines([self._mlp(place) for place in reached])

    @property
    def exists(self) -> Bool[np.ndarray, "layer 1 unit"]:
        """Which units there are: blocks may differ in how many they have."""
        return np.arange(self.n_units) < np.array(self.widths)[:, None, None]

    def _sets(self, layer: int) -> tuple[tuple[int, ...], ...]:
        """Units by which an engine is tried: one alone has too small an effect to prove anything,
        and neurons of shared experts are elsewhere."""
        every = tuple(range(self.widths[layer]))
        mixture = self.model.experts(layer) if self.kind == "neuron" else None
        if mixture is None or not mixture.units.shared:
            return every, every[::2]
        return every[: mixture.units.routed], every[mixture.units.routed :]

    @property
    def used(self) -> str:
        """Which engine restores the units."""
        return self._single.used

    @property
    def notes(self) -> list[str]:
        """What a reader must know of the engine."""
        return list(dict.fromkeys(e.note for e in (self._single, self._whole) if e.note))

    def all_units(
        self, places: Sequence[Place], advance: Callable[[int], None]
    ) -> Float[np.ndarray, "place unit"]:
        """The metric, averaged over the samples, with each unit of each place restored alone."""
        found = np.full((len(places), self.n_units), np.nan)
        by_token = sorted(range(len(places)), key=lambda n: places[n][1])  # shared passes
        step = max(1, _AT_ONCE // self.n_units)
        for start in range(0, len(by_token), step):
            chosen = by_token[start : start + step]
            units = [(n, u) for n in chosen for u in range(self.widths[places[n][0]])]
            cells = [self._cell(places[n], unit) for n, unit in units]
            found[tuple(np.array(units).T)] = self._scores(self._single, cells, advance)
        return found

    def some_units(
        self, chosen: Int[np.ndarray, "unit 3"], advance: Callable[[int], None]
    ) -> Float[np.ndarray, " unit"]:
        """The same for units given as (layer, token, unit)."""
        cells = [self._cell((layer, token), unit) for layer, token, unit in chosen.tolist()]
        return self._scores(self._single, cells, advance)

    def whole(self, places: Sequence[Place], progress: Progress) -> Float[np.ndarray, " place"]:
        """The metric with the whole MLP of each place restored."""
        with counting(len(places), "whole MLPs", progress) as advance:
            return self._scores(self._whole, [self._mlp(place) for place in places], advance)

    def greedy(self, place: Place, stop: float) -> tuple[int, float]:
        """How many units the 2022 rule restores, and the metric then.

        Units in descending order of their value in the source run, until the metric reaches `stop`
        (all, where it never does). Prefixes are tried in batches, shortest first.
        """
        layer, token = place
        order = self._order(place)
        samples = self.runs.base.samples
        size = max(1, self.batch_tokens // (self.tokens * samples))
        value = float("nan")
        n_units = self.widths[layer]
        for start in range(1, n_units + 1, size):
            lengths = range(start, min(start + size, n_units + 1))
            site = Site(self.kind, layer)
            cells: list[Cell] = [(State(site, token, tuple(order[:n])),) for n in lengths]
            scores = self._scores(self._single, cells, lambda _: None)
            reached = np.flatnonzero(scores >= stop)
            if len(reached):
                return lengths[int(reached[0])], float(scores[reached[0]])
            value = float(scores[-1])
        return n_units, value

    def restored_by_greedy(self, place: Place, count: int) -> list[int]:
        """The first `count` units in the order of the 2022 rule."""
        return self._order(place)[:count]

    def predicted_seconds(self, places: Sequence[Place]) -> float:
        """How long `all_units` would take here, from a batch in the middle that is timed."""
        by_work = sorted((p for p in places if self._work(p)), key=self._work)
        if not by_work:
            return 0.0
        middle = by_work[len(by_work) // 2]
        size = max(1, self.batch_tokens // (self.tokens * self.runs.base.samples))
        width = self.widths[middle[0]]
        cells = [self._cell(middle, unit % width) for unit in range(min(size, 512))]
        self._scores(self._single, cells[:1], lambda _: None)  # the base run is recorded
        started = time.perf_counter()
        self._scores(self._single, cells, lambda _: None)
        rate = (time.perf_counter() - started) / (len(cells) * self._work(middle))
        return rate * sum(self._work(place) * self.widths[place[0]] for place in places)

    def _work(self, place: Place) -> int:
        """Blocks times tokens that are run for a unit, and one for the rest."""
        if self.used == "hooks":
            return self.model.n_layers * self.tokens
        layer, token = place
        if self._single.is_known(self._cell(place, 0)):
            return 0
        return (self.model.n_layers - layer - 1) * (self.tokens - token) + 1

    def _scores(
        self, engines: Engines, cells: Sequence[Cell], advance: Callable[[int], None]
    ) -> np.ndarray:
        return engines.scores(cells, advance).mean(axis=1)

    def _cell(self, place: Place, unit: int | tuple[int, ...]) -> Cell:
        return (State(Site(self.kind, place[0]), place[1], unit),)

    @staticmethod
    def _mlp(place: Place) -> Cell:
        return (State(Site("mlp", place[0]), place[1]),)

    def _order(self, place: Place) -> list[int]:
        layer, token = place
        value = self.runs.source.values[Site(self.kind, layer)][:, token].float().mean(0)
        return value.argsort(descending=True, stable=True).tolist()


def kind_of(basis: Basis) -> SiteKind:
    """The site whose units are meant."""
    return "neuron" if basis == "neuron" else "mlp"


def widths_of(model: Model, kind: SiteKind) -> list[int]:
    """How many units the MLP of each block has."""
    widths: dict[str, list[int]] = model._memo.setdefault("widths", {})
    if kind not in widths:
        made = read(model, Inputs(torch.zeros(1, 1, dtype=torch.long)), model.sites(kind))
        widths[kind] = [int(made.values[site].shape[-1]) for site in model.sites(kind)]
    return widths[kind]


def numbering_of(model: Model) -> dict[str, list[int]]:
    """How the neurons of experts are numbered, by block, as results and runs keep it."""
    mixtures = {str(layer): model.experts(layer) for layer in range(model.n_layers)}
    return plain_numbering({n: one.units for n, one in mixtures.items() if one is not None})


def told_of(model: Model, basis: Basis, widths: Sequence[int]) -> dict[str, Any]:
    """What a result must tell so that units can be named: the experts, and how many units each
    block has where that differs."""
    told: dict[str, Any] = {"widths": list(widths)} if len(set(widths)) > 1 else {}
    if basis == "neuron" and (numbering := numbering_of(model)):
        told["experts"] = numbering
    return told
