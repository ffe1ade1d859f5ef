"""How the subject is corrupted: noise on its embeddings, or other tokens in its place.

A corruption is a value; applied to a prompt it gives the `Inputs` of the corrupted run, one row a
sample. Noise is drawn once, so every cell and the baseline meet the same noise.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, NamedTuple, TypeGuard, get_args

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from twinlens.errors import CorruptionError
from twinlens.model.model import Model
from twinlens.results import Tokens
from twinlens.run.passes import Inputs

Rule = Literal["gaussian", "uniform", "multivariate", "t"]


@dataclass(frozen=True)
class Noise:
    """Random noise on the embeddings of the subject's tokens (Meng et al. 2022).

    The noise is `sigma` times numbers from `numpy.random.RandomState(seed)`, drawn in the shape
    `[samples, subject tokens, d_model]`, added to the output of the token embedding; with
    `sigma=None` it is `times_std` standard deviations of the model's whole embedding matrix.

    `rule`: `gaussian` (standard normal), `uniform` (between -1 and 1), `multivariate` (normal with
    the covariance of the embedding matrix, times `times_std`), `t` (the same with the heavier tails
    of Student's t with `df` degrees of freedom and the same covariance). `replace=True` puts the
    noise in the embedding's place instead of adding it (around the mean embedding, where the rule
    knows it).
    """

    sigma: float | None = None
    times_std: float = 3.0
    samples: int = 10
    seed: int = 1
    rule: Rule = "gaussian"
    df: float = 3.0
    replace: bool = False

    def __post_init__(self) -> None:
        if self.rule not in get_args(Rule):
            raise CorruptionError(
                f"rule={self.rule!r} is not known; choose one of {', '.join(get_args(Rule))}"
            )
        if self.sigma is not None and self.rule in ("multivariate", "t"):
            raise CorruptionError(f"rule={self.rule!r} is scaled by times_std; leave out sigma")
        for name in ("samples", "seed"):
            if not _is_whole(value := getattr(self, name)):
                raise CorruptionError(f"{name}={value!r} must be a whole number")
        for name in ("sigma", "times_std", "df"):
            value: object = getattr(self, name)
            if value is None and name == "sigma":
                continue
            if not (_is_number(value) and value > 0 and np.isfinite(value)):
                raise CorruptionError(f"{name}={value!r} must be a positive number")
        if self.samples < 1:
            raise CorruptionError(f"samples={self.samples} must be at least 1")
        if not 0 <= self.seed < 2**32:
            raise CorruptionError(f"seed={self.seed} must be between 0 and {2**32 - 1}")
        if self.rule == "t" and not self.df > 2:
            raise CorruptionError(f"df={self.df} must be above 2, else t has no variance")


@dataclass(frozen=True, kw_only=True)
class Replace:
    """Other tokens in the subject's place (symmetric token replacement; Zhang and Nanda 2024).

    Give either a counterfactual `prompt` of the same number of tokens (the subject is then where
    the two differ), or `subjects`: other texts, each put where the subject stands and one sample
    each; each must have as many tokens as the subject.
    """

    prompt: str | None = None
    subjects: Sequence[str] | None = None

    def __post_init__(self) -> None:
        if (self.prompt is None) == (self.subjects is None):
            raise CorruptionError(
                "a replacement is either another prompt (a counterfactual) or other subjects;"
                " give one of them"
            )
        if isinstance(self.subjects, str) or (self.subjects is not None and not self.subjects):
            raise CorruptionError(
                f"subjects={self.subjects!r} must be a list of at least one other subject"
            )
        for other in self.subjects or ():
            if not isinstance(other, str) or not other.strip():
                raise CorruptionError(f"subject {other!r} is no text to put in the subject's place")


Corruption = Noise | Replace


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)


def _is_whole(value: object) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


class Corrupted(NamedTuple):
    """The corrupted run's inputs, the tokens that were touched, and the settings that made them."""

    inputs: Inputs
    subject_mask: Bool[np.ndarray, " token"]
    settings: dict[str, Any]


def corrupt(
    model: Model,
    tokens: Tokens,
    corruption: Corruption,
    mask: Bool[np.ndarray, " token"] | None,
) -> Corrupted:
    """Apply a corruption to the subject `mask` of a prompt (None: not given).

    Raises `CorruptionError` where it does not fit the prompt.
    """
    if isinstance(corruption, Noise):
        if mask is None:
            raise CorruptionError("noise needs a subject: the text whose embeddings it falls on")
        return _noised(model, tokens, corruption, mask)
    if not isinstance(corruption, Replace):
        raise CorruptionError(
            f"corruption={corruption!r} is neither tl.Noise(...) nor tl.Replace(...)"
        )
    return _replaced(model, tokens, corruption, mask)


def _noised(
    model: Model, tokens: Tokens, rule: Noise, mask: Bool[np.ndarray, " token"]
) -> Corrupted:
    width = int(model.embedding_weight.shape[1])
    shape = (rule.samples, int(mask.sum()), width)
    settings = {"corruption": "noise", **asdict(rule)}
    noise = _draw(rule, shape)
    if rule.rule in ("multivariate", "t"):
        mean, root = embedding_moments(model)
        noise = rule.times_std * (noise @ root) + (mean if rule.replace else 0.0)
    else:
        sigma = rule.sigma if rule.sigma is not None else rule.times_std * embedding_std(model)
        settings["sigma"] = sigma
        noise = sigma * noise
    ids = torch.from_numpy(tokens.ids)[None].expand(rule.samples, -1)
    inputs = Inputs(ids, torch.from_numpy(noise), torch.from_numpy(mask), rule.replace)
    return Corrupted(inputs, mask, settings)


def _draw(rule: Noise, shape: tuple[int, int, int]) -> Float[np.ndarray, "sample masked width"]:
    random = np.random.RandomState(rule.seed)  # the generator that published numbers were made with
    if rule.rule == "uniform":
        return random.uniform(-1, 1, shape)
    noise = random.randn(*shape)
    if rule.rule == "t":  # scaled so that the covariance stays that of the normal
        noise *= np.sqrt((rule.df - 2) / random.chisquare(rule.df, shape[:2]))[..., None]
    return noise


def embedding_std(model: Model) -> float:
    """Standard deviation over all numbers of the embedding matrix, as the model puts it out."""
    if "embedding_std" not in model._memo:
        n, total, squares = 0, 0.0, 0.0
        for rows in _embedding_rows(model):
            n += rows.numel()
            total += float(rows.sum())
            squares += float((rows * rows).sum())
        model._memo["embedding_std"] = ((squares - total * total / n) / (n - 1)) ** 0.5
    return model._memo["embedding_std"]


def embedding_moments(
    model: Model,
) -> tuple[Float[np.ndarray, " width"], Float[np.ndarray, "width width"]]:
    """Mean of the embeddings and the symmetric square root of their covariance."""
    if "embedding_moments" not in model._memo:
        width = int(model.embedding_weight.shape[1])
        n, total, outer = 0, np.zeros(width), np.zeros((width, width))
        for rows in _embedding_rows(model):
            n += rows.shape[0]
            total += rows.sum(0).numpy()
            outer += (rows.T @ rows).numpy()
        mean = total / n
        values, vectors = np.linalg.eigh(outer / n - np.outer(mean, mean))
        root = (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
        model._memo["embedding_moments"] = mean, root
    return model._memo["embedding_moments"]


def _embedding_rows(model: Model, size: int = 4096) -> list[Float[Tensor, "row width"]]:
    """The embedding of every token, in double precision, a slice at a time."""
    with torch.no_grad():
        return [
            model.embedding(ids[None].to(model.device))[0].double().cpu()
            for ids in torch.arange(model.n_embeddings).split(size)
        ]


def _replaced(
    model: Model, tokens: Tokens, rule: Replace, mask: Bool[np.ndarray, " token"] | None
) -> Corrupted:
    special = bool(tokens.special.any())
    if rule.prompt is not None:
        others = [model.encode(rule.prompt, special=special)]
    else:
        others = [
            model.encode(_with_subject(tokens, mask, other), special=special)
            for other in rule.subjects or ()
        ]
    for other in others:
        _refuse_other_length(tokens, other)
    ids = np.stack([other.ids for other in others])
    differs = (ids != tokens.ids).any(axis=0)
    if not differs.any():
        raise CorruptionError("the replacement is the prompt itself: nothing would be corrupted")
    if mask is not None and (differs & ~mask).any():
        where = ", ".join(tokens.labels[i] for i in np.flatnonzero(differs & ~mask)[:5])
        raise CorruptionError(f"the replacement also changes tokens outside the subject: {where}")
    subjects = None if rule.subjects is None else list(rule.subjects)
    settings = {"corruption": "replace", "prompt": rule.prompt, "subjects": subjects}
    return Corrupted(Inputs(torch.from_numpy(ids)), differs if mask is None else mask, settings)


def _with_subject(tokens: Tokens, mask: Bool[np.ndarray, " token"] | None, other: str) -> str:
    """The prompt's text with every span of the subject replaced."""
    if mask is None:
        raise CorruptionError("Replace(subjects=...) needs a subject to replace")
    edges = np.flatnonzero(np.diff(np.concatenate([[0], mask.astype(np.int8), [0]])))
    text = tokens.text
    for start, stop in reversed(edges.reshape(-1, 2).tolist()):
        first, last = int(tokens.starts[start]), int(tokens.ends[stop - 1])
        span = text[first:last]
        kept = span[: len(span) - len(span.lstrip())]  # the space that a token brings along
        text = text[:first] + kept + other.strip() + text[last:]
    return text


def _refuse_other_length(tokens: Tokens, other: Tokens) -> None:
    if len(other) == len(tokens):
        return
    ours, theirs = list(tokens.labels), list(other.labels)
    for _ in range(2):  # drop what both begin with, then, turned round, what both end with
        while ours and theirs and ours[0] == theirs[0]:
            del ours[0], theirs[0]
        ours.reverse()
        theirs.reverse()
    raise CorruptionError(
        f"the replacement has {len(other)} tokens, the prompt {len(tokens)}; they must be as many."
        f" Where they differ: {_some(theirs)} against {_some(ours)}"
    )


def _some(labels: list[str]) -> str:
    more = " …" if len(labels) > 12 else ""
    return f"{len(labels)} ({' '.join(labels[:12])}{more})"
