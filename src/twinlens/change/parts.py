"""Names of parts (`3.N17`, `3.E2.N17`, `4.H2`, `5.MLP`, `5.ATTN`) and the weights they write by.

A part writes into the residual through some inputs of one projection: a neuron through one, a head
through as many as it is wide, a sub-block through all. The neurons of experts have weights of
another form (`twinlens.change.experts`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, cast

import numpy as np
from jaxtyping import Float, Int
from torch import Tensor, nn

from twinlens.errors import ChangeError, InputError
from twinlens.model.anatomy import Site
from twinlens.model.model import Model
from twinlens.model.weights import refuse_other_weights
from twinlens.results.units import expert_name, expert_unit

PartKind = Literal["neuron", "head", "mlp", "attn"]
_SIGNS: dict[str, PartKind] = {"N": "neuron", "H": "head", "MLP": "mlp", "ATTN": "attn"}
_NAME = re.compile(
    r"(\d{1,4})\.(?:(?P<unit>[ES]\d*\.N\d+)|(N|H)(\d{1,7})|(MLP|ATTN))", re.IGNORECASE
)


class Part(NamedTuple):
    """A neuron, a head (`number` counts within the layer) or a whole sub-block (0).

    Of a neuron of an expert `number` counts within the expert (`SHARED`: the shared ones).
    """

    kind: PartKind
    layer: int
    number: int = 0
    expert: int | None = None

    @property
    def name(self) -> str:
        """`3.N17`, `3.E2.N17`, `3.S.N17`, `4.H2`, `5.MLP`, `5.ATTN`."""
        if self.expert is not None:
            return f"{self.layer}.{expert_name(self.expert, self.number)}"
        sign = next(sign for sign, kind in _SIGNS.items() if kind == self.kind)
        return f"{self.layer}.{sign}{self.number if self.kind in ('neuron', 'head') else ''}"


@dataclass(frozen=True, eq=False)
class Projection:
    """The linear map by which the neurons of an MLP, or the heads of a layer, write.

    `weight_name` and `bias_name` are names of parameters of `model.hf` (a bias may be missing:
    `bias` is None). `by_input` is the weight, not copied, as `[input, output]`.
    """

    path: str
    module: nn.Module
    transposed: bool  # stored as [output, input], as nn.Linear has it

    @property
    def weight_name(self) -> str:
        """Name of the weight among the model's parameters."""
        return f"{self.path}.weight"

    @property
    def bias_name(self) -> str:
        """Name of the bias among the model's parameters, whether or not there is one."""
        return f"{self.path}.bias"

    @property
    def weight(self) -> Tensor:
        """The parameter as it is stored."""
        return cast(Tensor, self.module.weight).detach()

    @property
    def bias(self) -> Tensor | None:
        """The bias, where there is one."""
        found = cast("Tensor | None", self.module.bias)
        return None if found is None else found.detach()

    @property
    def by_input(self) -> Float[Tensor, "input output"]:
        """The weight seen as `[input, output]`; the same memory."""
        return self.as_by_input(self.weight)

    def as_by_input(self, weight: Tensor) -> Float[Tensor, "input output"]:
        """A tensor that is stored as the weight is, seen as `[input, output]`; the same memory."""
        return weight.T if self.transposed else weight


def part_of(text: str) -> Part:
    """`3.N17` (neuron 17 of block 3), `3.E2.N17` (of its expert 2), `3.S.N17` (of its shared
    experts), `4.H2` (head), `5.MLP`, `5.ATTN`.

    Raises `InputError` for anything else.
    """
    found = _NAME.fullmatch(text.strip())
    unit = expert_unit(found["unit"]) if found and found["unit"] else None
    if not found or (found["unit"] and unit is None):
        raise InputError(
            f"{text!r} is no part of a model; expected LAYER.N17 (a neuron; LAYER.E2.N17 of an"
            " expert), LAYER.H2 (a head), LAYER.MLP or LAYER.ATTN, e.g. 3.N17"
        )
    layer, _, sign, number, whole = found.groups()
    if unit is not None:
        return Part("neuron", int(layer), number=unit[1], expert=unit[0])
    return Part(_SIGNS[(sign or whole).upper()], int(layer), int(number or 0))


def parts_of(texts: Iterable[str | Part]) -> tuple[Part, ...]:
    """Several parts, each once, in the order given; each text may hold several with commas."""
    found: list[Part] = []
    for text in texts:
        found += [text] if isinstance(text, Part) else map(part_of, text.split(","))
    return tuple(dict.fromkeys(found))


def refuse_missing(model: Model, parts: Sequence[Part]) -> None:
    """Raise `InputError` for a part that the model does not have."""
    for part in parts:
        if part.layer >= model.n_layers:
            raise InputError(
                f"{part.name}: {model.name} has layers 0 to {model.n_layers - 1}, no {part.layer}"
            )
        if part.kind == "neuron":
            mixture = model.experts(part.layer)
            if (mixture is None) != (part.expert is None):
                has = "no experts" if mixture is None else mixture.units.range
                raise InputError(f"{part.name}: block {part.layer} of {model.name} has {has}")
            if mixture is not None and part.expert is not None:
                if mixture.units.number(part.expert, part.number) is None:
                    raise InputError(
                        f"{part.name}: block {part.layer} of {model.name} has {mixture.units.range}"
                    )
                continue
        count = n_parts(model, part.kind, part.layer)
        if part.number >= count:
            raise InputError(
                f"{part.name}: block {part.layer} of {model.name} has {part.kind}s 0 to {count - 1}"
            )


def n_parts(model: Model, kind: PartKind, layer: int) -> int:
    """How many parts of a kind a layer has."""
    if kind in ("mlp", "attn"):
        return 1
    return model.n_heads if kind == "head" else projection(model, kind, layer).by_input.shape[0]


def projection(model: Model, kind: PartKind, layer: int) -> Projection:
    """The projection by which parts of this kind write in a layer.

    Raises `ChangeError` where the model has none that is a plain linear map.
    """
    site = Site("neuron" if kind in ("neuron", "mlp") else "head", layer)
    if not model.anatomy.has(site.kind):
        raise ChangeError(f"{model.name}: the family {model.anatomy.family!r} has no {site.kind}s")
    if site.kind == "neuron" and model.experts(layer) is not None:
        raise ChangeError(
            f"{model.name}: block {layer} has experts, no one projection by which its neurons"
            " write; its neurons (3.E2.N17) and the whole (3.MLP) can be silenced to='zero'"
        )
    path = model.anatomy.path(site)
    module = model.module(path)
    refuse_other_weights(model.name, path, module)
    if isinstance(module, nn.Linear):
        return Projection(path, module, transposed=True)
    if type(module).__name__ == "Conv1D":
        return Projection(path, module, transposed=False)
    raise ChangeError(
        f"{model.name}: {path} is a {type(module).__name__}; only plain linear projections can be"
        " changed part by part"
    )


def inputs_of(model: Model, part: Part) -> Int[np.ndarray, " input"]:
    """Which inputs of its projection belong to a part."""
    width = projection(model, part.kind, part.layer).by_input.shape[0]
    if part.kind in ("mlp", "attn"):
        return np.arange(width)
    size = model.unit_size("head" if part.kind == "head" else "neuron", width)
    return np.arange(part.number * size, (part.number + 1) * size)
