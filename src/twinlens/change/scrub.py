"""A scrub: the stages of a recipe, one proposal after the other, each judged by the gate.

The one idea: a stage proposes a change, the gate judges it on the model as it would be, and what
passes goes into the ledger. A scrub that was stopped sends the journal's answers to its stages and
goes on where the journal ends.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np

from twinlens.change.change import Assigned, Change, changed
from twinlens.change.copy import Copy
from twinlens.change.gate import Gate
from twinlens.change.journal import (
    Entry,
    read_about,
    read_journal,
    refuse_other,
    write_about,
    write_journal,
)
from twinlens.change.ledger import LEDGER
from twinlens.change.noise import WeightNoise, told_rounding
from twinlens.change.parts import Part
from twinlens.change.recipe import Noise, Proposal, Prune, Recipe, Recover, Stage, recipe_of
from twinlens.change.recorded import compare
from twinlens.change.recover import Budget, recover
from twinlens.change.reference import GateReference
from twinlens.change.silence import silence
from twinlens.change.use import use_map
from twinlens.change.weights import zero_weights
from twinlens.errors import ChangeError
from twinlens.model.model import Model
from twinlens.paths import expanded
from twinlens.results import open_result
from twinlens.results.use import UseResult
from twinlens.run.batches import Progress
from twinlens.see.texts import Text, documents, documents_hash

_REFERENCE = "reference.safetensors"
_LENGTH = 128  # tokens of a window in which units are scored


@dataclass(frozen=True)
class ScrubRun:
    """What a scrub did: the `copy` with its ledger, the journal's `entries`, the `final` verdict
    (None: no final text was given), and `controls`, by stage, of noise that was added at once."""

    copy: Copy
    recipe: Recipe
    entries: tuple[Entry, ...]
    final: dict[str, Any] | None
    controls: dict[str, dict[str, float]]
    about: dict[str, Any] = field(default_factory=dict[str, Any])

    @property
    def folder(self) -> Path:
        """Where it is."""
        return self.copy.folder

    def removed(self) -> tuple[Part, ...]:
        """The parts that are silent now, by the accepted steps."""
        from twinlens.change.parts import parts_of

        names = [
            name for entry in self.entries if entry.accepted
            for name in entry.change.get("parts", ())
        ]  # fmt: skip
        return parts_of(names) if names else ()


def scrub(
    model: Model,
    recipe: Recipe | dict[str, Any] | str | Path,
    folder: str | Path,
    *,
    text: Text,
    gate: Gate,
    told: Callable[[Entry], None] | None = None,
    progress: Progress = None,
) -> ScrubRun:
    """Delete, add noise and train by a recipe, each step only where quality surely stayed.

    `text` is what units are scored and the model is trained on; `gate` has the texts it is judged
    on, and the final one. All must be apart: give `chosen_on=text` to the gate. `folder` becomes a
    copy of the model (`Copy`) with ledger, journal and scores; the same call goes on in it where it
    stopped. The model itself is never changed. `told` hears of each proposal that was judged.

    Every proposal is judged against the original, at the next look of the gate; "cannot tell" is
    no pass. Raises `SettingsError` for the recipe, `ChangeError` for a folder that was begun with
    something else, `InputError` for a text of the gate with too few documents for any verdict, and
    what `use_map`, `recover` and the gate raise.
    """
    made = recipe if isinstance(recipe, Recipe) else recipe_of(recipe)
    begun = _Scrub(model, made, expanded(folder), text, gate, progress)
    return begun.run(told)


class _Scrub:
    def __init__(
        self, model: Model, recipe: Recipe, folder: Path, text: Text, gate: Gate, progress: Progress
    ) -> None:
        self.original, self.recipe, self.folder = model, recipe, folder
        self.text, self.progress = documents(text), progress
        gate.refuse_too_few()
        self.length = min(_LENGTH, model.context or _LENGTH)
        asked: dict[str, Any] = {
            "recipe": recipe.plain(), "original": model.weights_hash(),
            "text": documents_hash(self.text),
        }  # fmt: skip
        self.copy, self.about = self._begun(asked)
        self.reference: GateReference = gate.of(model, file=folder / _REFERENCE, progress=progress)
        self.entries = self._entries()

    def _begun(self, asked: dict[str, Any]) -> tuple[Copy, dict[str, Any]]:
        """A new copy, or that of a scrub that was begun with the same."""
        begun = read_about(self.folder)
        if begun is not None:
            refuse_other(self.folder, begun, asked)
            return Copy.open(self.folder, device=str(self.original.device)), begun
        if not (self.folder / LEDGER).exists():
            copy = Copy.create(self.original, self.folder)
        else:
            copy = Copy.open(self.folder, device=str(self.original.device))
            if len(copy.steps) > 1 or copy.steps[0].after != asked["original"]:
                raise ChangeError(f"{self.folder} is a changed copy, but no scrub; give a new one")
        write_about(self.folder, asked)
        return copy, asked

    def run(self, tell: Callable[[Entry], None] | None) -> ScrubRun:
        """All stages, then the final text."""
        told, controls = 0, dict[str, dict[str, float]](self.about.get("controls", {}))
        for number, stage in enumerate(self.recipe.stages):
            start = 0 if told == 0 else self._step_after(self.entries[:told])
            told = self._stage(number, stage, told, tell)
            if isinstance(stage, Noise) and stage.times > 1 and str(number) not in controls:
                controls[str(number)] = self._at_once(number, stage, start)
                self._keep(controls=controls)
        final = self.about.get("final")
        if final is None and self.reference.final:
            final = self.reference.check_final(self.copy.model, progress=self.progress).to_dict()
            self._keep(final=final)
        self._keep(finished=True)
        return ScrubRun(
            self.copy, self.recipe, tuple(self.entries), final, controls, dict(self.about)
        )

    def _stage(
        self, number: int, stage: Stage, told: int, tell: Callable[[Entry], None] | None
    ) -> int:
        """One stage; the first answers come from the journal. Returns how many entries it has."""
        plan, proposal = stage.plan(), None
        try:
            proposal = next(plan)
            while True:
                if told == len(self.entries):
                    self._try(number, stage, proposal)
                    if tell is not None:
                        tell(self.entries[-1])
                answer = self.entries[told].accepted
                told += 1
                proposal = plan.send(answer)
        except StopIteration:
            return told

    def _try(self, number: int, stage: Stage, proposal: Proposal) -> None:
        """Judge a proposal; what passes goes into the ledger, and all into the journal."""
        started = time.monotonic()
        change = self._change(number, stage, proposal)
        rounded = told_rounding(self.copy.model, change)
        with changed(self.copy.model, change):
            verdict = self.reference.check(self.copy.model, progress=self.progress)
        about = dict(change.plain()) | rounded
        entry = Entry(
            stage=number, share=proposal.share, number=proposal.number, change=about,
            verdict=verdict.to_dict(), accepted=verdict.passed,
            step=len(self.copy.steps) if verdict.passed else None,
            seconds=time.monotonic() - started,
        )  # fmt: skip
        if verdict.passed:
            self.copy.apply(change, {"increase": verdict.increase, "entry": entry.__dict__})
        self.entries.append(entry)
        write_journal(self.folder, self.entries)

    def _change(self, number: int, stage: Stage, proposal: Proposal) -> Change:
        """What is proposed, with the training that belongs to it."""
        seed = self.recipe.seed + 1000 * number + proposal.number
        if isinstance(stage, Recover):
            return self._trained(stage.budget, proposal.number)
        if isinstance(stage, Noise):
            change: Change = WeightNoise(stage.scale, seed)
        elif stage.units == "weights":
            change = zero_weights(
                self.copy.model, proposal.share, by=cast(Any, stage.by), seed=self.recipe.seed,
                text=self.text if stage.by == "wanda" else None, length=self.length,
            )  # fmt: skip
        else:
            parts = self._lowest(number, stage, proposal.share)
            text = self.text if stage.to == "mean" else None
            change = silence(
                self.copy.model, parts, to=stage.to, text=text, length=self.length,
                progress=self.progress,
            )  # fmt: skip
        if stage.recover is None:
            return change
        with changed(self.copy.model, change):
            trained = self._trained(stage.recover, proposal.number)
        return Assigned(trained.tensors, {**change.plain(), "recovery": dict(trained.about)})

    def _trained(self, budget: Budget, number: int) -> Assigned:
        drawn = Budget(**{**budget.__dict__, "seed": budget.seed + number})
        return recover(self.copy.model, self.original, self.text, drawn, progress=self.progress)

    def _lowest(self, number: int, stage: Prune, share: float) -> list[Part]:
        """The lowest `share` of the units, by the scores at the beginning of the stage."""
        kind = "neuron" if stage.units == "neurons" else "head"
        if stage.by == "random":
            shape = self._scores(number, stage).score("magnitude", kind).shape
            scores = np.random.RandomState(self.recipe.seed + number).permutation(np.prod(shape))
        else:
            found = self._scores(number, stage).score(stage.by, kind)
            shape, scores = found.shape, found.ravel()
        order = np.argsort(scores, kind="stable")[: max(1, round(share * scores.size))]
        layers, units = np.unravel_index(order, shape)
        return [Part(kind, int(at), int(n)) for at, n in zip(layers, units, strict=True)]

    def _scores(self, number: int, stage: Prune) -> UseResult:
        """The use map of the model at the beginning of a stage, kept in the folder."""
        path = self.folder / "scores" / f"stage-{number}.safetensors"
        if not path.exists():
            path.parent.mkdir(exist_ok=True)
            use = use_map(
                self.copy.model, self.text, gradients=stage.by == "effect", length=self.length,
                progress=self.progress,
            )  # fmt: skip
            use.save(path)
        return cast(UseResult, open_result(path))

    def _at_once(self, number: int, stage: Noise, start: int) -> dict[str, float]:
        """The control of a stage of noise: as much of it at once, to the weights it began with,
        without training; no look is spent on it."""
        passed = sum(e.accepted for e in self.entries if e.stage == number)
        scale = stage.scale * max(passed, 1) ** 0.5
        before = Assigned(self.copy.at(start))
        noise = WeightNoise(scale, self.recipe.seed + 1000 * number + 999)
        with changed(self.copy.model, before, noise):
            increases = increase_of(self.reference, self.copy.model)
        return {"scale": scale, "steps": float(passed), "increase": max(increases.values())}

    def _step_after(self, entries: Sequence[Entry]) -> int:
        steps = [entry.step for entry in entries if entry.step is not None]
        return steps[-1] if steps else 0

    def _entries(self) -> list[Entry]:
        """The journal, and the entry that the ledger has and it has not: it was stopped between."""
        entries = read_journal(self.folder)
        last = self.copy.steps[-1]
        steps = [entry.step for entry in entries if entry.step is not None]
        if last.step > max(steps, default=0):
            if "entry" not in last.cost:
                raise ChangeError(
                    f"{self.folder} was changed after its scrub (step {last.step}); undo to"
                    f" {max(steps, default=0)} or give a new folder"
                )
            entries.append(Entry(**last.cost["entry"]))
            write_journal(self.folder, entries)
        return entries

    def _keep(self, **told: Any) -> None:
        self.about |= told
        write_about(self.folder, self.about)


def increase_of(reference: GateReference, model: Model) -> dict[str, float]:
    """Nats a token above the original in each domain: a number for controls, and no verdict."""
    found: dict[str, float] = {}
    for name, part in reference.domains.items():
        after = compare(model, part, reference.settings, lambda _: None)
        nats = after.losses.nats.sum() - part.losses.nats.sum()
        found[name] = float(nats / part.passages.tokens.sum())
    return found
