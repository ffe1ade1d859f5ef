"""A recipe: the stages of a scrub as plain values, checked before anything is run.

seed = 1

[[stage]]
do = "prune"        # or "noise", "recover"
by = "use"
...
"""

from __future__ import annotations

import dataclasses
import math
import tomllib
from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from twinlens.change.recover import Budget
from twinlens.errors import SettingsError, TwinlensError
from twinlens.paths import expanded
from twinlens.results.reading import why
from twinlens.see.question import one_of, whole

Score = Literal["use", "mean_use", "effect", "wanda", "magnitude", "random"]
Units = Literal["neurons", "heads", "weights"]
To = Literal["zero", "mean"]


@dataclass(frozen=True)
class Proposal:
    """What a stage would like to do next: `share` of its units in all (pruning), or the `number` of
    a draw (noise) or of a training."""

    share: float = 0.0
    number: int = 0


Plan = Generator[Proposal, bool, None]
"""A stage at work: it proposes, and is sent whether that passed."""


@dataclass(frozen=True, kw_only=True)
class Prune:
    """Delete what scores lowest, `first` of all units at once; twice as many after a pass, then
    half of what is left below a failure, down to `least`; `most` in all. `recover`: training after
    each deletion, before it is judged."""

    by: Score = "use"
    units: Units = "neurons"
    to: To = "zero"
    first: float = 0.02
    least: float = 0.005
    most: float = 0.9
    recover: Budget | None = None

    def __post_init__(self) -> None:
        one_of("by", self.by, get_args(Score))
        one_of("units", self.units, get_args(Units))
        one_of("to", self.to, get_args(To))
        if self.units == "weights" and (self.to != "zero" or self.by not in _OF_WEIGHTS):
            raise SettingsError(
                f"single weights are set to zero, by one of {', '.join(_OF_WEIGHTS)};"
                f" given by={self.by!r}, to={self.to!r}"
            )
        shares = (self.least, self.first, self.most)
        if not all(isinstance(share, int | float) for share in shares) or not (
            0 < self.least <= self.first <= self.most <= 1
        ):
            raise SettingsError("expected 0 < least <= first <= most <= 1 (shares of all units)")

    def plan(self) -> Plan:
        """Grow while it passes; then halve what is left between what passed and what failed."""
        kept, size, failed = 0.0, self.first, math.inf
        while (share := min(self.most, kept + size, (kept + failed) / 2)) - kept >= self.least:
            if (yield Proposal(share=share)):
                kept, size = share, size * 2
            else:
                failed = share


@dataclass(frozen=True, kw_only=True)
class Noise:
    """Noise of `scale` deviations, `times` draws; one that does not pass is taken back. `recover`:
    training after each draw, before it is judged."""

    scale: float
    times: int = 1
    recover: Budget | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.scale, int | float) or not self.scale > 0:
            raise SettingsError(f"scale={self.scale!r} must be a positive number")
        whole("times", self.times)

    def plan(self) -> Plan:
        """Each draw once."""
        for number in range(self.times):
            yield Proposal(number=number)


@dataclass(frozen=True, kw_only=True)
class Recover:
    """Training towards the original, `times` times over."""

    budget: Budget = field(default_factory=Budget)
    times: int = 1

    def plan(self) -> Plan:
        """Each training once."""
        for number in range(self.times):
            yield Proposal(number=number)


Stage = Prune | Noise | Recover
_OF_WEIGHTS = ("wanda", "magnitude", "random")
_KINDS: dict[str, type[Any]] = {"prune": Prune, "noise": Noise, "recover": Recover}


@dataclass(frozen=True)
class Recipe:
    """Stages in order, and the seed of all that is drawn."""

    stages: tuple[Stage, ...]
    seed: int = 1

    def plain(self) -> dict[str, Any]:
        """As TOML and JSON have it; `recipe_of` reads it back."""
        stages: list[dict[str, Any]] = []
        for stage in self.stages:
            values = dataclasses.asdict(stage)
            if isinstance(stage, Recover):
                values = values.pop("budget") | values
            elif values["recover"] is None:
                del values["recover"]
            kind = next(name for name, kind in _KINDS.items() if isinstance(stage, kind))
            stages.append({"do": kind, **values})
        return {"seed": self.seed, "stage": stages}


def recipe_of(given: Mapping[str, Any] | str | Path) -> Recipe:
    """A recipe from plain values or a TOML file. Raises `SettingsError` with the place of what does
    not fit."""
    where = "the recipe"
    if isinstance(given, str | Path):
        where, given = str(given), _read(Path(given))
    stages, seed = given.get("stage"), given.get("seed", 1)
    if strange := sorted(given.keys() - {"seed", "stage"}):
        raise SettingsError(f"{where}: {strange[0]!r} is not known; expected seed and [[stage]]")
    if not isinstance(stages, list) or not stages:
        raise SettingsError(f"{where} has no stage; write [[stage]] and do = ...")
    try:
        whole("seed", seed, 0)
    except TwinlensError as error:
        raise SettingsError(f"{where}: {error}") from error
    made = [_stage(one, seed, f"{where}, stage {n}") for n, one in enumerate(stages, 1)]
    return Recipe(tuple(made), seed)


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(expanded(path).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise SettingsError(f"the recipe {path} does not exist") from error
    except (OSError, ValueError, RecursionError) as error:
        raise SettingsError(f"the recipe {path} cannot be read: {why(error)}") from error


def _stage(given: Any, seed: int, where: str) -> Stage:
    values = dict(given) if isinstance(given, Mapping) else {}
    kind = values.pop("do", None)
    if kind not in _KINDS:
        raise SettingsError(f"{where}: do={kind!r}; expected one of {', '.join(_KINDS)}")
    try:
        if kind == "recover":
            times = values.pop("times", 1)
            whole("times", times)
            return Recover(budget=_budget(values, seed, where), times=times)
        if values.get("recover") is not None:
            values["recover"] = _budget(values["recover"], seed, where)
        _refuse_strange(values, _KINDS[kind], where)
        return _KINDS[kind](**values)
    except TypeError as error:
        raise SettingsError(f"{where}: {error}") from error
    except TwinlensError as error:
        said = str(error)
        raise SettingsError(said if said.startswith(where) else f"{where}: {said}") from error


def _budget(values: Any, seed: int, where: str) -> Budget:
    if not isinstance(values, Mapping):
        raise SettingsError(f"{where}: recover must be a table, e.g. {{ steps = 100 }}")
    _refuse_strange(values, Budget, where)
    return Budget(**{"seed": seed} | dict(values))


def _refuse_strange(values: Mapping[str, Any], kind: type[Any], where: str) -> None:
    known = [item.name for item in dataclasses.fields(kind)]
    if strange := sorted(values.keys() - set(known)):
        raise SettingsError(f"{where}: {strange[0]!r} is not known; known are {', '.join(known)}")
