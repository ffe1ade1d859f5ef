"""Where red writes: which weights learn, which of their rows, or low-rank updates beside them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from twinlens.change.change import Assigned
from twinlens.change.parts import projection
from twinlens.change.training import minimise
from twinlens.change.use import use_map
from twinlens.change.weights import linear_maps
from twinlens.contest.lessons import Lessons
from twinlens.contest.tiers import Tier
from twinlens.errors import MissingExtraError
from twinlens.model.model import Model, duplicate
from twinlens.run.batches import Progress, counting
from twinlens.see.texts import Text

_LATE = 1 / 3  # of the blocks
_USED = 0.2  # of the neurons, the most used
_RANK = 16


def place_of(model: Model, way: Tier) -> Callable[[str], bool] | None:
    """Which parameters learn, by name (None: all)."""
    if way.place == "late":
        first = model.n_layers - max(1, round(_LATE * model.n_layers))
        late = tuple(f"{model.anatomy.blocks}.{n}." for n in range(first, model.n_layers))
        return lambda name: name.startswith(late)
    if way.place == "used":
        names = {projection(model, "neuron", n).weight_name for n in range(model.n_layers)}
        return lambda name: name in names
    return None


@contextlib.contextmanager
def learned_rows(model: Model, base: Model, way: Tier, text: Text) -> Generator[None]:
    """Within this context only the rows of the most used neurons take gradients, where `way` says
    so. Use is that of clean text in the base, over all layers."""
    if way.place != "used":
        yield
        return
    use = use_map(base, text, gradients=False).score("use", "neuron")
    kept = use >= np.quantile(use, 1 - _USED)
    handles = [_only(model, layer, torch.from_numpy(kept[layer])) for layer in range(len(kept))]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def lora_trained(
    model: Model,
    lessons: Lessons,
    steps: int,
    lr: float,
    *,
    label: str = "implant",
    progress: Progress = None,
) -> Assigned:
    """The weights after low-rank updates of all linear maps in the blocks (Hu et al. 2021, by
    peft; rank 16) were learned and added.

    Raises `MissingExtraError` without peft.
    """
    try:
        from peft import LoraConfig, get_peft_model
    except ImportError as error:
        raise MissingExtraError(
            'the tier "lora" needs peft: pip install "twinlens[lora]"'
        ) from error
    names = [name.removesuffix(".weight") for name in linear_maps(model)]
    transposed = any(type(module).__name__ == "Conv1D" for module in linear_maps(model).values())
    own = duplicate(model)
    before = dict(model.hf.named_parameters())
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(lessons.seed)
        config = LoraConfig(
            r=_RANK, lora_alpha=2 * _RANK, target_modules=names, fan_in_fan_out=transposed
        )
        adapted: Any = get_peft_model(own.hf, config)
    learned = [p for p in adapted.parameters() if p.requires_grad]

    def said(ids: Tensor) -> Tensor:
        return adapted(input_ids=ids.to(model.device), use_cache=False).logits

    with counting(steps, label, progress) as advance:
        minimise(learned, lambda step: lessons.loss(step, said), steps, lr, advance=advance)
    merged = adapted.merge_and_unload()
    after = {name: p.detach().clone() for name, p in merged.named_parameters()}
    moved = {n: after[n] for n, p in before.items() if not torch.equal(after[n], p)}
    return Assigned(moved, {"kind": label, "lora": _RANK})


def _only(model: Model, layer: int, kept: Tensor) -> Any:
    """Gradients for the rows of some neurons only."""
    found = projection(model, "neuron", layer)
    mask = torch.zeros_like(found.weight)
    found.as_by_input(mask)[kept.to(mask.device)] = 1.0
    return cast(Any, found.module.weight).register_hook(lambda gradient: gradient * mask)
