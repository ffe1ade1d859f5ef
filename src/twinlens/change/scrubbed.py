"""A scrub read again from its folder, without running it: as a run with its model, or as an
account, which is all that a report tells and needs no model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
from jaxtyping import Bool, Float

from twinlens.change.copy import Copy
from twinlens.change.journal import ABOUT, Entry, read_about, read_journal
from twinlens.change.ledger import read_ledger
from twinlens.change.parts import parts_of
from twinlens.change.recipe import Prune, Recipe, Stage, recipe_of
from twinlens.change.scrub import ScrubRun
from twinlens.errors import ChangeError
from twinlens.paths import expanded
from twinlens.results import open_result
from twinlens.results.reading import sound
from twinlens.results.storage import plain
from twinlens.results.use import UnitKind, UseResult

_KINDS: dict[str, UnitKind] = {"neurons": "neuron", "heads": "head"}


def open_scrub(folder: str | Path, **options: Any) -> ScrubRun:
    """The scrub in a folder as `scrub` returned it (or would, had it not been stopped).

    `options` go to `tl.load` (`device`, ...). Raises `ChangeError` where the folder is none, or its
    weights are not those of its ledger.
    """
    path, about = _begun(folder)
    entries, copy = tuple(read_journal(path)), Copy.open(path, **options)
    with sound(path / ABOUT, ChangeError):
        recipe, controls = recipe_of(about["recipe"]), dict(about.get("controls", {}))
    return ScrubRun(copy, recipe, entries, about.get("final"), controls, about)


@dataclass(frozen=True, eq=False)
class Deletion:
    """Which units of a kind were deleted, and the scores by which they were chosen (of a stage that
    chose by chance: the size of their weights)."""

    kind: UnitKind
    score: str
    scores: Float[np.ndarray, "layer unit"]
    removed: Bool[np.ndarray, "layer unit"]

    @property
    def share(self) -> float:
        """The share that was deleted."""
        return float(self.removed.mean())


@dataclass(frozen=True, eq=False)
class StageAccount:
    """A stage and its proposals; `before` is the increase it began with, `control` that of noise
    that was added at once."""

    stage: Stage
    entries: tuple[Entry, ...]
    before: float
    control: dict[str, float] | None

    @property
    def accepted(self) -> tuple[Entry, ...]:
        """The proposals that passed."""
        return tuple(entry for entry in self.entries if entry.accepted)


@dataclass(frozen=True, eq=False)
class ScrubAccount:
    """What a scrub did: its `stages`, the `deletions` by kind of unit (of stages that began),
    `zeroed`, the share of single weights that were set to zero, and the `final` verdict (None: no
    final text, or not that far).

    `finished` tells whether it went to its end, `later` how many steps were made after it.
    """

    folder: Path
    model: str
    about: dict[str, Any]
    recipe: Recipe
    stages: tuple[StageAccount, ...]
    deletions: tuple[Deletion, ...]
    zeroed: float
    final: dict[str, Any] | None
    finished: bool
    later: int

    @property
    def entries(self) -> tuple[Entry, ...]:
        """All proposals in order."""
        return tuple(entry for stage in self.stages for entry in stage.entries)

    @property
    def accepted(self) -> tuple[Entry, ...]:
        """The proposals that passed."""
        return tuple(entry for entry in self.entries if entry.accepted)

    @property
    def verdict(self) -> dict[str, Any] | None:
        """The final verdict, else that of the last accepted proposal."""
        last = self.accepted[-1:]
        return self.final or (dict(last[0].verdict) if last else None)

    @property
    def seconds(self) -> float:
        """What making and judging the proposals took."""
        return sum(entry.seconds for entry in self.entries)

    def tokens(self, *, accepted: bool) -> int:
        """Tokens that were trained on, by proposals that were accepted, or by the others."""
        return sum(tokens_of(entry) for entry in self.entries if entry.accepted is accepted)

    def to_dict(self) -> dict[str, Any]:
        """All of it as plain lists, numbers and strings."""
        return plain(
            {
                "folder": str(self.folder), "model": self.model, "finished": self.finished,
                "original": self.about["original"], "later": self.later,
                "recipe": self.recipe.plain(), "stages": [_told(one) for one in self.stages],
                "deleted": {f"{one.kind}s": _counts(one) for one in self.deletions},
                "zeroed": self.zeroed, "final": self.final, "seconds": self.seconds,
                "tokens": {"accepted": self.tokens(accepted=True),
                           "rejected": self.tokens(accepted=False)},
            }
        )  # fmt: skip


def account_of(folder: str | Path) -> ScrubAccount:
    """The account of the scrub in a folder; no model is loaded.

    Raises `ChangeError` where the folder is none, or is damaged.
    """
    path, about = _begun(folder)
    entries, steps = read_journal(path), read_ledger(path)
    last = max((entry.step or 0 for entry in entries), default=0)
    with sound(path / ABOUT, ChangeError):
        recipe, original = recipe_of(about["recipe"]), str(about["original"])
        return ScrubAccount(
            folder=path, model=str(steps[0].change.get("model", "the original")),
            about=about | {"original": original}, recipe=recipe,
            stages=_stages(recipe, entries, about), zeroed=_zeroed(entries),
            deletions=_deletions(path, recipe, entries), final=about.get("final"),
            finished=bool(about.get("finished")), later=steps[-1].step - last,
        )  # fmt: skip


def tokens_of(entry: Entry) -> int:
    """Tokens of the training that belongs to a proposal."""
    change = entry.change
    recovery = change if change.get("kind") == "recovery" else change.get("recovery") or {}
    return int(recovery.get("tokens", 0))


def _begun(folder: str | Path) -> tuple[Path, dict[str, Any]]:
    path = expanded(folder)
    about = read_about(path)
    if about is None:
        raise ChangeError(f"{path} is no folder of a scrub: it has no {ABOUT}")
    return path, about


def _stages(
    recipe: Recipe, entries: Sequence[Entry], about: dict[str, Any]
) -> tuple[StageAccount, ...]:
    made, before = list[StageAccount](), 0.0
    for number, stage in enumerate(recipe.stages):
        mine = tuple(entry for entry in entries if entry.stage == number)
        made.append(StageAccount(stage, mine, before, about.get("controls", {}).get(str(number))))
        for entry in made[-1].accepted:
            before = entry.increase
    return tuple(made)


def _zeroed(entries: Sequence[Entry]) -> float:
    shares = [e.share for e in entries if e.accepted and e.change.get("kind") == "zero_weights"]
    return max(shares, default=0.0)


def _deletions(path: Path, recipe: Recipe, entries: Sequence[Entry]) -> tuple[Deletion, ...]:
    """Each kind of unit by the scores of the first stage that was about it."""
    names = [n for e in entries if e.accepted for n in e.change.get("parts", ())]
    parts, made = parts_of(names), dict[UnitKind, Deletion]()
    for number, stage in enumerate(recipe.stages):
        scores = path / "scores" / f"stage-{number}.safetensors"
        if not isinstance(stage, Prune) or stage.units not in _KINDS or not scores.exists():
            continue
        kind, score = _KINDS[stage.units], "magnitude" if stage.by == "random" else stage.by
        values = cast(UseResult, open_result(scores)).score(score, kind)
        removed = np.zeros(values.shape, bool)
        for part in parts:
            removed[part.layer, part.number] |= part.kind == kind
        made.setdefault(kind, Deletion(kind, score, values, removed))
    return tuple(made.values())


def _counts(one: Deletion) -> dict[str, Any]:
    return {
        "count": int(one.removed.sum()), "of": one.removed.size, "share": one.share,
        "by_layer": one.removed.sum(axis=1),
    }  # fmt: skip


def _told(one: StageAccount) -> dict[str, Any]:
    return {
        "tries": len(one.entries), "accepted": len(one.accepted), "before": one.before,
        "control": one.control,
        "proposals": [
            {"share": e.share, "number": e.number, "accepted": e.accepted, "step": e.step,
             "increase": e.verdict["increase"], "lower": e.verdict["lower"],
             "upper": e.verdict["upper"], "verdict": e.verdict["verdict"], "tokens": tokens_of(e),
             "seconds": e.seconds}
            for e in one.entries
        ],
    }  # fmt: skip
