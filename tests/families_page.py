"""docs/families.md, from what a test run found in the models of the table."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from transformers import AutoConfig

import twinlens as tl
from tests.conftest import random_model
from tests.families_ import ABSENT, REFUSED, TABLE
from tests.hybrids_ import UNREAD
from twinlens.errors import AnatomyError, LoadError
from twinlens.see.units import widths_of

_WHY = re.compile(
    r"engine: hooks, since the replay does not serve here \((?:\w+Error: \w+: )?(.*)\)"
)
PAGE = Path(__file__).parents[1] / "docs" / "families.md"

_HEAD = """# Families

Every row is a tiny model of random weights, of a configuration with the traits that are told
here, in which a test run found what the row says. In each of them the last row of the lens is the
model's own logits; a trace by the engine of `auto` is that of whole passes with hooks; the one
corrupted state put back brings the whole answer back, unless more than the residual enters the
blocks, which a note then tells; a block and a neuron put back, and a neuron, a head, an attention
or an MLP silenced, have the effect that hooks or zeroed weights written by hand have. In every
layer the largest effect compared is at least a hundred times the difference allowed: 1e-3 and 1e-5
in logits. Numbers below are those of the tiny model. Written by
`pytest tests/model/test_families.py --write-families`; each run compares it with what it finds.

`attn`, `mlp`: what each sub-block adds is found; in hybrids `attn` is whatever mixes tokens.
*Engine*: what the default, `engine="auto"`, ran for a trace of blocks, for one of windows of two
attentions and of two MLPs, for one of heads, and for neurons, where they are found, as the results'
settings tell: one word where it was the same for all. `replay` is the fast one, `hooks` the plain
one, with the number of the reason. A family that is not in the table is found by its structure, and
`twinlens check MODEL` proves it by numbers.

"""
_COLUMNS = (
    "family",
    "model type",
    "special",
    "sub-blocks",
    "heads",
    "neurons of a block",
    "engine",
)
_TRACES = {"blocks": ("block",), "windows": ("attn", "mlp"), "heads": ("head",),
           "neurons": ("neuron",)}  # fmt: skip

_REASONS = """
## Where the replay does not serve

"""
_EXPERTS = """
## Experts

The neurons of a block with experts are named by expert: `3.E2.N17` is neuron 17 of expert 2 in
block 3, `3.S.N17` one of the shared experts, which every token passes. The value of a neuron of
an expert is its activation times the weight that the router gives the expert at that token, and
nothing where the expert is not chosen: so all experts together are one linear map of their
neurons. The value of a shared one is its activation. `tl.neuron_trace`, `tl.neuron_card`,
`twinlens neuron MODEL 3.E2.N17` and `tl.Silence("3.E2.N17")` take and give these names.
`tl.silence(..., to="mean")`, use maps, edits and shrinking are refused for experts with a
sentence that says why, and so is `method="relp"`.

## Refused

"""


class Engine(NamedTuple):
    """Which engine a result's settings tell, and what its notes tell."""

    used: str
    notes: Sequence[str]

    @property
    def why_hooks(self) -> str:
        """Why the replay did not serve, as the result tells; empty where it did."""
        told = (_WHY.search(note) for note in self.notes)
        return next((found[1] for found in told if found), "")


def page(rows: Sequence[str], reasons: Sequence[str], refused: Sequence[str]) -> str:
    """The page of some rows, as `row_of` makes them, and of the types that are refused."""
    why = "".join(f"{number}. {reason}.\n" for number, reason in enumerate(reasons, start=1))
    top = f"| {' | '.join(_COLUMNS)} |\n{'|---' * len(_COLUMNS)}|\n"
    return _HEAD + top + "".join(rows) + (_REASONS + why) * bool(why) + _EXPERTS + "".join(refused)


def row_of(name: str, model: tl.Model, engines: Mapping[str, Engine], reasons: list[str]) -> str:
    """What was found in one model; why the replay did not serve is put to the `reasons`."""
    entry = TABLE[name]
    found = ", ".join(kind for kind in ("attn", "mlp") if model.anatomy.has(kind)) or "not found"
    heads = str(model.n_heads) if model.anatomy.has("head") else "not found"
    cells = (name, f"`{entry.model_type}`", entry.special, found, heads, _neurons(model))
    ran = {
        what: _ran([engines[kind] for kind in kinds if kind in engines], reasons)
        for what, kinds in _TRACES.items()
    }
    ran = {what: engine for what, engine in ran.items() if engine}
    alike = len(set(ran.values())) == 1
    told = ran["blocks"] if alike else "; ".join(f"{what}: {how}" for what, how in ran.items())
    return f"| {' | '.join((*cells, told))} |\n"


def _ran(engines: Sequence[Engine], reasons: list[str]) -> str:
    """`replay`, `hooks (1)`, both where they differ; empty where there is no such trace."""
    told: list[str] = []
    for engine in engines:
        why = engine.why_hooks
        assert (engine.used == "hooks") == bool(why), engine
        if why and why not in reasons:
            reasons.append(why)
        told.append(f"{engine.used} ({reasons.index(why) + 1})" if why else engine.used)
    return ", ".join(dict.fromkeys(told))


def refused_folder(name: str, folder: Path) -> Path:
    """A folder with the configuration of a type that is refused."""
    model_type, settings = REFUSED[name]
    AutoConfig.for_model(model_type, **settings).save_pretrained(folder)
    return folder


def refusals(folder: Path, tokenizer: Any) -> list[str]:
    """What is said of each type that is refused, and of what transformers does not have."""
    told: list[str] = []
    for name in REFUSED:
        try:
            tl.load(refused_folder(name, folder / name), tokenizer=tokenizer)
        except LoadError as error:
            told.append(f"- `{name}`: {error}.\n")
    for name in UNREAD:
        try:
            tl.load(random_model(name, tokenizer), tokenizer=tokenizer)
        except AnatomyError as error:
            told.append(f"- `{name}`: {str(error).removeprefix(f'{name}: ')}.\n")
    told.append("\nNo model types of their own in transformers 5:\n\n")
    return told + [f"- {name}: {why}.\n" for name, why in ABSENT.items()]


def _neurons(model: tl.Model) -> str:
    """`48`, or `48 (1 block); 4 experts x 16 + 16 shared (1 block)`."""
    if not model.anatomy.has("neuron"):
        return "not found"
    told: Counter[str] = Counter()
    for layer, width in enumerate(widths_of(model, "neuron")):
        mixture = model.experts(layer)
        if mixture is None:
            told[str(width)] += 1
        else:
            count, inner, shared = mixture.units
            told[f"{count} experts x {inner}" + (f" + {shared} shared" if shared else "")] += 1
    if len(told) == 1:
        return next(iter(told))
    return "; ".join(f"{what} ({n} of {model.n_layers} blocks)" for what, n in told.items())
