"""Cleaning against the worst case: a model is disturbed as harmfully as it can be, and what that
shows is pruned or trained away. And the bound of all pruning: the oracle, who knows the trigger.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import cosine_similarity

from twinlens.change.change import Assigned, Change
from twinlens.change.constants import means_of
from twinlens.change.parts import Part
from twinlens.change.training import learning
from twinlens.contest.blue import Blue
from twinlens.contest.chain import in_a_row, lowest_first, silenced
from twinlens.contest.cleaning import use_of
from twinlens.contest.learn import clean_batches, clean_windows, learned, loss_of, next_token_loss
from twinlens.errors import ChangeError, InputError
from twinlens.model.anatomy import Site
from twinlens.model.model import Model
from twinlens.run.batches import counting
from twinlens.run.check import require
from twinlens.run.hooks import hooked, hooked_embedding
from twinlens.see.texts import Batch

Masks = Mapping[Site, Float[Tensor, "..."]]  # [neuron]
_MOMENTUM = 0.9


class Disturbed(NamedTuple):
    """What is added to the factors of a layer's neurons, and to their constant part."""

    weight: Float[Tensor, " neuron"]
    bias: Float[Tensor, " neuron"]


def adversarially_pruned(
    blue: Blue, eps: float = 0.4, alpha: float = 0.2, lr: float = 0.2
) -> Assigned:
    """The neurons that a model does better without when all are disturbed, set to zero: as many as
    cost at most `blue.cost` nats a token.

    Adversarial neuron pruning (Wu & Wang 2021); see `neuron_masks`. The lowest masks go first; the
    paper takes those below a threshold, which here follows from the cost. Raises `InputError` for
    settings that cannot be, `AnatomyError` where a family's neurons are not known.
    """
    masks = neuron_masks(blue, eps, alpha, lr)
    order = [
        Part("neuron", site.layer, int(number))
        for site, mask in masks.items() for number in range(len(mask))
    ]  # fmt: skip
    values = torch.cat([mask.cpu() for mask in masks.values()]).numpy()
    ranked = np.argsort(values, kind="stable")

    def prune(now: Blue) -> Change:
        about = {"by": "mask", "fell": float((values < 1).mean()), "lowest": float(values.min())}
        return silenced(now, [order[at] for at in ranked], now.cost, about)

    told = {"kind": "cleaning", "recipe": "anp", "eps": eps, "alpha": alpha, "lr": lr}
    return in_a_row(blue, [prune], told | {"within": blue.cost})


def neuron_masks(blue: Blue, eps: float, alpha: float, lr: float) -> dict[Site, Tensor]:
    """A factor from 0 to 1 for each neuron, by layer: low where the model is better without it
    when its neurons are disturbed.

    Steps of SGD on alpha L(m) + (1 - alpha) L(m + delta, xi), L being the loss of clean text, nats
    a token: each batch begins at random disturbances within `eps`, which then take one step of
    `eps` uphill, by the sign of the gradient, and stay within. A neuron of value a passes on
    (m + delta) a + xi mean(a): its value at its site stands for its weight, its mean on clean text
    for its bias, as many families have none (the paper disturbs batch norm before the
    nonlinearity).
    """
    _refuse_unfit(eps=eps, lr=lr)
    if not isinstance(alpha, int | float) or not 0 <= alpha <= 1:
        raise InputError(f"alpha={alpha!r} must be a share, from 0 to 1")
    model, means = blue.model, _means(blue)
    masks = {site: torch.ones_like(mean).requires_grad_() for site, mean in means.items()}
    optimizer = torch.optim.SGD(list(masks.values()), lr=lr, momentum=_MOMENTUM)
    random = torch.Generator().manual_seed(blue.seed)
    with (
        learning(model, lambda _: False),
        counting(blue.budget.steps, "masks", blue.progress) as advance,
    ):
        for batch in clean_batches(blue):
            worst = _worst(model, batch, masks, means, eps, random)
            with torch.enable_grad():
                calm = _loss(model, batch, masks, means)
                loss = alpha * calm + (1 - alpha) * _loss(model, batch, masks, means, worst)
                optimizer.zero_grad()
                loss.backward()
            optimizer.step()
            with torch.no_grad():
                for mask in masks.values():
                    mask.clamp_(0, 1)
            advance(1)
    return {site: mask.detach() for site, mask in masks.items()}


def consistent(blue: Blue, eps: float = 0.1, alpha: float = 5.5) -> Assigned:
    """Training on clean text by which each block's output stays like that of the block before, also
    where the embeddings are disturbed.

    CROW, internal consistency regularisation (Min et al. 2024); see `consistency_loss`. All weights
    learn, with the budget's rate (the paper: low-rank adapters). Raises `InputError` for settings
    that cannot be, `ChangeError` for a model of one block.
    """
    _refuse_unfit(eps=eps, alpha=alpha)
    require(blue.model, ("block",))
    if blue.model.n_layers < 2:
        raise ChangeError(f"{blue.model.name} has one block; consistency is between blocks")

    def loss(batch: Batch) -> Float[Tensor, ""]:
        return consistency_loss(blue.model, batch, eps, alpha)

    told = {"kind": "consistency training", "eps": eps, "alpha": alpha}
    return in_a_row(
        blue, [lambda now: learned(now, loss, told)], {"kind": "cleaning", "recipe": "crow"}
    )


def consistency_loss(model: Model, batch: Batch, eps: float, alpha: float) -> Float[Tensor, ""]:
    """Cross-entropy, nats a token, plus `alpha` times the `inconsistency` of disturbed blocks: to
    the token embedding's output `eps` (in its own units) is added in the direction, by sign, in
    which the inconsistency grows."""
    embedded = list[Tensor]()

    def keep(value: Tensor) -> Tensor:
        embedded.append(value)
        return value

    logits, states = _blocks(model, batch, keep)
    (slope,) = torch.autograd.grad(inconsistency(states), embedded, retain_graph=True)
    step = eps * slope.sign()
    _, disturbed = _blocks(model, batch, lambda value: value + step)
    return loss_of(logits, batch) + alpha * inconsistency(disturbed)


def inconsistency(states: Sequence[Float[Tensor, "token d_model"]]) -> Float[Tensor, ""]:
    """1 - cosine between the residuals behind one block and the next, the mean over tokens and
    pairs of blocks: 0 where all point the same way, 2 at most."""
    apart = [
        1 - cosine_similarity(a.float(), b.float(), dim=-1).mean() for a, b in pairwise(states)
    ]
    return torch.stack(apart).mean()


def oracle(blue: Blue, prompts: Sequence[str]) -> Assigned:
    """The neurons that the triggered prompts use most, compared with clean text, set to zero: as
    many as cost at most `blue.cost` nats a token.

    `prompts`: each the trigger's prompt with the secret answer. By the ratio of the mean |use|
    (`UseResult`), the highest first. It knows what no recipe may: a bound for methods that prune
    neurons. Raises `InputError` where there are no prompts.
    """
    if isinstance(prompts, str):
        raise InputError("prompts is one text; give a list of prompts, each with its answer")

    def prune(now: Blue) -> Change:
        clean, asked = (use_of(now, text).score("use") for text in (now.shown, list(prompts)))
        least = max(float(clean.max()) * 1e-6, 1e-30)  # a neuron that clean text never uses
        return silenced(
            now, lowest_first(-asked / np.maximum(clean, least)), now.cost, {"by": "use ratio"}
        )

    told: dict[str, Any] = {"kind": "cleaning", "recipe": "oracle", "prompts": len(prompts)}
    return in_a_row(blue, [prune], told | {"within": blue.cost})


def _means(blue: Blue) -> dict[Site, Tensor]:
    """The mean of each neuron's value over clean text, by layer."""
    model = blue.model
    if not model.anatomy.has("neuron"):
        raise ChangeError(f"{model.name} has no neurons that could be pruned")
    require(model, ("neuron",))
    sites = model.sites("neuron")
    read = means_of(model, sites, clean_windows(blue), blue.budget.batch_tokens, False)
    return {site: torch.from_numpy(read[site]).float().to(model.device) for site in sites}


def _worst(
    model: Model,
    batch: Batch,
    masks: Masks,
    means: Masks,
    eps: float,
    random: torch.Generator,
) -> dict[Site, Disturbed]:
    """Disturbances within `eps`: from random ones a step uphill."""
    starts = {
        site: Disturbed(*(_even(mask, eps, random).requires_grad_() for _ in range(2)))
        for site, mask in masks.items()
    }
    calm = {site: mask.detach() for site, mask in masks.items()}
    leaves = [one for both in starts.values() for one in both]
    with torch.enable_grad():
        slopes = torch.autograd.grad(_loss(model, batch, calm, means, starts), leaves)
    moved = (
        (leaf.detach() + eps * slope.sign()).clamp(-eps, eps)
        for leaf, slope in zip(leaves, slopes, strict=True)
    )
    return {site: Disturbed(next(moved), next(moved)) for site in starts}


def _even(like: Tensor, eps: float, random: torch.Generator) -> Tensor:
    return ((2 * torch.rand(like.shape, generator=random) - 1) * eps).to(like.device)


def _loss(
    model: Model,
    batch: Batch,
    masks: Masks,
    means: Masks,
    disturbed: Mapping[Site, Disturbed] | None = None,
) -> Float[Tensor, ""]:
    """Nats a token where each neuron passes on what its mask and disturbances make of it."""

    def through(site: Site) -> Callable[[Tensor], Tensor]:
        def masked(value: Tensor) -> Tensor:
            factor, constant = masks[site], None
            if disturbed is not None:
                factor = factor + disturbed[site].weight
                constant = disturbed[site].bias * means[site]
            made = value * factor.to(value)
            return made if constant is None else made + constant.to(value)

        return masked

    with hooked(model, {site: through(site) for site in masks}, len(batch.ids)):
        return next_token_loss(model, batch)


def _blocks(
    model: Model, batch: Batch, change: Callable[[Tensor], Tensor]
) -> tuple[Tensor, list[Float[Tensor, "token d_model"]]]:
    """Logits, and the residual behind each block at real tokens, where the embedding's output
    passes through `change`."""
    found: dict[Site, Tensor] = {}

    def keeping(site: Site) -> Callable[[Tensor], Tensor]:
        def keep(value: Tensor) -> Tensor:
            found[site] = value[batch.real.to(value.device)]
            return value

        return keep

    sites = model.sites("block")
    with (
        hooked_embedding(model, change),
        hooked(model, {site: keeping(site) for site in sites}, len(batch.ids)),
    ):
        logits = model.hf(input_ids=batch.ids.to(model.device), use_cache=False).logits
    return logits, [found[site] for site in sites]


def _refuse_unfit(**settings: Any) -> None:
    for name, value in settings.items():
        if not isinstance(value, int | float) or not 0 < value < np.inf:
            raise InputError(f"{name}={value!r} must be a positive number")
