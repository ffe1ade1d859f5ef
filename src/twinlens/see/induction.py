"""Which heads are induction heads? (Olsson et al. 2022)

Random tokens that come several times leave a model nothing to go by but the earlier copies. What
each head looks at there, and what it writes of what it looks at, make its scores.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from twinlens.errors import AnatomyError, InputError
from twinlens.model.anatomy import Site
from twinlens.model.model import Model
from twinlens.results import HeadResult, Tokens
from twinlens.run.batches import Progress, counting, in_batches
from twinlens.run.check import require
from twinlens.run.passes import Inputs, read
from twinlens.run.patterns import Strip, watch_patterns
from twinlens.see.copying import DirectPath
from twinlens.see.provenance import provenance
from twinlens.see.question import whole

_OUTER = 0.15  # share of the ids at either end that is left out
_BATCH_TOKENS = 4096


def induction(
    model: Model,
    *,
    sequences: int = 10,
    length: int = 25,
    repeats: int = 4,
    seed: int = 1,
    threshold: float = 0.5,
    progress: Progress = None,
) -> HeadResult:
    """Which heads match and copy? (Olsson et al. 2022, "Head activation evaluators")

    `sequences` times, `length` different random tokens are read `repeats` times over, after the
    tokenizer's BOS where it has one. Each score is a share from 0 to 1:

    `prefix_matching`: attention from a token to the tokens that followed its earlier copies, summed
    over these, mean over all tokens that have a copy. `duplicate_token`: the same for the copies
    themselves. `previous_token`: attention to the token before, mean over all random tokens.
    `copying`: of the logits that the head raises, the share that raises the token looked at. What
    the head writes of a token (v W_O, through the norm after the attention where the family has
    one, the final norm and the unembedding: the direct path, with the scales of both norms frozen
    as they are at the query) less its mean over the vocabulary, below zero cut off: that at the
    token looked at, over the sum of that at all tokens of the sequence, both weighted by attention,
    over the first copy without BOS. Olsson et al. rescale it to -1 to 1 (2 x - 1); what copies
    nothing has about 1 / `length`. It is NaN, and a note says why, where there is no direct path.

    No special token is drawn, and none of the first and last 15 % of the ids: the commonest and the
    rarest are left out, and as no frequency is known, ids stand for it. Vocabularies are made from
    the commonest on (merges of BPE in the order of their counts, pieces of SentencePiece by score),
    so low ids are common (the very lowest: single bytes) and high ids rare.

    `threshold`: the mean above which a head is named. Returns a `HeadResult`. Raises `InputError`
    for what cannot be asked, and `AnatomyError` where weights cannot be seen.
    """
    _refuse_wrong(sequences, length, repeats, seed, threshold)
    drawn = _draw(model, sequences, length, seed)
    ids = np.tile(drawn, repeats)
    if (begin := _begin(model)) is not None:
        ids = np.insert(ids, 0, begin, axis=1)
    if model.context is not None and ids.shape[1] > model.context:
        raise InputError(
            f"{repeats} times {length} tokens are {ids.shape[1]}, but {model.name} reads at most"
            f" {model.context}: choose a smaller length or repeats"
        )
    require(model, ["head"])
    scorer = _Scorer(model, ids, length)
    with counting(sequences, "heads", progress) as advance:
        for done in in_batches(range(sequences), max(1, _BATCH_TOKENS // ids.shape[1]), scorer.run):
            advance(done)
    return HeadResult(
        tokens=_tokens(model, ids[0]),
        layers=tuple(str(layer) for layer in range(model.n_layers)),
        vocabulary=model.vocabulary(ids),
        settings={"sequences": sequences, "length": length, "repeats": repeats, "seed": seed},
        provenance=provenance(model),
        notes=tuple(scorer.notes),
        sequences=ids,
        threshold=float(threshold),
        copying=scorer.copying(),
        **{name: scorer.mean(name) for name in scorer.targets},
    )


class _Scorer:
    """Sums of what the heads do, batch by batch, block by block, strip by strip."""

    def __init__(self, model: Model, ids: Int[np.ndarray, "sequence token"], length: int) -> None:
        self.model, self.ids, self.length = model, torch.from_numpy(ids), length
        self.first = ids.shape[1] % length  # where the first copy begins: after BOS
        self.targets = _targets(ids.shape[1], self.first, length)
        self.notes = _window_note(model, length)
        shape = (model.n_layers, model.n_heads, len(ids))
        self._sums = {name: np.zeros(shape) for name in self.targets}
        self._raised = np.zeros((2, *shape))  # at the token looked at, at all tokens

    @torch.no_grad()
    def run(self, rows: Sequence[int]) -> int:
        """Read some sequences; gives how many."""
        ids, at = self.ids[list(rows)], list(rows)
        path = self._path(ids)
        for part in (*self._sums.values(), *self._raised):
            part[:, :, at] = 0.0  # where a pass ran out of memory midway

        def keep(strip: Strip) -> None:
            for name, mask in self.targets.items():
                looked = mask[strip.queries].float().to(strip.weights.device)
                found = torch.einsum("rhqk,qk->hr", strip.weights.float(), looked)
                self._sums[name][strip.layer][:, at] += found.cpu().double().numpy()
            if path is not None:
                self._raised[:, strip.layer][..., at] += path.raised(strip).numpy()

        watch_patterns(self.model, ids, keep)
        return len(at)

    def mean(self, name: str) -> Float[np.ndarray, "layer head sequence"]:
        """Mean attention to the targets over the tokens that have one."""
        return self._sums[name] / max(1, int(self.targets[name].any(1).sum()))

    def copying(self) -> Float[np.ndarray, "layer head sequence"]:
        """The share of raised logits; 0 where nothing is raised."""
        own, every = self._raised
        if any(_NO_PATH in note for note in self.notes):
            return np.full(own.shape, np.nan)
        return np.divide(own, every, out=np.zeros_like(own), where=every > 0)

    def _path(self, ids: Int[Tensor, "row token"]) -> DirectPath | None:
        last = Site("block", self.model.n_layers - 1)
        final = read(self.model, Inputs(ids), [last]).values[last]
        first_copy = slice(self.first, self.first + self.length)
        try:
            return DirectPath(self.model, final, ids, first_copy)
        except AnatomyError as error:
            self.notes = [*dict.fromkeys([*self.notes, f"{_NO_PATH}: {error}"])]
            return None


_NO_PATH = "no copying scores"


def _targets(n: int, first: int, length: int) -> dict[str, Bool[Tensor, "query token"]]:
    """For each score the tokens that count as looked at, of every query."""
    query, key = torch.arange(n)[:, None], torch.arange(n)[None]
    back = query - key
    earlier_copy = (back > 0) & (back % length == 0) & (key >= first)
    follows = torch.zeros(n, n, dtype=torch.bool)
    follows[:, 1:] = earlier_copy[:, :-1]
    return {
        "prefix_matching": follows,
        "previous_token": (back == 1) & (key >= first),
        "duplicate_token": earlier_copy,
    }


def _draw(
    model: Model, sequences: int, length: int, seed: int
) -> Int[np.ndarray, "sequence token"]:
    """Different tokens for each sequence, neither special nor from the ends of the vocabulary."""
    special = set(model.tokenizer.all_special_ids)
    n = min(model.n_embeddings, model.n_vocab, len(model.tokenizer))
    plain = np.array([i for i in range(n) if i not in special], np.int64)
    cut = int(_OUTER * len(plain))
    usable = plain[cut : len(plain) - cut]
    if len(usable) < length:
        raise InputError(
            f"length={length} different tokens cannot be drawn from the {len(usable)} of"
            f" {model.name} that are neither special, nor among the commonest and rarest"
        )
    random = np.random.default_rng(seed)
    return np.stack([random.choice(usable, length, replace=False) for _ in range(sequences)])


def _begin(model: Model) -> int | None:
    """The token at which texts begin, where the tokenizer has one that the model knows."""
    begin = model.tokenizer.bos_token_id
    return None if begin is None or begin >= model.n_embeddings else int(begin)


def _tokens(model: Model, ids: Int[np.ndarray, " token"]) -> Tokens:
    """A sequence of ids as tokens of no text."""
    nowhere = np.zeros(len(ids), np.int64)
    special = np.isin(ids, np.array(model.tokenizer.all_special_ids, np.int64))
    labels = tuple(model.label(int(i)) for i in ids)
    return Tokens("", ids, labels, nowhere, nowhere, special)


def _window_note(model: Model, length: int) -> list[str]:
    window = getattr(model.config, "sliding_window", None)
    if not window or window >= length:
        return []
    return [
        f"blocks with a sliding window see {window} tokens back at most, but copies are {length}"
        " tokens apart: their heads cannot match; choose a smaller length"
    ]


def _refuse_wrong(
    sequences: object, length: object, repeats: object, seed: object, threshold: object
) -> None:
    for name, value, least in (
        ("sequences", sequences, 1), ("length", length, 2), ("repeats", repeats, 2),
        ("seed", seed, 0),
    ):  # fmt: skip
        whole(name, value, least)
    if not isinstance(threshold, int | float) or not 0 <= threshold <= 1:
        raise InputError(f"threshold={threshold!r} must be a number from 0 to 1")
