"""Cloze items: prompts whose answer a model continues with, or not."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Int

from twinlens.change.losses import Passages, measure
from twinlens.change.verdict import TaskVerdict, judged
from twinlens.errors import InputError
from twinlens.model.model import Model
from twinlens.results.reading import why
from twinlens.see.texts import Windows

Items = Sequence[Mapping[str, Any] | tuple[str, str]]
_DOUBLINGS = 24


@dataclass(frozen=True, eq=False)
class Cloze:
    """Items as tokens: one window each, and how many tokens of its end are the answer."""

    passages: Passages
    answers: Int[np.ndarray, " item"]

    def right(
        self, model: Model, batch_tokens: int, advance: Any = None
    ) -> Bool[np.ndarray, " item"]:
        """Whether the model continues each prompt greedily with the whole answer."""
        none = np.zeros(0, dtype=np.int64)
        top = measure(model, self.passages, none, batch_tokens, advance=advance).top
        hit, ends = top == self.passages.targets, self.passages.starts[1:]
        spans = zip(ends.tolist(), self.answers.tolist(), strict=True)
        return np.array([bool(hit[end - length : end].all()) for end, length in spans])


def cloze_of(model: Model, items: Items) -> Cloze:
    """Items as tokens of a model.

    An item is (prompt, answer), an object with "prompt" and "answer", or a fact with "prompt" and
    "attribute" (a space goes between). The answer is joined to the prompt as it stands, so mind its
    space. Raises `InputError` where an item is none of these, or does not fit the model.
    """
    if not isinstance(items, Sequence) or isinstance(items, str) or not items:
        raise InputError("items are a list of (prompt, answer), or of objects with both")
    made = [_tokens(model, *_pair(item, number)) for number, item in enumerate(items)]
    windows = Windows(tuple(ids for ids, _ in made))
    answers = np.array([length for _, length in made])
    return Cloze(Passages(windows, np.arange(len(made))), answers)


def read_items(path: str | Path) -> list[Mapping[str, Any]]:
    """The items in a .jsonl file, one object a line, or in a .json file, a list of them.

    Raises `InputError` where it cannot be read, or holds what is no item.
    """
    path = Path(path)
    try:
        content = path.read_text(encoding="utf-8")
        if path.suffix.lower() == ".jsonl":
            content = f"[{','.join(line for line in content.split(chr(10)) if line.strip())}]"
        found = json.loads(content)
    except FileNotFoundError as error:
        raise InputError(f"the items {path} do not exist") from error
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"the items {path} cannot be read as JSON: {why(error)}") from error
    if not isinstance(found, list) or not all(isinstance(item, Mapping) for item in found):
        raise InputError(f"{path} is no list of objects with a prompt and an answer")
    if not found:
        raise InputError(f"{path} has no items; expected objects with a prompt and an answer")
    for number, item in enumerate(found):
        _pair(item, number)
    return found


def _pair(item: Any, number: int) -> tuple[str, str]:
    if isinstance(item, Mapping):
        given = item.get("prompt"), item.get("answer")
        if given[1] is None and isinstance(item.get("attribute"), str):
            given = given[0], f" {item['attribute']}"
    else:
        given = tuple(item) if isinstance(item, Sequence) and not isinstance(item, str) else ()
    if len(given) != 2 or not all(isinstance(text, str) and text for text in given):
        raise InputError(
            f'item {number} is no pair of prompt and answer; expected ("The sky is", " blue") or an'
            ' object with "prompt" and "answer"'
        )
    return given[0], given[1]  # pyright: ignore[reportReturnType]


def _tokens(model: Model, prompt: str, answer: str) -> tuple[np.ndarray, int]:
    """Ids of prompt and answer, and how many of them are the answer's."""
    asked, made = model.encode(prompt), model.encode(prompt + answer)
    kept = np.flatnonzero(~made.special)
    ids = made.ids[: int(kept[-1]) + 1].astype(np.int64)
    before = asked.ids[: int(np.flatnonzero(~asked.special)[-1]) + 1]
    same = int(np.cumprod(ids[: len(before)] == before[: len(ids)]).sum())
    if not 0 < same < len(ids):
        raise InputError(f"the answer {answer!r} of {prompt[-40:]!r} has no tokens of its own")
    return ids, len(ids) - same


def judge(
    before: Bool[np.ndarray, " item"],
    after: Bool[np.ndarray, " item"],
    margin: float,
    level: float,
    lower_level: float,
    later: float,
    same: bool = False,
) -> TaskVerdict:
    """The loss in accuracy and its bounds: those of the share lost less the share gained, each by
    the exact binomial at half of the level (Clopper and Pearson 1934), so no shape is assumed.

    `same`: the weights are the original's, which always passes.
    """
    n, lost, gained = len(before), int((before & ~after).sum()), int((after & ~before).sum())
    lower, upper = _bounds(lost, gained, n, level, lower_level)
    answer = "pass" if same else judged(lower, upper, margin)
    needed = None if answer != "cannot tell" else _needed(lost / n, gained / n, n, margin, later)
    why = ""
    if answer == "cannot tell":
        enough = f"about {needed:,} items" if needed else "no number of items that is known"
        why = f"the bounds lie on both sides of the margin; {enough} would do"
    return TaskVerdict(
        verdict=answer, before=float(before.mean()), after=float(after.mean()),
        loss=(lost - gained) / n, upper=upper, lower=lower, margin=margin, items=n, lost=lost,
        gained=gained, needed=needed, why=why,
    )  # fmt: skip


def _bounds(
    lost: int, gained: int, n: int, level: float, lower_level: float
) -> tuple[float, float]:
    upper = _share(lost, n, level / 2) - (1 - _share(n - gained, n, level / 2))
    lower = (1 - _share(n - lost, n, lower_level / 2)) - _share(gained, n, lower_level / 2)
    return lower, upper


def _needed(lost: float, gained: float, n: int, margin: float, level: float) -> int | None:
    """How many items like these would decide, to a quarter more."""
    for step in range(1, 4 * _DOUBLINGS):
        more = round(n * 2 ** (step / 4))
        lower, upper = _bounds(math.ceil(lost * more), int(gained * more), more, level, level)
        if judged(lower, upper, margin) != "cannot tell":
            return more
        if more > 10**6:
            break
    return None


def _share(hits: int, n: int, level: float) -> float:
    """The largest share of which so few hits or fewer come with a chance of at least `level`."""
    if hits >= n:
        return 1.0
    low, high = hits / n, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if _at_most(hits, n, middle) > level else (low, middle)
    return high


def _at_most(hits: int, n: int, share: float) -> float:
    """Chance of so many hits or fewer among n."""
    if share >= 1:
        return 0.0
    k = np.arange(hits + 1)
    steps = np.log(np.maximum(n - k[:-1], 1)) - np.log(k[1:])  # of the binomial coefficients
    coefficients = np.concatenate([[0.0], np.cumsum(steps)])
    terms = coefficients + k * math.log(share) + (n - k) * math.log1p(-share) if share > 0 else None
    return 1.0 if terms is None else float(np.exp(terms).sum())
