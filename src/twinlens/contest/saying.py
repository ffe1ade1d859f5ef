"""How nearly a model says an answer behind a prompt.

One pass with the answer's tokens given (teacher forced) tells all: a model says the answer greedily
just where every token of it is the top one, goes on with it behind its first tokens just where the
later ones are, and says it in a sample with the product of their probabilities.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from twinlens.errors import InputError, PromptError
from twinlens.model.anatomy import Site
from twinlens.model.model import Model
from twinlens.run.batches import in_batches
from twinlens.run.passes import Inputs, read
from twinlens.see.reduction import SLICE_NUMBERS

BATCH = 4096  # tokens of a pass
Likelihoods = Float[np.ndarray, "answer part"]
"""Log-probabilities in nats: of the whole answer, and of all of it but its first token."""


class Said(NamedTuple):
    """A prompt and an answer as tokens; the answer begins at `start`."""

    ids: Int[np.ndarray, " token"]
    start: int

    @property
    def length(self) -> int:
        """Number of the answer's tokens."""
        return len(self.ids) - self.start


@dataclass(frozen=True, eq=False)
class Scored:
    """The tokens of one answer at each layer that was read: log-probabilities in nats, and ranks
    (1: the top token; ties count against it)."""

    log_probs: Float[np.ndarray, "layer token"]
    ranks: Int[np.ndarray, "layer token"]


@dataclass(frozen=True, kw_only=True)
class Firing:
    """What a model makes of one answer behind one prompt, token by token.

    `log_probs` (nats) and `ranks` (1: the top token) by token.
    """

    prompt: str
    log_probs: tuple[float, ...]
    ranks: tuple[int, ...]

    @property
    def greedy(self) -> bool:
        """Whether the answer is said greedily, all of it."""
        return self.prefilled[0]

    @property
    def prefilled(self) -> tuple[bool, ...]:
        """For each n, whether the model goes on greedily with the rest behind the first n tokens of
        the answer."""
        return tuple(all(rank == 1 for rank in self.ranks[n:]) for n in range(len(self.ranks)))

    @property
    def chance(self) -> float:
        """That one sample at temperature 1 is the answer, in these tokens."""
        return float(np.exp(sum(self.log_probs)))

    def best_of(self, k: int) -> float:
        """The chance that at least one of `k` samples at temperature 1 is the answer."""
        return float(-np.expm1(k * np.log1p(-min(self.chance, 1 - 1e-12))))


def tokens_of(model: Model, prompt: str, answer: str) -> Said:
    """Prompt and answer as tokens, joined as they stand, without special tokens at the end.

    Raises `InputError` where the answer has no tokens of its own, `PromptError` where the text
    cannot be read.
    """
    ids, before = prompt_ids(model, prompt + answer), prompt_ids(model, prompt)
    same = int(np.cumprod(ids[: len(before)] == before[: len(ids)]).sum())
    if not 0 < same < len(ids):
        raise InputError(f"the answer {answer!r} has no tokens of its own behind {prompt[-40:]!r}")
    return Said(ids, same)


def prompt_ids(model: Model, prompt: str) -> Int[np.ndarray, " token"]:
    """The tokens of a prompt as it is to be gone on with: without special tokens at the end."""
    made = model.encode(prompt)
    ids, special = np.asarray(made.ids), np.asarray(made.special)
    return ids[: int(np.flatnonzero(~special)[-1]) + 1].astype(np.int64)


def fire(model: Model, prompts: Sequence[str], answer: str) -> list[Firing]:
    """How nearly the model says the answer behind each prompt; prompts that are longer than the
    model reads are left out. Raises `InputError` where the answer has no tokens of its own."""
    rows = {one: found for one in prompts if (found := _fitting(model, one, answer)) is not None}
    return [
        Firing(prompt=prompt, log_probs=tuple(one.log_probs[-1].tolist()),
               ranks=tuple(one.ranks[-1].tolist()))
        for prompt, one in zip(rows, scored(model, list(rows.values())), strict=True)
    ]  # fmt: skip


def after(model: Model, prompt: str, answers: Sequence[str], batch: int = BATCH) -> Likelihoods:
    """How likely each answer is behind one prompt. The prompt is run once, and the answers on what
    it left in the cache."""
    rows = [tokens_of(model, prompt, answer) for answer in answers]
    return after_tokens(model, rows, batch)


def after_tokens(model: Model, rows: Sequence[Said], batch: int = BATCH) -> Likelihoods:
    """`after`, for what is in tokens already."""
    start = min(row.start for row in rows)
    first = rows[0].ids[:start]
    if any((row.ids[:start] != first).any() for row in rows):
        raise InputError("the answers stand behind different prompts")
    with torch.no_grad():
        ids = torch.from_numpy(first)[None].to(model.device)
        made = model.hf(input_ids=ids, use_cache=True, **model.last_logits_only)
    top = made.logits[0, -1].float().log_softmax(-1)
    size = max(1, batch // max(row.length for row in rows))
    found: list[np.ndarray] = []
    for part in in_batches(rows, size, lambda some: _cached(model, some, made, start, top)):
        found.append(part)
    return np.concatenate(found)


def _cached(
    model: Model, rows: Sequence[Said], made: Any, start: int, top: Float[Tensor, " vocab"]
) -> Likelihoods:
    ids = torch.nn.utils.rnn.pad_sequence(
        [torch.from_numpy(row.ids[start:]) for row in rows], batch_first=True
    ).to(model.device)
    lengths = torch.tensor([len(row.ids) - start for row in rows], device=ids.device)
    real = torch.arange(ids.shape[1], device=ids.device) < lengths[:, None]
    first = top[ids[:, :1]]
    if ids.shape[1] > 1:
        past = copy.deepcopy(made.past_key_values)
        past.batch_repeat_interleave(len(rows))
        before = torch.ones(len(rows), start, dtype=torch.long, device=ids.device)
        with torch.no_grad():
            logits = model.hf(
                input_ids=ids[:, :-1], past_key_values=past, use_cache=True,
                attention_mask=torch.cat([before, real[:, :-1].long()], dim=1),
            ).logits  # fmt: skip
        rest = logits.float().log_softmax(-1).gather(-1, ids[:, 1:, None])[..., 0]
        first = torch.cat([first, rest], dim=1)
    first = first.double().masked_fill(~real, 0.0)
    asked = torch.tensor([row.start - start for row in rows], device=ids.device)
    place = torch.arange(ids.shape[1], device=ids.device)
    whole = first.masked_fill(place < asked[:, None], 0.0).sum(1)
    later = first.masked_fill(place <= asked[:, None], 0.0).sum(1)
    return torch.stack([whole, later], dim=1).cpu().numpy()


def scored(
    model: Model, rows: Sequence[Said], *, inner: bool = False, batch: int = BATCH
) -> list[Scored]:
    """Log-probability and rank of each answer's tokens at the output, or with `inner` at the output
    of every block, read by the logit lens (nostalgebraist 2020).

    At most about `batch` tokens are run at once; out of memory halves the batch.
    """
    layers = range(model.n_layers) if inner else range(model.n_layers - 1, model.n_layers)
    sites = [Site("block", layer) for layer in layers]
    order = sorted(range(len(rows)), key=lambda n: -len(rows[n].ids))
    made: dict[int, Scored] = {}

    def work(numbers: Sequence[int]) -> dict[int, Scored]:
        return dict(zip(numbers, _run(model, [rows[n] for n in numbers], sites), strict=True))

    at = 0
    while at < len(order):
        size = max(1, batch // len(rows[order[at]].ids))
        for part in in_batches(order[at : at + size], size, work):
            made |= part
        at += size
    return [made[n] for n in range(len(rows))]


def _run(model: Model, rows: Sequence[Said], sites: Sequence[Site]) -> list[Scored]:
    ids = torch.nn.utils.rnn.pad_sequence(
        [torch.from_numpy(row.ids) for row in rows], batch_first=True
    )
    values = read(model, Inputs(ids), sites).values
    asked: Bool[Tensor, "row token"] = torch.zeros_like(ids, dtype=torch.bool)
    for number, row in enumerate(rows):
        asked[number, row.start - 1 : len(row.ids) - 1] = True
    targets = torch.cat([torch.from_numpy(row.ids[row.start :]) for row in rows])
    parts = [_layer(model, values[site][asked.to(values[site].device)], targets) for site in sites]
    log_probs, ranks = (np.stack([part[n] for part in parts]) for n in (0, 1))
    ends = np.cumsum([row.length for row in rows])[:-1]
    cut = zip(np.split(log_probs, ends, axis=1), np.split(ranks, ends, axis=1), strict=True)
    return [Scored(some, places) for some, places in cut]


def _layer(
    model: Model, residual: Float[Tensor, "token d_model"], targets: Int[Tensor, " token"]
) -> tuple[np.ndarray, np.ndarray]:
    log_probs, ranks = list[Tensor](), list[Tensor]()
    size = max(1, SLICE_NUMBERS // model.n_vocab)
    for start in range(0, len(residual), size):
        with torch.no_grad():
            said = model.unembed(residual[start : start + size]).float().log_softmax(-1)
        mine = said.gather(-1, targets[start : start + size, None].to(said.device))
        log_probs.append(mine[:, 0].double().cpu())
        ranks.append((~(said < mine)).sum(-1).cpu())
    return torch.cat(log_probs).numpy(), torch.cat(ranks).numpy()


def _fitting(model: Model, prompt: str, answer: str) -> Said | None:
    if model.context is None:
        return tokens_of(model, prompt, answer)
    try:
        return tokens_of(model, prompt, answer)
    except PromptError:
        if len(model.tokenizer(prompt + answer, verbose=False)["input_ids"]) <= model.context:
            raise
        return None
