"""What part a token plays in a prompt about a subject, so that different prompts can be averaged.

The roles are those of the ROME paper (Meng et al. 2022, figure 2).
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Shaped

ROLES = (
    "before",
    "first subject",
    "middle subject",
    "last subject",
    "first after",
    "further after",
    "focus",
    "beyond",
)


def roles(mask: Bool[np.ndarray, " token"], focus: int) -> Shaped[np.ndarray, " token"]:
    """The role of every token: one of `ROLES`.

    `mask` marks the subject. With several spans the last one before the focus decides; a subject of
    one token is a `last subject`. The focus is `focus` unless it is part of the subject; tokens
    after it are `beyond`.
    """
    found = np.full(len(mask), "further after", dtype="<U14")
    marked = np.flatnonzero(mask[: focus + 1])
    if len(marked):
        last = int(marked[-1])
        outside = np.flatnonzero(~mask[:last])
        first = int(outside[-1]) + 1 if len(outside) else 0
        found[:first] = "before"
        found[first : last + 1] = "middle subject"
        found[first] = "first subject"
        found[last] = "last subject"
        found[last + 1 : last + 2] = "first after"
    if not mask[focus]:
        found[focus] = "focus"
    found[focus + 1 :] = "beyond"
    return found
