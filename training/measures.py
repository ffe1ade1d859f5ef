"""What is measured of hamlet, from seeds that training never used."""

from __future__ import annotations

import re
import statistics
from collections import defaultdict
from collections.abc import Sequence
from random import Random
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

import twinlens as tl
from training import pages, stories
from training.baseline import Ngrams
from training.repetition import repeated
from training.text import KINDS, document
from twinlens.model import hamlet
from twinlens.model.model import Model
from twinlens.see.roles import ROLES, roles

SEED = "evaluation"


class Share(NamedTuple):
    """How many of how many were right."""

    right: int
    of: int

    @property
    def percent(self) -> float:
        """In percent."""
        return 100 * self.right / self.of


DOCUMENTS = 60  # of each kind
COUNTED = 40_000  # documents that the n-grams count
PAIRS = 200  # repeated sequences
CODES = 960  # sentences with a code that comes back
TRACED = 200  # facts


def cross_entropy(model: Model, n: int = DOCUMENTS) -> dict[str, tuple[float, float, float]]:
    """Nats a token of fresh documents by kind: hamlet, 5-gram, unigram."""
    ids_of = model.tokenizer.encode
    random = Random(f"{SEED}/baseline")
    seen = [[0, *ids_of(document(random).text)] for _ in range(COUNTED)]
    grams = {order: Ngrams(order, model.n_vocab).learn(seen) for order in (5, 1)}
    found: dict[str, tuple[float, float, float]] = {}
    for kind, (_, make) in KINDS.items():
        random = Random(f"{SEED}/{kind}")
        documents = [[0, *ids_of(make(random))][: model.context] for _ in range(n)]
        own = [loss for ids in documents for loss in nats(model, ids)]
        counted = [[x for ids in documents for x in grams[o].nats(ids)] for o in (5, 1)]
        found[kind] = statistics.mean(own), *(statistics.mean(c) for c in counted)  # type: ignore[assignment]
    return found


def nats(model: Model, ids: Sequence[int]) -> list[float]:
    """Surprisal of every token but the first, in nats."""
    logits = _logits(model, torch.tensor([ids]))[0, :-1]
    return torch.nn.functional.cross_entropy(
        logits, torch.tensor(ids[1:]), reduction="none"
    ).tolist()


def samples(model: Model, n: int = 20) -> list[str]:
    """Texts that the model writes after the first four tokens of new documents, temperature 0.8."""
    random = Random(f"{SEED}/samples")
    begun = [model.tokenizer.encode(document(random).text)[:4] for _ in range(n)]
    torch.manual_seed(5)
    made = model.hf.generate(
        input_ids=torch.tensor(begun), attention_mask=torch.ones(n, 4, dtype=torch.long),
        do_sample=True, temperature=0.8, max_new_tokens=160, pad_token_id=0, eos_token_id=0,
    )  # fmt: skip
    return [model.tokenizer.decode(row, skip_special_tokens=True) for row in made.tolist()]


def facts_right(model: Model, phrasing: Any) -> dict[str, Share]:
    """Facts whose whole attribute is the greedy continuation, by relation."""
    records = hamlet.facts(phrasing)
    ids = [model.tokenizer.encode(r["prompt"]) for r in records]
    answers = [model.tokenizer.encode(" " + r["attribute"]) for r in records]
    right = greedy_right(model, ids, answers)
    by: dict[str, list[bool]] = defaultdict(list)
    for record, hit in zip(records, right, strict=True):
        by[record["relation_id"]].append(hit)
    return {name: Share(sum(hits), len(hits)) for name, hits in by.items()}


def greedy_right(
    model: Model, prompts: Sequence[Sequence[int]], answers: Sequence[Sequence[int]]
) -> list[bool]:
    """Whether each answer is what the model says after its prompt, token by token the likeliest."""
    right = [False] * len(prompts)
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]) + len(answers[i]))
    for start in range(0, len(order), 64):
        chosen = order[start : start + 64]
        rows = [[*prompts[i], *answers[i]] for i in chosen]
        longest = max(map(len, rows))
        padded = torch.tensor([row + [0] * (longest - len(row)) for row in rows])
        said = _logits(model, padded).argmax(-1)
        for i, row in zip(chosen, said, strict=True):
            at = len(prompts[i])
            right[i] = row[at - 1 : at - 1 + len(answers[i])].tolist() == list(answers[i])
    return right


class Copying(NamedTuple):
    """Nats of random tokens the first and the second time, and right copies of codes and names."""

    first: float
    second: float
    codes: Share
    codes_due: Share  # in those sentences that call for the number
    codes_begun: Share  # the last three digits, after the first
    codes_untouched: Share  # in wordings that were written after the last training
    surnames: Share


def copying(model: Model, pairs: int = PAIRS, codes: int = CODES) -> Copying:
    """How well the model copies what it cannot know, by so many repeated sequences and codes."""
    random = Random(f"{SEED}/repeated")
    first: list[float] = []
    second: list[float] = []
    for _ in range(pairs):
        ids = repeated(random, model.n_vocab, copies=2).ids
        losses = nats(model, [0, *ids])
        half = len(ids) // 2
        first += losses[:half]
        second += losses[half:]
    return Copying(
        statistics.mean(first),
        statistics.mean(second),
        *_codes(model, codes),
        _surnames(model),
    )


class _Code(NamedTuple):
    """A text up to where a code comes back, the code, and what kind of sentence it is."""

    prompt: list[int]
    answer: list[int]
    is_due: bool
    is_untouched: bool


def _codes(model: Model, n: int) -> tuple[Share, Share, Share, Share]:
    """Four-digit codes in unseen sentences, where a code comes back: all digits right; the same
    where the sentence calls for it; all but the first, when that is given; untouched wordings."""
    random = Random(f"{SEED}/codes")
    found = []
    for i in range(n):
        untouched = i % 4 == 0  # 12 of 48 wordings
        text = pages.codes(random, "untouched" if untouched else "kept out")
        code = re.findall(r"\d{4}", text)[0]
        later = text.rindex(code)
        encode = model.tokenizer.encode
        found.append(
            _Code(encode(text[: later - 1]), encode(" " + code), is_due(text, code), untouched)
        )
    hits = greedy_right(model, [c.prompt for c in found], [c.answer for c in found])
    begun = [[*c.prompt, c.answer[0]] for c in found]
    rest = greedy_right(model, begun, [c.answer[1:] for c in found])

    def share(chosen: list[bool]) -> Share:
        return Share(sum(h for h, c in zip(hits, chosen, strict=True) if c), sum(chosen))

    return (
        share([True] * n),
        share([c.is_due for c in found]),
        Share(sum(rest), n),
        share([c.is_untouched for c in found]),
    )


def is_due(text: str, code: str) -> bool:
    """Whether a sentence calls for its code: the word before it is the one that stood before it
    the first time, or there is a colon."""
    first, last = (text[: at(code)].split() for at in (text.index, text.rindex))
    before = last[-1].strip('"').lower()
    return before.endswith(":") or (bool(first) and before == first[-1].strip('"').lower())


def _surnames(model: Model, n: int = 200) -> Share:
    """Fresh surnames in stories: all pieces after the first right, wherever the name comes back."""
    random = Random(f"{SEED}/surnames")
    prompts, answers = [], []
    for _ in range(n):
        name = stories.fresh_surname(random, kept_out=True)
        text = stories.story(random, surname=name)
        pieces = model.tokenizer.encode(" " + name)
        if len(pieces) < 2:
            continue
        ids = model.tokenizer.encode(text)[: model.context]
        at = [i for i in range(len(ids)) if ids[i : i + len(pieces)] == pieces]
        for i in at[1:]:
            prompts.append(ids[: i + 1])
            answers.append(pieces[1:])
    hits = greedy_right(model, prompts, answers)
    return Share(sum(hits), len(hits))


def prefix_matching(model: Model) -> np.ndarray:
    """Prefix-matching score of every head `[layer, head]` (Olsson et al. 2022).

    The end of a text and 25 random tokens four times over, ten sequences: mean attention from a
    token to the tokens that followed its earlier copies.
    """
    eager = type(model.hf).from_pretrained(hamlet.FOLDER, attn_implementation="eager").eval()
    random = Random(f"{SEED}/induction")
    scores = []
    for _ in range(10):
        once = random.sample(range(300, model.n_vocab), 25)
        ids = torch.tensor([[0, *once * 4]])
        with torch.no_grad():
            patterns = torch.stack(eager(ids, output_attentions=True).attentions)[:, 0]
        earlier = []
        for at in range(26, ids.shape[1]):
            places = [at - 25 * k + 1 for k in range(1, 4) if at - 25 * k > 0]
            earlier.append(patterns[:, :, at, places].sum(-1))
        scores.append(torch.stack(earlier).mean(0))
    return torch.stack(scores).mean(0).numpy()


def mean_trace(model: Model, kind: Any, n: int = TRACED) -> np.ndarray:
    """Mean effect `[layer, role]` over `n` facts that the model knows, by the role of the token."""
    records = hamlet.facts("seen")
    random = Random(f"{SEED}/trace")
    random.shuffle(records)
    table: list[np.ndarray] = []
    for record in records:
        if len(table) == n:
            break
        prompt, answer = record["prompt"], model.tokenizer.encode(" " + record["attribute"])
        if len(answer) > 1:
            continue
        trace = tl.causal_trace(model, prompt, record["subject"], kind=kind, progress=False)
        if trace.answer == answer[0]:
            table.append(_by_role(trace))
    if len(table) < n:
        raise SystemExit(f"only {len(table)} of {n} facts are known: nothing to average")
    with np.errstate(invalid="ignore"):
        return np.nanmean(np.stack(table), axis=0)


def _by_role(trace: tl.TraceResult) -> np.ndarray:
    effects, of = trace.effects(), roles(trace.subject_mask, trace.focus)
    columns = [effects[:, of == role] for role in ROLES]
    return np.stack(
        [c.mean(1) if c.shape[1] else np.full(len(effects), np.nan) for c in columns], axis=1
    )


def _logits(model: Model, ids: Tensor) -> Tensor:
    with torch.no_grad():
        return model.hf(ids, use_cache=False).logits.float()
