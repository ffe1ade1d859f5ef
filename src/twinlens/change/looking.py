"""A look before and after a change: the same questions, about the same answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import torch

from twinlens.change.change import Change, changed
from twinlens.model.model import Model
from twinlens.results import Result
from twinlens.run.passes import Inputs, read
from twinlens.see.look import LookSettings, Stages, look, refuse_wrong
from twinlens.see.question import ask


class BeforeAfter(NamedTuple):
    """The results of a look at the model as it is, and at the changed one; the answer (a token id)
    that both are about, and its place."""

    before: list[Result]
    after: list[Result]
    answer: int
    focus: int


def look_changed(
    model: Model,
    settings: LookSettings,
    changes: Sequence[Change],
    *,
    progress: Stages = None,
    say: Callable[[str], None] | None = None,
) -> BeforeAfter:
    """Look at a prompt, and look again with the model changed.

    Both looks explain one answer: the one asked for, or what the unchanged model predicts at the
    focus. It is a target of both lenses. What was changed stands in the settings of the second
    look's results (`changes`). Raises what `look` and `changed` raise.
    """
    refuse_wrong(model, settings)
    answer, focus = _answer(model, settings)
    same = replace(settings, targets=list(dict.fromkeys([*settings.targets, answer])))
    if settings.metric != "kl":
        same = replace(same, answer=answer)
    before = look(model, same, progress=progress, say=say)
    with changed(model, *changes):
        after = look(model, same, progress=progress, say=say)
    done = [change.plain() for change in changes]
    after = [replace(result, settings={**result.settings, "changes": done}) for result in after]
    return BeforeAfter(before, after, answer, focus)


def _answer(model: Model, settings: LookSettings) -> tuple[int, int]:
    asked: dict[str, Any] = settings.question() | {"subject": None}
    question = ask(model, settings.prompt, kind="block", window=1, **asked)
    if question.answer is not None:
        return question.answer, question.focus
    ids = torch.from_numpy(question.tokens.ids)[None, : question.focus + 1]
    return int(read(model, Inputs(ids), []).logits[0].argmax()), question.focus
