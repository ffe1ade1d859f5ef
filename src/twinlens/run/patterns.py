"""Attention patterns of every block, whatever attention implementation the model was loaded with.

Fast attention (sdpa, flash) never makes the weights. So for one pass the blocks are given another
attention function: the family's own plain one, a strip of queries at a time. A strip's weights are
handed to a function that keeps what it wants of them, and are dropped.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Generator
from contextvars import ContextVar
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from twinlens.errors import AnatomyError
from twinlens.model.model import Model

_NAME = "twinlens_patterns"  # under which transformers knows our attention function
_STRIP_NUMBERS = 2**24  # attention weights that exist at once: 64 MiB in float32


class Strip(NamedTuple):
    """What one block's heads attend to, for a slice of the queries.

    `weights` sum to one over the keys. `values` are shared by groups of heads: head h reads those
    of group `h // (heads / groups)`.
    """

    layer: int
    queries: slice
    weights: Float[Tensor, "row head query key"]
    values: Float[Tensor, "row group key width"]

    def values_of(self, head: int) -> Float[Tensor, "row key width"]:
        """The value vectors that a head reads."""
        return self.values[:, head * self.values.shape[1] // self.weights.shape[1]]


Keep = Callable[[Strip], None]


def watch_patterns(
    model: Model, ids: Int[Tensor, "row token"], keep: Keep, *, numbers: int = _STRIP_NUMBERS
) -> None:
    """Run the model once and hand the attention of each block to `keep`, strip by strip.

    Blocks come in order, and queries in order within a block. At most `numbers` weights exist at
    once, or one query of all rows and heads. The model is left as it was, whatever happens. Raises
    `AnatomyError` where a block's attention does not go through transformers' attention functions.
    """
    watcher = _Watcher(model, keep, numbers)
    token = _WATCHER.set(watcher)
    try:
        with torch.no_grad(), _switched(model):
            model.hf(input_ids=ids.to(model.device), use_cache=False, **model.last_logits_only)
    finally:
        _WATCHER.reset(token)
    unseen = [layer for layer in range(model.n_layers) if layer not in watcher.seen]
    if unseen:
        raise AnatomyError(
            f"{model.name}: the attention of block {unseen[0]} does not go through transformers'"
            " attention functions, so its weights cannot be seen"
        )


class _Watcher:
    """The attention function of one pass."""

    def __init__(self, model: Model, keep: Keep, numbers: int) -> None:
        self.name, self.keep, self.numbers = model.name, keep, numbers
        self.seen: set[int] = set()
        self._layers = {
            id(module): layer
            for layer, block in enumerate(model.blocks)
            for module in block.modules()
        }

    def attend(
        self, module: nn.Module, query: Tensor, key: Tensor, value: Tensor, mask: Any, given: Any
    ) -> Tensor:
        """The block's attention output `[row, query, head, width]`, made strip by strip."""
        plain, layer = self._plain_attention(module), self._layers.get(id(module))
        rows, heads, n_queries, _ = query.shape
        size = max(1, self.numbers // (rows * heads * key.shape[2]))
        outputs: list[Tensor] = []
        for start in range(0, n_queries, size):
            at = slice(start, min(start + size, n_queries))
            masked = None if mask is None else mask[:, :, at, : key.shape[2]]
            output, weights = plain(module, query[:, :, at], key, value, masked, **given)
            outputs.append(output)
            if layer is not None:
                self.seen.add(layer)
                self.keep(Strip(layer, at, weights, value))
        return torch.cat(outputs, dim=1)

    def _plain_attention(self, module: nn.Module) -> Callable[..., tuple[Tensor, Tensor]]:
        """The family's own function that makes the weights; it stands beside its attention."""
        for cls in type(module).__mro__:
            home = sys.modules.get(cls.__module__)
            if (found := getattr(home, "eager_attention_forward", None)) is not None:
                return found
        raise AnatomyError(
            f"{self.name}: {type(module).__name__} has no plain attention function"
            " (eager_attention_forward) beside it, so its weights cannot be seen"
        )


_WATCHER: ContextVar[_Watcher] = ContextVar("_WATCHER")


def _attend(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Any, **given: Any
) -> tuple[Tensor, None]:
    return _WATCHER.get().attend(module, query, key, value, attention_mask, given), None


@contextlib.contextmanager
def _switched(model: Model) -> Generator[None]:
    """Within this context the model's blocks attend by our function, with whole masks."""
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import eager_mask

    AttentionInterface.register(_NAME, _attend)
    AttentionMaskInterface.register(_NAME, eager_mask)
    configs: list[Any] = [getattr(module, "config", None) for module in model.hf.modules()]
    unique = {id(c): c for c in configs if hasattr(c, "_attn_implementation")}
    before = [(config, config._attn_implementation) for config in unique.values()]
    try:
        for config, _ in before:
            config._attn_implementation = _NAME
        yield
    finally:
        for config, implementation in before:  # a parent's also sets those of its parts
            config._attn_implementation = implementation
