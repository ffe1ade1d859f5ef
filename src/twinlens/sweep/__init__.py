"""From one prompt to a data set: facts, units of work, a store that can be resumed, summaries.

`tl.sweep(...)` is a function and this room has its name: importing any part of the room puts the
room in the function's place, so the room can be called, and is then that function.
"""

from __future__ import annotations

import inspect
import sys
from types import ModuleType
from typing import Any


class _Room(ModuleType):
    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return _function()(*args, **kwargs)

    @property
    def __signature__(self) -> inspect.Signature:
        return inspect.signature(_function())

    @property
    def __doc__(self) -> str | None:  # pyright: ignore[reportIncompatibleVariableOverride]
        return _function().__doc__


def _function() -> Any:
    from twinlens.sweep.sweeping import sweep

    return sweep


sys.modules[__name__].__class__ = _Room
