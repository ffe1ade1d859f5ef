"""Weights of a checkpoint that its model does not take: blocks that its config.json leaves out."""

from __future__ import annotations

import re
import warnings
from collections.abc import Collection
from typing import Any

from twinlens.errors import LoadError

_MASKS = re.compile(r"(attn|attention)\.(masked_)?bias$")  # buffers of old checkpoints
# by what a configuration tells of blocks that guess ahead, which are left out
_MORE = ("num_nextn_predict_layers", "num_mtp_layers", "num_mtp_modules")
_SHOWN = 3


def refuse_unused(
    keys: Collection[str], blocks: str, n_layers: int, config: Any, name: str
) -> None:
    """Raise `LoadError` where the checkpoint has more than the model's `n_layers` blocks, whose
    path is `blocks`: it would be another, shorter model. What else is not used is a warning.

    `keys`: what transformers found no place for, less what the family ignores by design.
    """
    keys = sorted(key for key in keys if not _MASKS.search(key))
    stands = blocks.partition(".")[2] or blocks  # a checkpoint may be that of the base model
    within = re.compile(rf"(?:{re.escape(blocks)}|{re.escape(stands)})\.(\d+)\.")
    ahead = max(int(getattr(config, more, 0) or 0) for more in _MORE)
    numbers = {key: int(found[1]) for key in keys if (found := within.match(key))}
    if beyond := [key for key, number in numbers.items() if number >= n_layers + ahead]:
        last = max(numbers.values())
        raise LoadError(
            f"the checkpoint {name!r} has {last + 1} blocks ({_some(beyond)}), its config.json says"
            f" {n_layers}: it would be a shorter model; set the number there to {last + 1}"
        )
    left = [key for key in keys if key not in numbers or numbers[key] < n_layers]
    if left:
        warnings.warn(
            f"{name}: the model has no place for some weights of its checkpoint: {_some(left)}",
            stacklevel=3,
        )


def _some(keys: list[str]) -> str:
    more = f" and {len(keys) - _SHOWN} more" if len(keys) > _SHOWN else ""
    return ", ".join(keys[:_SHOWN]) + more
