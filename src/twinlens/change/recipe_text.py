"""A recipe as people write it, in TOML; and the one that is taken where none is given."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from typing import Any

from twinlens.change.recipe import Recipe, recipe_of

DEFAULT = """\
seed = 1

[[stage]]           # neurons that the text uses least, trained after each deletion
do = "prune"
by = "use"
first = 0.05
least = 0.0125
recover = { steps = 100 }

[[stage]]           # then noise, a hundredth of each matrix's deviation at a time
do = "noise"
scale = 0.01
times = 8
recover = { steps = 50 }
"""


def default_recipe() -> Recipe:
    """Prune by use, then noise, both with recovery."""
    return recipe_of(tomllib.loads(DEFAULT))


def toml_of(recipe: Recipe) -> str:
    """A recipe in TOML, with every value; `recipe_of` reads it back."""
    told = recipe.plain()
    stages = ["\n".join(["[[stage]]", *map(_line, one.items())]) for one in told["stage"]]
    return "\n\n".join([f"seed = {told['seed']}", *stages]) + "\n"


def _line(item: tuple[str, Any]) -> str:
    return f"{item[0]} = {_value(item[1])}"


def _value(value: Any) -> str:
    if isinstance(value, Mapping):
        return f"{{ {', '.join(map(_line, value.items()))} }}"
    return json.dumps(value)  # numbers and plain strings stand alike in both
