"""docs/families.md, from what a test run found in the models of the table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from transformers import AutoConfig

import twinlens as tl
from tests.families_ import ABSENT, REFUSED, TABLE
from twinlens.errors import LoadError
from twinlens.see.units import widths_of

PAGE = Path(__file__).parents[1] / "docs" / "families.md"

_HEAD = """# Families

Every row is a tiny model of random weights, of a configuration with the traits that are told
here, in which a test run found what the row says. In each of them the last row of the lens is the
model's own logits; a trace by the replay is that of whole passes with hooks; the one corrupted
state put back brings the whole answer back; a neuron put back, and a neuron, a head or an MLP
silenced, have the effect that hooks or zeroed weights written by hand have. Numbers below are
those of the tiny model. Written by `pytest tests/model/test_families.py --write-families`; each
run compares it with what it finds.

`attn`, `mlp`: what each sub-block adds is found. *Engine*: `replay` is the fast one, `hooks` the
plain one, with the reason. A family that is not in the table is found by its structure, and
`twinlens check MODEL` proves it by numbers.

| family | model type | special | sub-blocks | heads | neurons of a block | engine |
|---|---|---|---|---|---|---|
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


def page(rows: Sequence[str], refused: Sequence[str]) -> str:
    """The page of some rows, as `row_of` makes them, and of the types that are refused."""
    return _HEAD + "".join(rows) + _EXPERTS + "".join(refused)


def row_of(name: str, model: tl.Model, why_hooks: str) -> str:
    """What was found in one model."""
    entry = TABLE[name]
    found = ", ".join(kind for kind in ("attn", "mlp") if model.anatomy.has(kind)) or "not found"
    heads = str(model.n_heads) if model.anatomy.has("head") else "not found"
    engine = f"hooks: {why_hooks}" if why_hooks else "replay"
    cells = (name, f"`{entry.model_type}`", entry.special, found, heads, _neurons(model), engine)
    return f"| {' | '.join(cells)} |\n"


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
