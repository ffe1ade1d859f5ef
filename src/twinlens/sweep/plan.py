"""Settings and facts to units of work, each with a hash of all that its numbers depend on."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import torch

from twinlens.sweep.facts import Fact, Facts
from twinlens.sweep.manifest import SCHEMA
from twinlens.sweep.settings import SweepSettings

_SHARED = 640  # tokens of a base run (samples x tokens) that facts fill together: more gain nothing


@dataclass(frozen=True)
class Unit:
    """One fact's work. Units of one key are the same work, wherever and whenever it is done."""

    key: str
    fact: Fact
    length: int  # tokens; 0 where the prompt cannot be read by this model


@dataclass(frozen=True)
class Prepared:
    """What only the model can say: `resolved` holds sigma, the engine of each measure, and the
    threads that every worker computes with; `lengths[fact]` are tokens."""

    model: dict[str, Any]
    versions: dict[str, str]
    resolved: dict[str, Any]
    lengths: tuple[int, ...]


@dataclass(frozen=True)
class Plan:
    """All units of a sweep, in the order of work: those of like length together."""

    settings: SweepSettings
    resolved: dict[str, Any]
    units: tuple[Unit, ...]

    @property
    def sigma(self) -> float | None:
        """The noise of all facts, where it is scaled by the data set."""
        return self.resolved["sigma"]

    def engine(self, measure: str) -> Any:
        """What serves a measure."""
        return self.resolved["engines"][measure]

    def groups(self, units: Sequence[Unit]) -> Iterator[list[Unit]]:
        """Units in a row that share passes: one alone, or with `share` those of one length."""
        for length, alike in groupby(units, key=lambda unit: unit.length):
            rest, together = list(alike), 1
            if self.settings.share and length:
                together = max(1, _SHARED // (length * self.settings.noise.samples))
            yield from (rest[at : at + together] for at in range(0, len(rest), together))


def plan(facts: Facts, settings: SweepSettings, prepared: Prepared, limit: int | None) -> Plan:
    """The units of the first `limit` facts, shortest first."""
    shared = {
        "schema": SCHEMA,
        "settings": settings.plain(),
        "resolved": {name: prepared.resolved[name] for name in ("sigma", "engines")},
        "weights": prepared.model["weights_hash"],
        "computed": [prepared.model["dtype"], prepared.model["device"]],
    }
    units = [
        Unit(_key(shared, fact), fact, length)
        for fact, length in zip(facts.facts[:limit], prepared.lengths[:limit], strict=True)
    ]
    units.sort(key=lambda unit: (unit.length, unit.fact.number))
    return Plan(settings, prepared.resolved, tuple(units))


@contextlib.contextmanager
def computing(count: int) -> Generator[None]:
    """So many threads for a while: sums are split among them, and so is the rounding."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _key(shared: dict[str, Any], fact: Fact) -> str:
    text = json.dumps([shared, fact.content], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:32]
