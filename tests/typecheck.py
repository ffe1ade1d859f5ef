"""The type checker that runs under the tests; a whole number is a float too.

A function within another is made anew by each call of that one, and to make its checker takes
longer than most of them run: checkers of the same annotations are made once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from beartype import BeartypeConf, beartype

_make: Callable[[Any], Any] = beartype(conf=BeartypeConf(is_pep484_tower=True))
_made: dict[Any, Any] = {}


def checked(function: Any) -> Any:
    """The function, which looks at what it is given and gives. jaxtyping hands over functions that
    do nothing else, so what has the same name, annotations and no defaults is the same."""
    if function.__defaults__ or function.__kwdefaults__:
        return _make(function)
    annotations = tuple(function.__annotations__.items())
    key = (function.__module__, function.__qualname__, function.__code__.co_varnames, annotations)
    try:
        if key not in _made:
            _made[key] = _make(function)
        return _made[key]
    except TypeError:  # annotations that cannot be keys
        return _make(function)
