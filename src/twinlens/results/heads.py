"""What attention heads do: their scores on repeated random tokens, and what they attend to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Float, Float32, Int

from twinlens.errors import InputError
from twinlens.results.base import Result

SCORES = ("prefix_matching", "copying", "previous_token", "duplicate_token")


def head_name(layer: int, head: int) -> str:
    """`1.H0` is head 0 of block 1."""
    return f"{layer}.H{head}"


@dataclass(frozen=True, eq=False, kw_only=True)
class HeadResult(Result):
    """Scores of every head on random tokens that come several times (Olsson et al. 2022).

    Each score is a share from 0 to 1, `[layer, head, sequence]`; `mean(name)` and `spread(name)`
    reduce the sequences. `prefix_matching`, `previous_token` and `duplicate_token` are shares of
    attention, `copying` is a share of raised logits (NaN where the model has no direct path).
    `sequences` are the ids that were read; `tokens` is the first of them. `threshold` is the mean
    above which a head is named.
    """

    kind_of_result: ClassVar[str] = "heads"

    prefix_matching: Float[np.ndarray, "layer head sequence"]
    copying: Float[np.ndarray, "layer head sequence"]
    previous_token: Float[np.ndarray, "layer head sequence"]
    duplicate_token: Float[np.ndarray, "layer head sequence"]
    sequences: Int[np.ndarray, "sequence token"]
    threshold: float

    def mean(self, score: str = "prefix_matching") -> Float[np.ndarray, "layer head"]:
        """A score's mean over the sequences. Raises `InputError` for an unknown score."""
        return self._samples(score).mean(axis=-1)

    def spread(self, score: str = "prefix_matching") -> Float[np.ndarray, "layer head"]:
        """A score's standard deviation over the sequences (NaN with a single one)."""
        samples = self._samples(score)
        if samples.shape[-1] < 2:
            return np.full(samples.shape[:2], np.nan)
        return samples.std(axis=-1, ddof=1)

    def top(self, k: int = 10, score: str = "prefix_matching") -> list[tuple[str, float]]:
        """The `k` heads with the highest mean of a score: ("1.H0", mean)."""
        means = self.mean(score)
        order = np.argsort(-np.nan_to_num(means, nan=-1.0), axis=None, kind="stable")[:k]
        places = [divmod(int(flat), means.shape[1]) for flat in order]
        return [(head_name(*place), float(means[place])) for place in places]

    @property
    def named(self) -> dict[str, tuple[str, ...]]:
        """For each score the heads whose mean is above the threshold, strongest first.

        Those of `prefix_matching` are the induction heads, in so far as they also copy.
        """
        n = self.mean().size
        return {
            score: tuple(name for name, mean in self.top(n, score) if mean > self.threshold)
            for score in SCORES
        }

    def _samples(self, score: str) -> Float[np.ndarray, "layer head sequence"]:
        if score not in SCORES:
            raise InputError(f"score={score!r} is not known; choose one of {', '.join(SCORES)}")
        return getattr(self, score)

    def _variables(self) -> dict[str, tuple[tuple[str, ...], np.ndarray]]:
        cell = ("layer", "head")
        found: dict[str, tuple[tuple[str, ...], np.ndarray]] = {}
        for score in SCORES:
            found[score] = (cell, self.mean(score))
            found[f"{score}_spread"] = (cell, self.spread(score))
            found[f"{score}_samples"] = ((*cell, "sequence"), self._samples(score))
        return found | {"ids": (("sequence", "token"), self.sequences)}

    def _columns(self) -> dict[str, object]:
        layer, head = (axis.ravel() for axis in np.indices(self.prefix_matching.shape[:2]))
        columns: dict[str, object] = {"layer": np.array(self.layers)[layer], "head": head}
        for name, (dims, values) in self._variables().items():
            if dims == ("layer", "head"):
                columns[name] = values.ravel()
        return columns


@dataclass(frozen=True, eq=False, kw_only=True)
class AttentionResult(Result):
    """What chosen heads attend to in a prompt.

    `patterns[head, query, token]`: how much each query looks at each token; a row sums to one, and
    nothing after the query is looked at. `heads[head]` are (layer, number) and `queries` the
    positions of the rows. With `value_weighted` each weight was multiplied by the length of what
    the head writes of that token, and rows were made to sum to one again.
    """

    kind_of_result: ClassVar[str] = "attention"

    patterns: Float32[np.ndarray, "head query token"]
    heads: Int[np.ndarray, "head 2"]
    queries: Int[np.ndarray, " query"]
    value_weighted: bool

    @property
    def names(self) -> tuple[str, ...]:
        """The heads' names, in the order of the first axis."""
        return tuple(head_name(int(layer), int(head)) for layer, head in self.heads)

    def pattern(self, name: str) -> Float32[np.ndarray, "query token"]:
        """The pattern of one head, e.g. "1.H0". Raises `InputError` where it is not there."""
        if name not in self.names:
            raise InputError(f"head {name!r} is not in this result; it has {', '.join(self.names)}")
        return self.patterns[self.names.index(name)]

    def top(self, k: int = 10) -> list[tuple[str, int, int, float]]:
        """The `k` largest weights: (head, position of the query, position looked at, weight)."""
        order = np.argsort(-self.patterns, axis=None, kind="stable")[:k]
        found: list[tuple[str, int, int, float]] = []
        for flat in order:
            head, query, token = (int(i) for i in np.unravel_index(flat, self.patterns.shape))
            weight = float(self.patterns.flat[flat])
            found.append((self.names[head], int(self.queries[query]), token, weight))
        return found

    def to_xarray(self) -> Any:
        """The patterns with named dimensions and coordinates (xarray); heads by their names.

        Raises `MissingExtraError` without xarray (`pip install twinlens[data]`).
        """
        return (
            super()
            .to_xarray()
            .drop_vars("layer")
            .assign_coords(
                head=list(self.names), head_layer=("head", self.heads[:, 0]), query=self.queries
            )
        )

    def _variables(self) -> dict[str, tuple[tuple[str, ...], np.ndarray]]:
        return {"pattern": (("head", "query", "token"), self.patterns)}

    def _columns(self) -> dict[str, object]:
        head, query, token = (axis.ravel() for axis in np.indices(self.patterns.shape))
        return {
            "layer": np.array(self.layers)[self.heads[head, 0]],
            "head": self.heads[head, 1],
            "query": self.queries[query],
            "token": token,
            "token_id": self.tokens.ids[token],
            "label": np.array(self.tokens.labels)[token],
            "weight": self.patterns.ravel(),
        }
