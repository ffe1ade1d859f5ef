"""Prompts with two answers each, of which a model finds one likelier."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float

from twinlens.change.facts import Fact, answer_ids
from twinlens.change.forward import logits_at
from twinlens.errors import InputError
from twinlens.model.model import Model
from twinlens.run.batches import in_batches

MEASURES = ("efficacy", "paraphrase", "neighbourhood", "others")
EFFICACY, PARAPHRASE, NEIGHBOURHOOD, OTHERS = range(len(MEASURES))


class Question(NamedTuple):
    """A prompt's tokens, and the answers that are compared. `right` is what should be said."""

    measure: int
    prompt: list[int]
    right: list[int]
    wrong: list[int]


def questions_of(model: Model, fact: Fact) -> list[Question]:
    """What is asked of a fact, with the answers that the model gives now where none are told.

    Raises `InputError` where truth and target are one.
    """
    target = answer_ids(model, fact.prompt, fact.target)
    here = _ids(model, fact.prompt)
    if fact.truth is None:
        truth = [_likeliest(model, here, other_than=target[0])]
    else:
        truth = answer_ids(model, fact.prompt, fact.truth, "truth")
    if truth == target:
        raise InputError(f"truth and target are both {fact.target!r}; they must differ")
    found = [Question(EFFICACY, here, target, truth)]
    for prompt in fact.paraphrases:
        found.append(Question(PARAPHRASE, _ids(model, prompt), target, truth))
    found += _kept(model, fact.neighbours, NEIGHBOURHOOD, target)
    return found + list(_kept(model, fact.others, OTHERS, target))


def measure_prompts(
    model: Model, questions: Sequence[Question], batch_tokens: int
) -> Float[np.ndarray, "measure number"]:
    """For each measure: share of right answers that are the likelier, mean difference of the two
    probabilities, and share of right answers that greedy choice says. NaN where nothing is asked.
    """
    rows = [(q.prompt, answer) for q in questions for answer in (q.right, q.wrong)]
    longest = max(len(prompt) + len(answer) for prompt, answer in rows)
    per_batch = max(1, batch_tokens // longest)
    found = np.concatenate(
        list(in_batches(rows, per_batch, lambda batch: _probabilities(model, batch)))
    )
    right, wrong = found[::2], found[1::2]
    made = np.full((len(MEASURES), 3), np.nan)
    for measure in range(len(MEASURES)):
        at = np.array([q.measure == measure for q in questions])
        if at.any():
            likelier, apart = right[at, 0] > wrong[at, 0], right[at, 0] - wrong[at, 0]
            made[measure] = likelier.mean(), apart.mean(), right[at, 1].mean()
    return made


def top_tokens(model: Model, prompt: str, k: int = 5) -> list[tuple[str, float]]:
    """The `k` likeliest tokens behind a prompt: labels and probabilities."""
    ids = _ids(model, prompt)
    with torch.no_grad():
        logits = logits_at(model, torch.tensor([ids]), torch.tensor([[len(ids) - 1]]))[0, 0]
    best = logits.softmax(-1).topk(min(k, len(logits)))
    pairs = zip(best.indices.tolist(), best.values.tolist(), strict=True)
    return [(model.label(token), probability) for token, probability in pairs]


def _kept(
    model: Model, prompts: Sequence[str | tuple[str, str]], measure: int, target: list[int]
) -> Iterator[Question]:
    """Prompts whose answers must stay. That of a neighbour is compared with the target, that of
    another fact about the subject with what would be said in its place before the edit."""
    for item in prompts:
        prompt, answer = (item, None) if isinstance(item, str) else item
        ids = _ids(model, prompt)
        told = [_likeliest(model, ids)] if answer is None else answer_ids(model, prompt, answer)
        if measure == OTHERS:
            yield Question(measure, ids, told, [_likeliest(model, ids, other_than=told[0])])
        elif told != target:
            yield Question(measure, ids, told, target)


def _ids(model: Model, prompt: str) -> list[int]:
    return model.encode(prompt).ids.tolist()


def _likeliest(model: Model, prompt: list[int], other_than: int | None = None) -> int:
    """The model's own next token; with `other_than` the likeliest of the others."""
    with torch.no_grad():
        logits = logits_at(model, torch.tensor([prompt]), torch.tensor([[len(prompt) - 1]]))[0, 0]
    if other_than is not None:
        logits[other_than] = -torch.inf
    return int(logits.argmax())


def _probabilities(
    model: Model, rows: Sequence[tuple[list[int], list[int]]]
) -> Float[np.ndarray, "row 2"]:
    """For each prompt and answer: the geometric mean of its tokens' probabilities, and whether each
    token is the likeliest (1 or 0)."""
    width = max(len(answer) for _, answer in rows)
    ids = [torch.tensor([*prompt, *answer[:-1]]) for prompt, answer in rows]
    asked = torch.tensor([[len(p) - 1 + min(n, len(a) - 1) for n in range(width)] for p, a in rows])
    answers = torch.tensor([[a[min(n, len(a) - 1)] for n in range(width)] for _, a in rows])
    real = torch.tensor([[n < len(a) for n in range(width)] for _, a in rows])
    with torch.no_grad():
        logits = logits_at(model, torch.nn.utils.rnn.pad_sequence(ids, batch_first=True), asked)
        log_probs = logits.log_softmax(-1)
    answers, real = answers.to(log_probs.device), real.to(log_probs.device)
    each = log_probs.gather(-1, answers[..., None])[..., 0].double()
    mean = torch.where(real, each, 0.0).sum(1) / real.sum(1)
    greedy = ((log_probs.argmax(-1) == answers) | ~real).all(1)
    return torch.stack([mean.exp(), greedy.double()], dim=1).cpu().numpy()
