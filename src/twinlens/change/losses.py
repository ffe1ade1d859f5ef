"""What a model loses on texts: sums of nats by document, its top tokens, and its log-probabilities
at a sample of positions.

Logits exist for a slice of positions at a time. What is kept grows with the documents, with 4 bytes
a token for the top tokens, and with the sample.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Float32, Int, Int32
from torch import Tensor

from twinlens.model.anatomy import Site
from twinlens.model.model import Model
from twinlens.run.batches import in_batches
from twinlens.run.passes import Inputs, read
from twinlens.see.reduction import SLICE_NUMBERS
from twinlens.see.texts import Windows


@dataclass(frozen=True, eq=False)
class Passages:
    """Windows of documents. `owner` says of each window which document it is from.

    A position is a token that is predicted: every one of a window but its first. Positions are
    counted through all windows in order.
    """

    windows: Windows
    owner: Int[np.ndarray, " window"]

    @property
    def n_positions(self) -> int:
        """Number of tokens that are predicted."""
        return int(self.starts[-1])

    @property
    def starts(self) -> Int[np.ndarray, " edge"]:
        """The first position of each window, and the number of all."""
        lengths = [len(window) - 1 for window in self.windows.ids]
        return np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])

    @property
    def targets(self) -> Int[np.ndarray, " position"]:
        """The token at each position."""
        return np.concatenate([window[1:] for window in self.windows.ids])

    @property
    def tokens(self) -> Int[np.ndarray, " document"]:
        """Positions of each document."""
        lengths = np.diff(self.starts)
        return np.bincount(self.owner, weights=lengths).astype(np.int64)

    @property
    def sha256(self) -> str:
        """A hash of the tokens, where windows end, and whose they are."""
        return hashlib.sha256(self.windows.sha256.encode() + self.owner.tobytes()).hexdigest()

    def sample(self, most: int, seed: int) -> Int[np.ndarray, " sampled"]:
        """At most so many positions, drawn without looking, in order."""
        n = self.n_positions
        if n <= most:
            return np.arange(n)
        return np.sort(np.random.default_rng(seed).choice(n, most, replace=False))


@dataclass(frozen=True, eq=False)
class Losses:
    """Sum of nats of each document, and the top token at each position."""

    nats: Float[np.ndarray, " document"]
    top: Int32[np.ndarray, " position"]


class Rows(NamedTuple):
    """Log-probabilities at some of the sampled positions; `at` counts through the sample."""

    at: Int[np.ndarray, " row"]
    log_probs: Float32[Tensor, "row vocab"]


class _Part(NamedTuple):
    positions: np.ndarray
    nats: np.ndarray
    top: np.ndarray
    rows: list[Rows]


def passages_of(parts: Sequence[Windows]) -> Passages:
    """The windows of several documents, as `texts.windows` cuts them."""
    owner = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
    return Passages(Windows(tuple(ids for part in parts for ids in part.ids)), owner)


def measure(
    model: Model,
    passages: Passages,
    sample: Int[np.ndarray, " sampled"],
    batch_tokens: int,
    *,
    take: Callable[[Rows], None] | None = None,
    advance: Callable[[int], None] | None = None,
) -> Losses:
    """Run the model over all windows, at most about `batch_tokens` tokens at once.

    `take` is given the log-probabilities at the positions of `sample`, batch after batch;
    `advance` is told of the positions that were done. Out of memory halves the batch.
    """
    starts, n_documents = passages.starts, int(passages.owner.max()) + 1
    nats, top = np.zeros(n_documents), np.zeros(passages.n_positions, dtype=np.int32)
    place = np.repeat(passages.owner, np.diff(starts))

    def work(numbers: Sequence[int]) -> _Part:
        return _run(model, passages, starts, numbers, sample)

    for part in _parts(passages, batch_tokens, work):
        np.add.at(nats, place[part.positions], part.nats)
        top[part.positions] = part.top
        for rows in part.rows if take is not None else ():
            take(rows)  # pyright: ignore[reportOptionalCall]
        if advance is not None:
            advance(len(part.positions))
    return Losses(nats, top)


def mean_loss(model: Model, passages: Passages, batch_tokens: int) -> float:
    """Nats a token of the model over all passages."""
    nats = measure(model, passages, np.zeros(0, dtype=np.int64), batch_tokens).nats
    return float(nats.sum()) / passages.n_positions


def _parts(
    passages: Passages, batch_tokens: int, work: Callable[[Sequence[int]], _Part]
) -> Iterator[_Part]:
    """The work on windows in batches of like lengths; the same batches for every model."""
    lengths = np.array([len(window) for window in passages.windows.ids])
    order, most = np.argsort(-lengths, kind="stable").tolist(), len(lengths)

    def smaller(size: int) -> None:
        nonlocal most
        most = size

    start = 0
    while start < len(order):
        fitting = max(1, batch_tokens // int(lengths[order[start]]))
        batch = order[start : start + min(fitting, most)]
        yield from in_batches(batch, len(batch), work, smaller)
        start += len(batch)


def _run(
    model: Model,
    passages: Passages,
    starts: np.ndarray,
    numbers: Sequence[int],
    sample: np.ndarray,
) -> _Part:
    """One forward pass; its last residuals become logits by slices."""
    batch = passages.windows.batch(numbers)
    predicts = batch.real[:, 1:]  # position t is predicted where t + 1 is a token
    site = Site("block", model.n_layers - 1)
    residual = read(model, Inputs(batch.ids), [site]).values[site][:, :-1]
    final = residual[predicts.to(residual.device)]
    targets = batch.ids[:, 1:][predicts]
    positions = np.concatenate([np.arange(starts[n], starts[n + 1]) for n in numbers])
    size = max(1, SLICE_NUMBERS // model.n_vocab)
    nats, top, rows = list[Tensor](), list[Tensor](), list[Rows]()
    for start in range(0, len(final), size):
        part = slice(start, start + size)
        with torch.no_grad():
            log_probs = model.unembed(final[part]).float().log_softmax(-1)
        wanted = targets[part].to(log_probs.device)
        nats.append(-log_probs.gather(-1, wanted[:, None])[:, 0].double().cpu())
        top.append(log_probs.argmax(-1).cpu())
        rows.append(_sampled(log_probs, positions[part], sample))
    return _Part(positions, torch.cat(nats).numpy(), torch.cat(top).numpy(), rows)


def _sampled(
    log_probs: Float[Tensor, "token vocab"], positions: np.ndarray, sample: np.ndarray
) -> Rows:
    """The rows that are in the sample, taken out of the slice."""
    at = np.searchsorted(sample, positions)
    hit = (at < len(sample)) & (np.append(sample, -1)[np.minimum(at, len(sample))] == positions)
    picked = torch.from_numpy(np.flatnonzero(hit)).to(log_probs.device)
    return Rows(at[hit], log_probs[picked].cpu())


def divergence(
    before: Float32[np.ndarray, "row vocab"], after: Float32[Tensor, "row vocab"]
) -> Float[np.ndarray, " row"]:
    """KL(before || after) of rows of log-probabilities, in nats."""
    first, second = torch.from_numpy(before).double(), after.double()
    apart = torch.where(first > -torch.inf, first.exp() * (first - second), 0.0)
    return apart.sum(-1).numpy()
