"""What a gate keeps of the original model, and how it judges changed ones by it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from twinlens.change.bounds import level_of
from twinlens.change.cloze import judge
from twinlens.change.judging import Rules
from twinlens.change.recorded import GateSettings, Look, Recorded, Task, compare, vocabulary_hash
from twinlens.change.verdict import Answer, TaskVerdict, Verdict, together
from twinlens.errors import ChangeError, InputError
from twinlens.model.model import Model
from twinlens.run.batches import Progress, counting
from twinlens.run.check import require
from twinlens.see.question import whole


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

        `look` counts the looks (default: the next): the k-th may spend 6 / (pi k)² of alpha, so
        that all of them together let a bad model pass with a chance of at most alpha. The number of
        a look that was taken at other weights gets a note. Raises `InputError` for a model with
        another tokenizer or vocabulary.
        """
        if look is None:
            look = max((one.look for one in self.looks if not one.final), default=0) + 1
        whole("look", look)
        changed, notes = model.weights_hash(), list(self.notes)
        if any(o.look == look and not o.final and o.changed != changed for o in self.looks):
            notes.append(f"look {look} was taken before at other weights: alpha is spent twice")
        levels = [level_of(k, self.settings.alpha) for k in (look, look + 1)]
        return self._judge(model, self.domains, look, levels, notes, progress, final=False)

    def check_final(
        self, model: Model, *, again: bool = False, progress: Progress = None
    ) -> Verdict:
        """Judge a changed model on the final text, once, at the full alpha.

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
        levels = [self.settings.alpha] * 2
        look = len(before) + 1
        return self._judge(model, self.final, look, levels, notes, progress, final=True)

    def save(self, path: str | Path) -> Path:
        """Write to one safetensors file (no pickle), whole or not at all, and return its path.

        The looks go to NAME.looks.json beside it, then and at each later look.
        """
        from twinlens.change.reference_file import save_reference

        return save_reference(self, Path(path))

    def _judge(
        self,
        model: Model,
        texts: Mapping[str, Recorded],
        look: int,
        levels: list[float],
        notes: list[str],
        progress: Progress,
        *,
        final: bool,
    ) -> Verdict:
        self._refuse_other(model)
        level, later = levels
        total = sum(part.passages.n_positions for part in texts.values())
        total += 0 if self.task is None else self.task.cloze.passages.n_positions
        changed = model.weights_hash()
        parts, same = len(texts) + (self.task is not None), changed == self.original
        rules = Rules(self.settings, level, later, parts, same)
        with counting(total, "changed", progress) as advance:
            domains = tuple(
                rules.domain(name, part, compare(model, part, self.settings, advance))
                for name, part in texts.items()
            )
            task = self._task(model, rules, advance)
        answers: list[Answer] = [part.verdict for part in (*domains, task) if part is not None]
        verdict = Verdict(
            verdict=together(answers), margin=self.settings.margin, look=look, level=level,
            final=final, domains=domains, task=task, original=self.original,
            changed=changed, notes=tuple(notes),
        )  # fmt: skip
        self._remember(Look(look, final, verdict.changed, verdict.verdict))
        return verdict

    def _task(self, model: Model, rules: Rules, advance: Any) -> TaskVerdict | None:
        if self.task is None:
            return None
        right = self.task.cloze.right(model, self.settings.batch_tokens, advance)
        return judge(
            self.task.right, right, self.settings.items_margin, rules.level, rules.lower_level,
            rules.later, rules.same,
        )  # fmt: skip

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
