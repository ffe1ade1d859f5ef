"""How the neurons of a block with experts are numbered and named: `E2.N17`, `S.N17`.

In arrays they are one row: those of expert 0, of expert 1, ..., and last those of the experts that
every token passes (the shared ones). A result, a run's manifest and a document of the viewer keep
the numbering under `experts`, by the block's name; `unit_name` makes names of it everywhere.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

_NAME = re.compile(r"(?:E(\d{1,5})|S)\.N(\d{1,7})", re.IGNORECASE)
SHARED = -1  # as the number of an expert


class ExpertUnits(NamedTuple):
    """So many experts with so many neurons each, and the neurons of the shared experts."""

    experts: int
    width: int
    shared: int = 0

    @property
    def routed(self) -> int:
        """Number of neurons of the experts among which the router chooses."""
        return self.experts * self.width

    @property
    def total(self) -> int:
        """Number of all neurons."""
        return self.routed + self.shared

    @property
    def range(self) -> str:
        """Which names there are, in words."""
        shared = f", and neurons S.N0 to S.N{self.shared - 1}" if self.shared else ""
        return f"experts E0 to E{self.experts - 1} with neurons N0 to N{self.width - 1}{shared}"

    def name(self, number: int) -> str:
        """`E2.N17`, or `S.N17` of the shared experts.

        >>> ExpertUnits(4, 16, 8).name(33), ExpertUnits(4, 16, 8).name(64)
        ('E2.N1', 'S.N0')
        """
        if number >= self.routed:
            return expert_name(SHARED, number - self.routed)
        return expert_name(*divmod(number, self.width))

    def number(self, expert: int, neuron: int) -> int | None:
        """Where a neuron of an expert (`SHARED`: of the shared ones) stands; None: nowhere."""
        if expert == SHARED:
            return self.routed + neuron if 0 <= neuron < self.shared else None
        inside = 0 <= expert < self.experts and 0 <= neuron < self.width
        return expert * self.width + neuron if inside else None


Numbering = Mapping[str, ExpertUnits]
"""By the name of a block: how its neurons are numbered. Blocks without experts are not in it."""


def numbering_in(about: Mapping[str, Any]) -> dict[str, ExpertUnits]:
    """The numbering that settings, a manifest or a look hold under `experts`; empty where none is.

    Raises `TypeError` or `ValueError` where it is damaged.

    >>> numbering_in({"experts": {"1": [4, 16, 8]}})["1"].total
    72
    """
    found: dict[str, ExpertUnits] = {}
    for block, given in dict(about.get("experts") or {}).items():
        units = ExpertUnits(*given)
        if any(type(n) is not int for n in units) or min(units[:2]) < 1 or units.shared < 0:
            raise ValueError(f"experts of block {str(block)[:40]!r} are {str(given)[:40]!r}")
        found[str(block)] = units
    return found


def plain_numbering(experts: Numbering) -> dict[str, list[int]]:
    """As settings, manifests and documents hold it."""
    return {block: list(units) for block, units in experts.items()}


def unit_name(layer: str | int, number: int, experts: Numbering, sign: str = "") -> str:
    """`3.112` (with a sign `3.N112`); of experts `3.E2.N17` and, of shared ones, `3.S.N17`.

    >>> unit_name(3, 33, {}), unit_name(3, 33, {"3": ExpertUnits(4, 16)})
    ('3.33', '3.E2.N1')
    """
    units = experts.get(str(layer))
    return f"{layer}.{sign}{number}" if units is None else f"{layer}.{units.name(number)}"


def expert_unit(text: str) -> tuple[int, int] | None:
    """The expert (`SHARED`: the shared ones) and the neuron of a name; None where it is none.

    >>> expert_unit("E2.N17"), expert_unit("S.N3"), expert_unit("N17")
    ((2, 17), (-1, 3), None)
    """
    found = _NAME.fullmatch(text)
    if found is None:
        return None
    return SHARED if found[1] is None else int(found[1]), int(found[2])


def expert_name(expert: int, neuron: int) -> str:
    """`E2.N17`, or `S.N17` of the shared experts."""
    return f"{'S' if expert == SHARED else f'E{expert}'}.N{neuron}"
