"""Two models beside each other: how far apart their logits are, and how much faster one is."""

from __future__ import annotations

import statistics
import time
from typing import NamedTuple

import torch
from jaxtyping import Int
from torch import Tensor

from twinlens.errors import ChangeError
from twinlens.model.model import Model
from twinlens.see.question import whole
from twinlens.see.texts import Text, Windows, joined, windows


class Gap(NamedTuple):
    """The largest difference between two models' logits, the largest logit, and over how many
    tokens."""

    difference: float
    largest: float
    n_tokens: int


class Speed(NamedTuple):
    """How many times faster the second model is: the median over pairs of passes, and the lower
    and upper quartile."""

    ratio: float
    low: float
    high: float
    pairs: int


def logit_gap(
    model: Model, other: Model, text: Text, *, length: int = 128, limit: int = 2048
) -> Gap:
    """How far apart are two models' logits on the first windows of a text?

    Windows of `length` tokens, at most `limit` tokens and at least one window. Raises `ChangeError`
    where the models have not as many logits.
    """
    whole("limit", limit)
    every, chosen = joined(windows(model, text, length)).ids, []
    for window in every:
        if chosen and sum(map(len, chosen)) + len(window) > limit:
            break
        chosen.append(window)
    difference = largest = 0.0
    read = Windows(tuple(chosen))
    for number in range(len(read)):
        ids = read.batch([number]).ids
        one, two = (_logits(each, ids) for each in (model, other))
        if one.shape != two.shape:
            raise ChangeError(f"{model.name} and {other.name} have not as many logits")
        difference = max(difference, float((one - two).abs().max()))
        largest = max(largest, float(one.abs().max()))
    return Gap(difference, largest, read.n_tokens)


def speed_ratio(
    model: Model, other: Model, *, rows: int = 4, length: int = 128, pairs: int = 15
) -> Speed:
    """How many times faster is a plain pass of `other` than one of `model`?

    Passes over `rows` random prompts of `length` tokens (at most what the models read), in pairs
    in turn, each pair's order the other way round; one pass of each goes before.
    """
    for name, number in (("rows", rows), ("length", length), ("pairs", pairs)):
        whole(name, number)
    longest = min([length, *(each.context for each in (model, other) if each.context)])
    random = torch.Generator().manual_seed(1)
    most = min(model.n_embeddings, other.n_embeddings)
    ids = torch.randint(0, most, (rows, longest), generator=random)
    for each in (model, other):
        _seconds(each, ids)
    ratios = list[float]()
    for number in range(pairs):
        order = (model, other) if number % 2 else (other, model)
        took = {id(each): _seconds(each, ids) for each in order}
        ratios.append(took[id(model)] / took[id(other)])
    low, middle, high = (
        statistics.quantiles(ratios, n=4, method="inclusive") if pairs > 1 else ratios * 3
    )
    return Speed(middle, low, high, pairs)


def _logits(model: Model, ids: Int[Tensor, "row token"]) -> Tensor:
    with torch.no_grad():
        return model.hf(input_ids=ids.to(model.device), use_cache=False).logits.float().cpu()


def _seconds(model: Model, ids: Int[Tensor, "row token"]) -> float:
    _wait(model)
    start = time.perf_counter()
    with torch.no_grad():
        model.hf(input_ids=ids.to(model.device), use_cache=False, **model.last_logits_only)
    _wait(model)
    return time.perf_counter() - start


def _wait(model: Model) -> None:
    if model.device.type == "cuda":
        torch.cuda.synchronize(model.device)
