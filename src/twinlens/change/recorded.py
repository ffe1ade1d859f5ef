"""What is kept of the original model on each domain, and a changed model beside it."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32, Int

from twinlens.change.cloze import Cloze
from twinlens.change.losses import Losses, Passages, Rows, divergence, measure
from twinlens.change.verdict import Answer
from twinlens.errors import ChangeError
from twinlens.model.model import Model


@dataclass(frozen=True)
class GateSettings:
    """What a gate asks, in plain values (see `Gate`)."""

    margin: float
    items_margin: float
    alpha: float
    rare: float
    length: int
    sample: int
    seed: int
    batch_tokens: int


@dataclass(frozen=True)
class Look:
    """A look that was taken: its number, at the final text or not, at which weights, the answer."""

    look: int
    final: bool
    changed: str
    verdict: Answer


@dataclass(frozen=True, eq=False)
class Asked:
    """What a gate asks, as tokens of a model: gate text, final text, items."""

    gate: Mapping[str, Passages]
    final: Mapping[str, Passages]
    cloze: Cloze | None

    @property
    def n_positions(self) -> int:
        """Number of tokens that are predicted."""
        parts = [*self.gate.values(), *self.final.values()]
        parts += [] if self.cloze is None else [self.cloze.passages]
        return sum(part.n_positions for part in parts)

    @property
    def identity(self) -> dict[str, str]:
        """A hash of each text and of the items, by what they are called."""
        parts = {f"the text {name!r}": part for name, part in self.gate.items()}
        parts |= {f"the final text {name!r}": part for name, part in self.final.items()}
        if self.cloze is not None:
            parts["the items"] = self.cloze.passages
        return {name: part.sha256 for name, part in parts.items()}


@dataclass(frozen=True, eq=False)
class Recorded:
    """The original on one domain: its losses, and its log-probabilities at a sample."""

    passages: Passages
    losses: Losses
    sample: Int[np.ndarray, " sampled"]
    log_probs: Float32[np.ndarray, "sampled vocab"]


@dataclass(frozen=True, eq=False)
class Task:
    """Cloze items, and which of them the original answers right."""

    cloze: Cloze
    right: Bool[np.ndarray, " item"]


@dataclass(frozen=True, eq=False)
class After:
    """A changed model on one domain."""

    losses: Losses
    kl: float


def record(
    model: Model, passages: Passages, settings: GateSettings, advance: Callable[[int], None]
) -> Recorded:
    """The original on one domain."""
    sample = passages.sample(settings.sample, settings.seed)
    kept = np.zeros((len(sample), model.n_vocab), dtype=np.float32)

    def take(rows: Rows) -> None:
        kept[rows.at] = rows.log_probs.numpy()

    losses = measure(model, passages, sample, settings.batch_tokens, take=take, advance=advance)
    return Recorded(passages, losses, sample, kept)


def compare(
    model: Model, before: Recorded, settings: GateSettings, advance: Callable[[int], None]
) -> After:
    """A changed model on one domain; only a sum is kept of its log-probabilities."""
    apart = np.zeros(len(before.sample))

    def take(rows: Rows) -> None:
        apart[rows.at] = divergence(before.log_probs[rows.at], rows.log_probs)

    losses = measure(
        model, before.passages, before.sample, settings.batch_tokens, take=take, advance=advance
    )
    if not np.isfinite(losses.nats).all():
        raise ChangeError(f"the loss of {model.name} is not finite on some documents")
    return After(losses, max(float(apart.mean()), 0.0) if len(apart) else math.nan)


def vocabulary_hash(model: Model) -> str:
    """A hash of what each token is, and of the number of logits."""
    known = sorted(model.tokenizer.get_vocab().items())
    return hashlib.sha256(json.dumps([known, model.n_vocab]).encode()).hexdigest()
