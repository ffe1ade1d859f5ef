"""What a gate keeps of the original model, and how it judges changed ones by it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import NamedTuple

from twinlens.change.bounds import level_of
from twinlens.change.judging import Rules
from twinlens.change.recorded import (
    Asked,
    GateSettings,
    Look,
    Recorded,
    Task,
    compare,
    vocabulary_hash,
)
from twinlens.change.verdict import Answer, Verdict, together
from twinlens.errors import ChangeError, InputError
from twinlens.model.model import Model
from twinlens.run.batches import Progress, counting
from twinlens.run.check import require
from twinlens.see.question import whole


class _Look(NamedTuple):
    """What one look asks, and at which level; `later` is that of the next."""

    texts: Mapping[str, Recorded]
    task: Task | None
    number: int
    level: float
    later: float
    final: bool


@dataclass(eq=False, kw_only=True)
class GateReference:
    """The original model as a gate saw it; made by `Gate.of`.

    `check` judges a changed model on the gate text, `check_final` on the final one. `original` is
    the hash of the original's weights, `model` its name, `looks` what was looked at so far. Once
    saved, the looks stand in a file beside it, so that another run knows of them.
    """

    settings: GateSettings
    model: str
    original: str
    vocabulary: str
    domains: Mapping[str, Recorded]
    final: Mapping[str, Recorded]
    task: Task | None
    notes: tuple[str, ...] = ()
    looks: list[Look] = field(default_factory=list[Look])
    path: Path | None = None

    def check(self, model: Model, look: int | None = None, *, progress: Progress = None) -> Verdict:
        """Judge a changed model.

        `look` counts the looks (default: the next, or that of the same weights): the k-th may spend
        6 / (pi k)² of alpha, so that all of them together let a bad model pass with a chance of at
        most alpha. The number of a look that was taken at other weights gets a note. Raises
        `InputError` for a model with another tokenizer or vocabulary.
        """
        changed, notes = model.weights_hash(), list(self.notes)
        taken = [one for one in self.looks if not one.final]
        if look is None:
            same = [one.look for one in taken if one.changed == changed]
            look = same[0] if same else max((one.look for one in taken), default=0) + 1
        whole("look", look)
        if any(one.look == look and one.changed != changed for one in taken):
            notes.append(f"look {look} was taken before at other weights: alpha is spent twice")
        level, later = (level_of(k, self.settings.alpha) for k in (look, look + 1))
        asked = _Look(self.domains, self.task, look, level, later, final=False)
        return self._judge(model, asked, notes, progress)

    def check_final(
        self, model: Model, *, again: bool = False, progress: Progress = None
    ) -> Verdict:
        """Judge a changed model on the final text, once, at the full alpha. Items are not asked
        again: they were looked at with the gate text.

        A second look at other weights is refused (`ChangeError`) unless `again`, and then the
        verdict says so. Raises `InputError` where the gate has no final text.
        """
        if not self.final:
            raise InputError("this gate has no final text; give one: Gate(text, final=...)")
        changed, notes = model.weights_hash(), list(self.notes)
        before = {one.changed for one in self.looks if one.final} - {changed}
        if before and not again:
            raise ChangeError(
                "the final text was looked at before, with other weights"
                f" ({', '.join(sorted(one[:12] for one in before))}); a second look is no final one"
                " (again=True takes it and says so)"
            )
        if before:
            notes.append(f"the final text was looked at before ({len(before)} other models)")
        alpha = self.settings.alpha
        asked = _Look(self.final, None, len(before) + 1, alpha, alpha, final=True)
        return self._judge(model, asked, notes, progress)

    def refuse_other_gate(self, model: Model, settings: GateSettings, asked: Asked) -> None:
        """Raise `ChangeError` where this is the reference of another original, rule or text."""
        if model.weights_hash() != self.original:
            raise ChangeError(
                f"{self.path} keeps another original (weights {self.original[:12]}) than"
                f" {model.name} (weights {model.weights_hash()[:12]})"
            )
        mine = asdict(self.settings) | self.asked.identity | {"batch_tokens": None}
        given = asdict(settings) | asked.identity | {"batch_tokens": None}
        for name in given.keys() | mine.keys():
            if mine.get(name) != given.get(name):
                raise ChangeError(
                    f"{self.path} is the reference of another gate: {name} differs; give the same,"
                    " or another file"
                )

    @property
    def asked(self) -> Asked:
        """The texts and items, as tokens."""
        gate, final = (
            {name: part.passages for name, part in parts.items()}
            for parts in (self.domains, self.final)
        )
        return Asked(gate, final, None if self.task is None else self.task.cloze)

    def save(self, path: str | Path) -> Path:
        """Write to one safetensors file (no pickle), whole or not at all, and return its path.

        The looks go to NAME.looks.json beside it, then and at each later look.
        """
        from twinlens.change.reference_file import save_reference

        return save_reference(self, Path(path))

    def _judge(self, model: Model, asked: _Look, notes: list[str], progress: Progress) -> Verdict:
        self._refuse_other(model)
        changed, task = model.weights_hash(), asked.task
        total = sum(part.passages.n_positions for part in asked.texts.values())
        total += 0 if task is None else task.cloze.passages.n_positions
        parts, same = len(asked.texts) + (task is not None), changed == self.original
        rules = Rules(self.settings, asked.level, asked.later, parts, same)
        with counting(total, "changed", progress) as advance:
            domains = tuple(
                rules.domain(name, part, compare(model, part, self.settings, advance))
                for name, part in asked.texts.items()
            )
            judged = None
            if task is not None:
                right = task.cloze.right(model, self.settings.batch_tokens, advance)
                judged = rules.task(task.right, right)
        answers: list[Answer] = [part.verdict for part in (*domains, judged) if part is not None]
        verdict = Verdict(
            verdict=together(answers), margin=self.settings.margin, look=asked.number,
            level=asked.level, final=asked.final, domains=domains, task=judged,
            original=self.original, changed=changed, notes=tuple(notes),
        )  # fmt: skip
        self._remember(Look(asked.number, asked.final, changed, verdict.verdict))
        return verdict

    def _refuse_other(self, model: Model) -> None:
        require(model, ("block",))
        if vocabulary_hash(model) != self.vocabulary:
            raise InputError(
                f"{model.name} has another vocabulary than {self.model}, the original: losses a"
                " token cannot be compared"
            )

    def _remember(self, look: Look) -> None:
        if look not in self.looks:
            self.looks.append(look)
        if self.path is not None:
            from twinlens.change.reference_file import save_looks

            save_looks(self)
