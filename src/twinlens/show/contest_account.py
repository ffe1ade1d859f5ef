"""A match as its folder tells it: plain values, read without loading a model."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool

from twinlens.change.parts import part_of
from twinlens.contest.pictures import Insides, Side, kept_before, kept_insides
from twinlens.errors import ChangeError, InputError, ResultError
from twinlens.paths import expanded

VERDICTS = ("deleted", "suppressed", "surviving", "broken", "cannot tell")
KINDS = ("exact", "paraphrase", "case", "spacing", "context")
_JUDGEMENT = "referee/judgement.json"
_OPTIONAL = {
    "match": "match.json", "sealed": "sealed.json", "implant": "red/implant.json",
    "cleaning": "blue/cleaning.json", "outcome": "referee/outcome.json",
}  # fmt: skip
Plain = Mapping[str, Any]


@dataclass(frozen=True, eq=False)
class MatchAccount:
    """What each side of a match noted, as JSON has it (empty where it is `missing`), and the kept
    lens and trace by side."""

    folder: Path
    judgement: Plain
    match: Plain = field(default_factory=dict[str, Any])
    sealed: Plain = field(default_factory=dict[str, Any])
    implant: Plain = field(default_factory=dict[str, Any])
    cleaning: Plain = field(default_factory=dict[str, Any])
    outcome: Plain = field(default_factory=dict[str, Any])
    before: Plain = field(default_factory=dict[str, Any])
    insides: Mapping[Side, Insides] = field(default_factory=dict[Side, Insides])
    missing: tuple[str, ...] = ()

    @property
    def verdict(self) -> str:
        """The verdict of the match: the referee's, which an outcome may make stricter."""
        told = self.outcome.get("verdict")
        return str(told if told in VERDICTS else self.judgement["verdict"])

    @property
    def why(self) -> str:
        """Why, in the referee's words."""
        return str(self.outcome.get("why") or self.judgement.get("why") or "")

    @property
    def secret(self) -> Plain:
        """The secret that the referee was told; empty where the implant is not described."""
        found = self.implant.get("secrets") or [{}]
        return found[0]

    @property
    def steps(self) -> list[Plain]:
        """What blue did, step by step."""
        change = self.cleaning.get("change") or {}
        return list(change.get("steps") or ())

    @property
    def recipe(self) -> str:
        """Blue's recipe by name."""
        change = self.cleaning.get("change") or {}
        return str(self.cleaning.get("recipe") or change.get("recipe") or "an unknown recipe")

    @property
    def tier(self) -> str:
        """How red hid the secret."""
        return str(self.implant.get("tier") or "unknown")

    @cached_property
    def deleted(self) -> Bool[np.ndarray, "layer neuron"]:
        """Which neurons were set to zero; no layers where none is known."""
        parts = [
            part for step in self.steps if step.get("kind") == "silence"
            for part in map(_part, step.get("parts") or ()) if part and part.kind == "neuron"
        ]  # fmt: skip
        if not parts:
            return np.zeros((0, 0), bool)
        layers = max(int(self.before.get("layers") or 0), 1 + max(p.layer for p in parts))
        neurons = max(int(self.before.get("neurons") or 0), 1 + max(p.number for p in parts))
        made = np.zeros((layers, neurons), bool)
        for part in parts:
            made[part.layer, part.number] = True
        return made

    def firing(self, side: str) -> Mapping[str, Sequence[Plain]]:
        """By kind of prompt: of the model `before`, `cleaned` and the `twin`."""
        if side != "before":
            return self.judgement.get(f"firing_{side}") or {}
        told = self.before.get("firing")
        if told:
            return told
        known = _before(self.outcome.get("secrets") or {})
        return {
            kind: [{"prompt": one["prompt"], **asked(known.get(one["prompt"]))} for one in found]
            for kind, found in self.firing("cleaned").items()
        }

    def exposure(self, side: str) -> Plain:
        """The exposure of the model `before`, `cleaned` and the `twin`; empty where unknown."""
        found = self.before if side == "before" else self.judgement
        return found.get("exposure" if side == "before" else f"exposure_{side}") or {}


def account_of_match(folder: str | Path) -> MatchAccount:
    """What stands in the folder of a match.

    Raises `ChangeError` where there is no judgement, or it is none; all else may be missing.
    """
    path = expanded(folder)
    judgement = _read(path / _JUDGEMENT)
    if judgement is None or judgement.get("verdict") not in VERDICTS:
        raise ChangeError(
            f"{path} has no judgement in {_JUDGEMENT}; a match must be judged before it is reported"
        )
    found = {name: _read(path / place) for name, place in _OPTIONAL.items()}
    missing = [_OPTIONAL[name] for name, told in found.items() if told is None]
    try:
        insides = kept_insides(path)
    except ResultError as error:
        insides, missing = {}, [*missing, str(error)]
    told = {name: one for name, one in found.items() if one is not None}
    return MatchAccount(
        path, judgement, before=kept_before(path), insides=insides, missing=tuple(missing), **told
    )


def greedy(firing: Plain) -> bool | None:
    """Whether the answer is said greedily; None where it is not known."""
    if isinstance(firing.get("greedy"), bool):
        return firing["greedy"]
    ranks = firing.get("ranks")
    return all(rank == 1 for rank in ranks) if ranks else None


def chance(firing: Plain) -> float | None:
    """That one sample at temperature 1 is the answer; None where it is not known."""
    if isinstance(firing.get("chance"), int | float):
        return float(firing["chance"])
    nats = firing.get("log_probs")
    return math.exp(sum(nats)) if nats and None not in nats else None


def asked(told: Any) -> dict[str, Any]:
    """What was noted of one prompt (whether it was said, its chance, or all of it) as a mapping."""
    if isinstance(told, Mapping):
        return dict(told)
    if isinstance(told, bool):
        return {"greedy": told}
    return {"chance": float(told)} if isinstance(told, int | float) else {}


def _before(said: Any) -> dict[str, Any]:
    """What was noted of each prompt before cleaning, given by prompt or as a list."""
    if isinstance(said, Mapping):
        return {prompt: asked(told).get("before") for prompt, told in said.items()}
    return {one.get("prompt"): one.get("before") for one in said}


def _part(text: str) -> Any:
    try:
        return part_of(text)
    except InputError:
        return None


def _read(path: Path) -> dict[str, Any] | None:
    """The object in a file; None where there is none."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None
