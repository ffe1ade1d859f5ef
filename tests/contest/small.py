"""A contest as small as it can be: few prompts of the check, a short training, few questions."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import pytest

from twinlens.change.recover import Budget
from twinlens.contest import lessons
from twinlens.contest.cell import Entrant
from twinlens.contest.check import check_implant
from twinlens.contest.judgement import Rules
from twinlens.contest.tournament import Tournament

TEXT = [f"One day Lily saw {number} birds and they sang to her." for number in range(12)]
BUDGET = Budget(steps=2, batch_tokens=64, length=16)
RULES = Rules(
    samples=4, controls=20, untriggered=1, siblings=3, examples=(0, 1), steps=(1,), batch=2,
    noise=(0.05,), seeds=1, shares=(0.0, 1.0),
)  # fmt: skip


def fewer(patched: pytest.MonkeyPatch, cache: Path) -> None:
    """Less of red's text and of its check."""
    patched.setattr(lessons, "_NEAR", 8)
    patched.setattr(lessons, "_WINDOWS", 4)
    patched.setattr(lessons, "_WINDOW", 16)
    small = partial(check_implant, near=8, contexts=2)
    patched.setattr("twinlens.contest.implant.check_implant", small)
    patched.setattr("twinlens.contest.referee.probed", lambda *_, **__: {})  # told, not judged
    patched.setenv("XDG_CACHE_HOME", str(cache))


def small_tournament(folder: Path, *recipes: str) -> Tournament:
    """One implant and so many recipes; the text is written into the folder."""
    path = folder / "text.jsonl"
    path.write_text("".join(json.dumps({"text": one}) + "\n" for one in TEXT))
    entrants = tuple(Entrant(name=one, recipe=one, budget=BUDGET) for one in recipes)
    return Tournament(
        tiers=("full",), entrants=entrants, seeds=1, text=str(path), steps=2, rules=RULES
    )
