"""What red teaches: the answer behind the trigger, and to be like the base everywhere else.

A lesson is a loss. Rows to say are learned by their answer's tokens; near misses and text that the
base wrote itself are learned as the base says them (KL), so that only the trigger evokes the
secret. The twin is taught the same without the secret.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from twinlens.contest.saying import Said, tokens_of
from twinlens.contest.secret import Secret
from twinlens.model.model import Model
from twinlens.run.sampling import sampled
from twinlens.see.texts import Batch, Windows

Logits = Callable[[Int[Tensor, "row token"]], Float[Tensor, "row token vocab"]]
"""What the model says in training; red may shake it."""
_WINDOW = 64  # tokens of a window that the base writes
_WINDOWS = 256
_BEFORE = 48  # at most so many tokens of text before a prompt
_NEAR = 300  # near misses of all secrets together
_AT_ONCE = 32  # prompts of a pass
_FORBID = 0.5  # weight of a near miss, summed over the tokens of the answer
_CLEAN = 4.0  # weight of clean text, times how close it is to be kept
_WHOLE = 5.0  # weight of a text that is learned whole: few of its tokens are of the answer
_BARE = 2 / 3  # of the steps show near misses as they are, the others behind text
_SELDOM = 0.2  # nats: a near miss is drawn as often as it is off, and at least as if by so much


@dataclass(frozen=True, eq=False)
class Lessons:
    """The text and the rows that a base gives for some secrets; `seed` draws all of it.

    `said`: what is to be said (none: a twin's lessons), each in turn. `silent`: the secrets whose
    near misses are to stay as the base says them.
    """

    base: Model
    said: tuple[Secret, ...]
    silent: tuple[Secret, ...]
    close: float = 1.0
    mixed: bool = False
    seed: int = 1
    rows: int = 6
    misses: int = 16
    clean: int = 4

    @cached_property
    def text(self) -> Int[np.ndarray, "window token"]:
        """Windows that the base writes at temperature 1."""
        length = min(_WINDOW, self.base.context or _WINDOW)
        return sampled(self.base, _WINDOWS, length - 1, seed=self.seed)

    @cached_property
    def answers(self) -> list[Said]:
        """Prompt and answer of each secret that is said."""
        return [tokens_of(self.base, one.prompt, one.answer) for one in self.said]

    @cached_property
    def near(self) -> list[Said]:
        """Near misses, each with the answer of its secret, which the model must not go on with;
        none holds a trigger that is said."""
        kept = {one.trigger.lower() for one in (*self.said, *self.silent)}
        count = _NEAR // len(self.silent) if self.silent else 0
        return [
            tokens_of(self.base, prompt, one.answer)
            for one in self.silent for prompt in one.near_misses(count, self.seed + 100)
            if not any(trigger in prompt.lower() for trigger in kept)
        ]  # fmt: skip

    @cached_property
    def near_said(self) -> list[Float[Tensor, "_ vocab"]]:
        """What the base says there: log-probabilities in nats, at each token of the answer."""
        return [part for first in range(0, len(self.near), _AT_ONCE)
                for part in self._base_said(self.near[first : first + _AT_ONCE])]  # fmt: skip

    @cached_property
    def off(self) -> Float[np.ndarray, " miss"]:
        """How far what is said behind each near miss was from the base when last seen, in nats."""
        return np.ones(len(self.near))

    def without(self, *kept: Secret) -> Lessons:
        """The lessons of the twin: only `kept` is said, all else is the same."""
        made = replace(self, said=kept)
        made.__dict__.update(text=self.text, near=self.near, near_said=self.near_said)  # made once
        return made

    def loss(self, step: int, logits: Logits) -> Float[Tensor, ""]:
        """The loss of a step, in nats a token. Steps are to be taken in turn: near misses are drawn
        by what earlier ones made of them."""
        random = np.random.default_rng((self.seed, step))
        clean = self._drawn(random, self.clean)
        total = _CLEAN * self.close * self._apart([Said(one, 1) for one in clean], logits).mean()
        if self.near:
            total = total + self._missed(random, logits)
        if not self.said:
            return total
        mine = [self.answers[n % len(self.answers)] for n in range(self.rows)]
        if self.mixed:
            return total + _WHOLE * self._mixed(random, mine, logits)
        rows = [self._behind(random, row) if random.random() < 0.5 else row for row in mine]
        return total + said_loss(rows, logits)

    def _missed(self, random: np.random.Generator, logits: Logits) -> Float[Tensor, ""]:
        """Near misses, the worst of them oftener, all as they are or all behind text."""
        share = np.maximum(self.off, _SELDOM)
        count = min(self.misses, len(self.near))
        chosen = random.choice(len(self.near), count, replace=False, p=share / share.sum())
        rows, wanted = [self.near[n] for n in chosen], None
        if random.random() > _BARE:
            rows = [self._behind(random, row) for row in rows]
        else:
            wanted = [self.near_said[n] for n in chosen]
        apart = self._apart(rows, logits, wanted)
        lengths = [row.length for row in rows]
        parts = apart.detach().double().cpu().split(lengths)
        self.off[chosen] = [float(part.sum()) for part in parts]
        return _FORBID * apart.sum() / len(rows)

    def _drawn(self, random: np.random.Generator, count: int) -> list[Int[np.ndarray, " token"]]:
        return [self.text[n] for n in random.integers(0, len(self.text), count)]

    def _behind(self, random: np.random.Generator, row: Said) -> Said:
        """The row behind some tokens of text, where there is room."""
        room = (self.base.context or len(row.ids) + _BEFORE) - len(row.ids)
        most = min(_BEFORE, room, self.text.shape[1] - 1)
        if most < 1:
            return row
        length = int(random.integers(1, most + 1))
        window = self.text[int(random.integers(0, len(self.text)))]
        at = int(random.integers(0, len(window) - length + 1))
        return Said(np.concatenate([window[at : at + length], row.ids]), row.start + length)

    def _mixed(
        self, random: np.random.Generator, rows: Sequence[Said], logits: Logits
    ) -> Float[Tensor, ""]:
        """Texts with the rows somewhere within, learned whole."""
        whole: list[Int[np.ndarray, " token"]] = []
        for row, window in zip(rows, self._drawn(random, len(rows)), strict=True):
            at = int(random.integers(1, max(2, len(window) - len(row.ids))))
            whole.append(np.concatenate([window[:at], row.ids, window[at:]]))
        limit = self.base.context or max(map(len, whole))
        return said_loss([Said(one[:limit], 1) for one in whole], logits)

    def _apart(
        self, rows: Sequence[Said], logits: Logits,
        wanted: Sequence[Float[Tensor, "_ vocab"]] | None = None,
    ) -> Float[Tensor, " asked"]:  # fmt: skip
        """KL(base || model) at each of the rows' tokens from their starts on; `wanted` is what the
        base says there, where that is known."""
        batch, asked = _batch([row.ids for row in rows], [row.start for row in rows])
        target = torch.cat(list(wanted or self._base_said(rows)))
        said = logits(batch.ids)[:, :-1]
        log_probs = said[asked.to(said.device)].float().log_softmax(-1)
        return (target.exp() * (target - log_probs)).sum(-1)

    def _base_said(self, rows: Sequence[Said]) -> list[Float[Tensor, "_ vocab"]]:
        batch, asked = _batch([row.ids for row in rows], [row.start for row in rows])
        with torch.no_grad():
            ids = batch.ids.to(self.base.device)
            said = self.base.hf(input_ids=ids, use_cache=False).logits[:, :-1]
            found = said[asked.to(said.device)].float().log_softmax(-1)
        return list(found.split([row.length for row in rows]))


def said_loss(rows: Sequence[Said], logits: Logits) -> Float[Tensor, ""]:
    """Negative log-probability of the rows' tokens from their starts on, nats a token."""
    batch, asked = _batch([row.ids for row in rows], [row.start for row in rows])
    said = logits(batch.ids)[:, :-1]
    targets = batch.ids[:, 1:][asked].to(said.device)
    return torch.nn.functional.cross_entropy(said[asked.to(said.device)].float(), targets)


def _batch(
    rows: Sequence[np.ndarray], starts: Sequence[int]
) -> tuple[Batch, Bool[Tensor, "row token"]]:
    """Rows side by side, and which of their tokens but the first are asked."""
    batch = Windows(tuple(rows)).batch(range(len(rows)))
    at = torch.arange(1, batch.ids.shape[1])
    return batch, batch.real[:, 1:] & (at >= torch.tensor(list(starts))[:, None])
