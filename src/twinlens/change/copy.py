"""A changed copy of a model in a folder that plain transformers loads, with the way back beside it.

    config.json, model.safetensors, tokenizer files     the model as it is now
    ledger.jsonl                                        one line a step
    undo/0003.safetensors                               what step 3 wrote over

A step is written in this order: what it wrote over, its line in the ledger, the weights. Whoever
opens the folder sees by the hash of the weights whether the last step was finished.
"""

from __future__ import annotations

import contextlib
import dataclasses
import shutil
from collections.abc import Generator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from twinlens.change.change import Change, Values, write
from twinlens.change.delta import difference, open_difference, save_difference, taken_back
from twinlens.change.ledger import Step, read_ledger, write_ledger
from twinlens.errors import ChangeError, InputError
from twinlens.model.load import load
from twinlens.model.model import Model
from twinlens.paths import expanded
from twinlens.results.writing import making, written
from twinlens.see.question import whole

WEIGHTS = "model.safetensors"
Cost = Mapping[str, Any] | None
_ONE_FILE = "10TB"  # so that the weights are renamed as one


class Copy:
    """A model of one's own to change, in a folder; made by `create`, opened again by `open`.

    `model` is the copy in memory, as it is after the last step; `steps` is the ledger. The model
    that it was made from is never written over.
    """

    def __init__(self, folder: Path, model: Model, steps: list[Step]) -> None:
        self.folder, self.model, self.steps = folder, model, steps

    @classmethod
    def create(
        cls, model: Model, folder: str | Path, changes: Sequence[Change] = (), cost: Cost = None
    ) -> Copy:
        """Save a copy of a model into a new folder, with some `changes` made, each a step; `cost`
        is kept with the last. The folder appears with all of them, or not at all.

        Raises `ChangeError` where the folder holds something, or cannot be written, and what
        `apply` raises.
        """
        path = expanded(folder)
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            raise ChangeError(f"{path} is there already; give a new folder")
        with making(path, ChangeError) as made:
            (made / "undo").mkdir()
            _save_weights(model, made)
            model.tokenizer.save_pretrained(made)
            about = {"kind": "original", "model": model.name}
            now = model.weights_hash()
            write_ledger(made, [Step(0, about, before=now, after=now)])
            if changes:
                cls.open(made)._apply_all(changes, cost)  # gone before the copy is opened below
        return cls.open(path)

    @classmethod
    def open(cls, folder: str | Path, **options: Any) -> Copy:
        """Open a copy; `options` are those of `tl.load` (`device`, ...).

        Raises `ChangeError` where the folder is none, or its weights are not those of the ledger.
        """
        path = expanded(folder)
        steps = read_ledger(path)
        with quiet():
            model = load(path, **options)
        now = model.weights_hash()
        if len(steps) > 1 and now == steps[-1].before != steps[-1].after:
            steps = steps[:-1]  # it was broken off before its weights were written
            write_ledger(path, steps)
        if now != steps[-1].after:
            raise ChangeError(
                f"{path}: the weights are not those that the ledger ends with"
                f" ({now[:12]}, not {steps[-1].after[:12]}); they were changed by something else,"
                " or loaded as another type"
            )
        return cls(path, model, steps)

    def _apply_all(self, changes: Sequence[Change], cost: Cost) -> None:
        for number, change in enumerate(changes, 1):
            self.apply(change, cost if number == len(changes) else None)

    def apply(self, change: Change, cost: Cost = None) -> Step:
        """Make a change, in memory and in the folder; `cost` is kept with it.

        Raises `ChangeError` where it does not fit the model (a bias that the architecture does not
        have cannot be saved) or the folder cannot be written; then nothing is changed.
        """
        return self._step(change.values(self.model), change.plain(), cost)

    def undo(self, to: int) -> Step:
        """Give back the weights as they were after step `to`, bit for bit.

        That is a step of its own, so that it can be undone, too. Raises `InputError` for a step
        that there is not, `ChangeError` where what was kept is damaged; then nothing is changed.
        """
        return self._step(self.at(to), {"kind": "undo", "to": to}, None, self.steps[to].after)

    def at(self, to: int) -> dict[str, Tensor]:
        """The weights after step `to`, bit for bit: those parameters that are others now.

        Raises as `undo` does.
        """
        whole("to", to, 0)
        if to >= len(self.steps):
            raise InputError(f"there is no step {to}; the last is {self.steps[-1].step}")
        now = self._tensors()
        earlier = dict(now)
        for step in reversed(self.steps[to + 1 :]):
            path = self.folder / str(step.undo)
            earlier |= taken_back(earlier, open_difference(path, str(step.sha256)), str(path))
        return {name: value for name, value in earlier.items() if value is not now[name]}

    def _step(
        self,
        values: Values,
        about: Mapping[str, Any],
        cost: Cost,
        expected: str | None = None,
    ) -> Step:
        there = self._tensors()
        if new := sorted(values.keys() - there.keys()):
            raise ChangeError(
                f"{self.model.name} has no {new[0]}, and a copy that has one would not load;"
                " set parts to zero instead of a constant"
            )
        before = {name: there[name].detach().clone() for name in values}
        was, number = self.model.weights_hash(), len(self.steps)
        undo = self.folder / "undo" / f"{number:04d}.safetensors"
        try:
            write(self.model, values)
            step = self._described(number, about, cost, was, before)
            if expected is not None and step.after != expected:
                raise ChangeError(f"{self.folder}: what was kept does not lead back")
            kept = difference(before, self._tensors())
            sha256 = save_difference(kept, undo)
            step = dataclasses.replace(step, undo=f"undo/{undo.name}", sha256=sha256)
            with written(self.folder, ChangeError):
                write_ledger(self.folder, [*self.steps, step])
                _save_weights(self.model, self.folder)
        except BaseException as error:
            write(self.model, before)
            if isinstance(error, Exception):  # Ctrl-C may come after the weights: `open` tells
                with contextlib.suppress(OSError):
                    write_ledger(self.folder, self.steps)
                    undo.unlink(missing_ok=True)
            raise
        self.steps.append(step)
        return step

    def _described(
        self,
        number: int,
        about: Mapping[str, Any],
        cost: Cost,
        was: str,
        before: Mapping[str, Tensor],
    ) -> Step:
        """The step, with how many numbers changed and how far."""
        now, changed, far, size = self._tensors(), 0, 0.0, 0.0
        for name, old in before.items():
            moved = now[name].double() - old.double()
            changed += int((moved != 0).sum())
            far += float((moved**2).sum())
            size += float((old.double() ** 2).sum())
        relative = (far / size) ** 0.5 if size else 0.0
        after = self.model.weights_hash()
        return Step(number, about, was, after, dict(cost or {}), changed, relative)

    def _tensors(self) -> dict[str, Tensor]:
        """The parameters, each once."""
        return {name: p.detach() for name, p in self.model.hf.named_parameters()}


@contextlib.contextmanager
def quiet() -> Generator[None]:
    """Within this context transformers shows no bars of its own."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def _save_weights(model: Model, folder: Path) -> None:
    """The model's files, each whole or not at all, the weights last."""
    if any(p.device.type == "meta" for p in model.hf.parameters()):
        raise ChangeError(f"{model.name} is offloaded in part and cannot be copied")
    writing = folder / ".weights"
    shutil.rmtree(writing, ignore_errors=True)
    try:
        with torch.no_grad(), quiet():
            model.hf.save_pretrained(writing, max_shard_size=_ONE_FILE)
        files = sorted(writing.iterdir(), key=lambda path: path.name == WEIGHTS)
        if not (writing / WEIGHTS).is_file():
            raise ChangeError(f"{model.name}: transformers wrote no {WEIGHTS}")
        (writing / WEIGHTS).chmod((writing / "config.json").stat().st_mode)  # readable as the rest
        for path in files:
            path.replace(folder / path.name)
    finally:
        shutil.rmtree(writing, ignore_errors=True)
