"""A fact that is to be edited, and the rows of tokens in which it is said."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from twinlens.errors import AnswerError, InputError
from twinlens.model.model import Model
from twinlens.model.spans import subject_mask
from twinlens.results import Tokens
from twinlens.run.sampling import sampled

PREFIXES = ((5, 10), (10, 10))
_TOP_K = 5  # of the tokens of a prefix, as in ROME's code


@dataclass(frozen=True)
class Fact:
    """What a model is to say: after `prompt`, which names `subject`, the `target`.

    For scores: `truth` is what it says now (None: its own likeliest token); `paraphrases` ask the
    same otherwise; the answers of `neighbours`, prompts about other subjects, and of `others`,
    prompts about the same subject, must stay: both are texts, or pairs (prompt, answer); without an
    answer it is the model's likeliest token before the edit.
    """

    prompt: str
    subject: str
    target: str
    truth: str | None = None
    paraphrases: Sequence[str] = ()
    neighbours: Sequence[str | tuple[str, str]] = ()
    others: Sequence[str | tuple[str, str]] = ()

    def __post_init__(self) -> None:
        for name in ("prompt", "subject", "target"):
            value = getattr(self, name)
            if not isinstance(value, str) or not value.strip():
                raise InputError(f"{name}={value!r} must be a text that is not empty")
        for name in ("paraphrases", "neighbours", "others"):
            if isinstance(getattr(self, name), str):
                raise InputError(f"{name} must be a list of prompts, not one text")

    def plain(self) -> dict[str, Any]:
        """Prompt, subject and target."""
        return {"prompt": self.prompt, "subject": self.subject, "target": self.target}


class Rows(NamedTuple):
    """Prompts with the answer behind them, filled up at the right.

    `at` is the subject's last token; the answer's tokens are predicted at `asked`.
    """

    ids: Int[Tensor, "row token"]
    at: Int[Tensor, " row"]
    asked: Int[Tensor, "row answer"]


def answer_ids(model: Model, prompt: str, answer: str, what: str = "target") -> list[int]:
    """The tokens of an answer behind a prompt, with a space between where neither has one.

    Raises `AnswerError` where it has none.
    """
    apart = prompt[-1:].isspace() or answer[:1].isspace()
    answer = answer if apart else f" {answer}"
    before = model.encode(prompt).ids.tolist()
    whole = model.encode(prompt + answer).ids.tolist()
    if whole[: len(before)] == before:
        found = whole[len(before) :]
    else:
        found = list(model.tokenizer(answer, add_special_tokens=False, verbose=False)["input_ids"])
    if not found:
        raise AnswerError(f"{what}={answer.strip()!r} has no tokens; give the text of an answer")
    return found


def subject_end(model: Model, prompt: str, subject: str) -> int:
    """The character behind the subject's last occurrence in a prompt.

    Raises `SubjectError` where it is not in it.
    """
    tokens = model.encode(prompt)
    mask = subject_mask(tokens, subject, len(tokens) - 1)
    return int(tokens.ends[np.flatnonzero(mask)[-1]])


def prefixes(
    model: Model, seed: int, sizes: Sequence[tuple[int, int]] = PREFIXES
) -> tuple[str, ...]:
    """Texts to put before a prompt: none, and what the model says by itself, ended by a full stop.

    `sizes` are pairs (tokens, how many); 5 and 10 tokens, ten times each, are ROME's.
    """
    found = [""]
    for length, count in sizes:
        ids = sampled(model, count, length, seed=seed + length, top_k=_TOP_K)[:, 1:]
        texts = (model.tokenizer.decode(row, skip_special_tokens=True) for row in ids.tolist())
        found += [f"{' '.join(text.split())}. " for text in texts]
    return tuple(found)


def rows_of(
    model: Model, fact: Fact, before: Sequence[str], answer: Sequence[int], extra: str | None = None
) -> Rows:
    """The prompt behind each prefix, with the answer; and last, where `extra` is given, that
    prompt, with nothing behind it (its row of `asked` is its last token, again and again).

    Raises `SubjectError` where a prompt does not name the subject.
    """
    end = subject_end(model, fact.prompt, fact.subject)
    texts = [(f"{prefix}{fact.prompt}", len(prefix) + end, list(answer)) for prefix in before]
    if extra is not None:
        texts.append((extra, subject_end(model, extra, fact.subject), []))
    ids: list[Tensor] = []
    at: list[int] = []
    asked: list[list[int]] = []
    for text, stop, behind in texts:
        tokens = model.encode(text)
        ids.append(torch.tensor([*tokens.ids.tolist(), *behind[:-1]]))
        at.append(_token_before(tokens, stop))
        last = len(tokens) - 1
        asked.append([last + n if behind else last for n in range(len(answer))])
    padded = torch.nn.utils.rnn.pad_sequence(ids, batch_first=True)
    if model.context is not None and padded.shape[1] > model.context:
        raise InputError(
            f"the prompt has {padded.shape[1]} tokens with its prefix and answer, but the model"
            f" reads {model.context}; shorten it"
        )
    return Rows(padded, torch.tensor(at), torch.tensor(asked))


def _token_before(tokens: Tokens, stop: int) -> int:
    """The token that holds the character before `stop`."""
    return int(np.flatnonzero((tokens.starts < stop) & (tokens.ends >= stop))[-1])
