"""Silence parts: what they write becomes nothing, less, or a constant; all of it in the weights.

The one idea: a part writes inputs @ rows of a projection. Rows times `factor` make it write less
(0: nothing); rows of 0 and constants @ rows in the bias make it write what those inputs would,
whatever the prompt.
"""

from __future__ import annotations

import hashlib
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from twinlens.change.change import Values
from twinlens.change.experts import silenced_experts
from twinlens.change.parts import Part, Projection, inputs_of, parts_of, projection, refuse_missing
from twinlens.errors import ChangeError, InputError
from twinlens.model.anatomy import Site
from twinlens.model.model import Model
from twinlens.run.batches import Progress
from twinlens.see.texts import Text

To = Literal["zero", "mean", "resample"]
Constants = Mapping[Site, Float[np.ndarray, "..."]]  # [input], as many as each projection has
"""A value for each input of a projection, by the site that they are the value of."""


@dataclass(frozen=True, eq=False)
class Silence:
    """Parts that go on writing nothing, a fraction, or a constant (a `Change`).

    `parts`: `Part`s or their names, e.g. `["3.N17", "4.H2", "5.MLP"]`; a neuron of an expert is
    `3.E2.N17`; of a whole sub-block the bias goes too. `to`: "zero" leaves `factor` times what each
    part wrote (0: nothing); "mean" and "resample" let it write what `constants` say, whatever the
    prompt: `silence` makes those from a text. A norm between sub-block and residual (Gemma 2,
    OLMo 2) works on what is left. `about` tells where the constants are from.

    Raises `InputError` for what is no part, and for a factor or constants that do not fit `to`.
    """

    parts: Sequence[Part | str] | str
    to: To = "zero"
    factor: float = 0.0
    constants: Constants | None = None
    about: Mapping[str, Any] = field(default_factory=dict[str, Any])

    def __post_init__(self) -> None:
        object.__setattr__(self, "parts", parts_in(self.parts))
        if self.to not in get_args(To):
            raise InputError(
                f"to={self.to!r} is not known; choose one of {', '.join(get_args(To))}"
            )
        if not math.isfinite(self.factor) or (self.factor and self.to != "zero"):
            raise InputError(f"factor={self.factor!r} must be a number, and goes with to='zero'")
        if (self.constants is None) != (self.to == "zero"):
            raise InputError(
                f"to={self.to!r}: constants go with mean and resample; tl.silence(model, parts,"
                " to=..., text=...) makes them from a text"
            )

    @property
    def named(self) -> tuple[Part, ...]:
        """The parts, each once, in the order given."""
        return parts_in(self.parts)

    def values(self, model: Model) -> Values:
        """The changed weights and biases.

        Raises `InputError` for a part that the model does not have, `ChangeError` where the
        constants are not of its shape.
        """
        refuse_missing(model, self.named)
        made: dict[str, Tensor] = {}
        for site, parts in by_site(self.named).items():
            made |= self._of_site(model, site, parts)
        return made

    def plain(self) -> dict[str, Any]:
        """The names of the parts, what they were set to, and the text that said so."""
        told: dict[str, Any] = {"kind": "silence", "parts": [part.name for part in self.named]}
        told |= {"to": self.to, "factor": self.factor, **self.about}
        return told if self.constants is None else told | {"constants": _hash(self.constants)}

    def _of_site(self, model: Model, site: Site, parts: Sequence[Part]) -> dict[str, Tensor]:
        if site.kind == "neuron" and (mixture := model.experts(site.layer)) is not None:
            if self.constants is not None:
                refuse_experts(model, {site: parts}, self.to)
            return silenced_experts(model, mixture, site.layer, parts, self.factor)
        found = projection(model, parts[0].kind, site.layer)
        inputs = np.concatenate([inputs_of(model, part) for part in parts])
        at = torch.from_numpy(np.unique(inputs)).to(found.weight.device)
        weight = found.weight.clone()
        found.as_by_input(weight)[at] *= self.factor
        made = {found.weight_name: weight}
        if self.constants is not None:
            made[found.bias_name] = _bias_with(found, at, _constants(self.constants, site, found))
        elif found.bias is not None and any(part.kind in ("mlp", "attn") for part in parts):
            made[found.bias_name] = found.bias * self.factor
        return made


def silence(
    model: Model,
    parts: Sequence[Part | str] | str,
    *,
    to: To = "zero",
    factor: float = 0.0,
    text: Text | None = None,
    length: int = 128,
    batch_tokens: int = 2048,
    seed: int = 1,
    progress: Progress = None,
) -> Silence:
    """A `Silence` of parts of this model, with the constants that a text gives.

    `to="mean"`: each input's mean over all tokens of `text` (`see.texts`: a file, "hamlet", or
    documents, read in windows of `length` tokens, special tokens included). `to="resample"`: the
    inputs at one of its tokens, drawn by `seed`, the same token for all parts. The text is read
    once, in passes of `batch_tokens`.

    Raises `InputError` for parts that the model does not have, and for a missing or empty text;
    `ChangeError` for constants of neurons of experts, before the text is read.
    """
    named = parts_in(parts)
    refuse_missing(model, named)
    if to == "zero":
        if text is not None:
            raise InputError("a text goes with to='mean' and to='resample'")
        return Silence(named, factor=factor)
    if text is None:
        raise InputError(f"to={to!r} needs a text: text='hamlet', a file, or a list of documents")
    from twinlens.change.constants import constants_of

    sites = by_site(named)
    refuse_experts(model, sites, to)
    constants, about = constants_of(
        model, list(sites), text, to=to, length=length, batch_tokens=batch_tokens,
        seed=seed, progress=progress,
    )  # fmt: skip
    return Silence(named, to, factor, constants, about)


def parts_in(parts: Sequence[Part | str] | str) -> tuple[Part, ...]:
    """The parts of a list, or of one text with commas. Raises `InputError` where there is none."""
    found = parts_of([parts] if isinstance(parts, str | Part) else parts)
    if not found:
        raise InputError("no part to silence; name some, e.g. 3.N17 or 4.H2")
    return found


def by_site(parts: Sequence[Part]) -> dict[Site, list[Part]]:
    """Parts by the site whose value is the input of the projection that they write by."""
    found: dict[Site, list[Part]] = defaultdict(list)
    for part in parts:
        found[Site("neuron" if part.kind in ("neuron", "mlp") else "head", part.layer)].append(part)
    return dict(found)


def refuse_experts(model: Model, parts: Mapping[Site, Sequence[Part]], to: To) -> None:
    """Raise `ChangeError` where neurons of a block with experts would write constants."""
    for site, named in parts.items():
        if site.kind == "neuron" and model.experts(site.layer) is not None:
            raise ChangeError(
                f"{named[0].name}: to={to!r} has no place in the weights of experts, which"
                " write only where they are chosen; to='zero' has"
            )


def _constants(constants: Constants, site: Site, found: Projection) -> Float[np.ndarray, " input"]:
    width = found.by_input.shape[0]
    values = constants.get(site)
    if values is None or values.shape != (width,):
        has = "none" if values is None else f"{values.shape[0]}"
        raise ChangeError(
            f"{found.path} has {width} inputs, the constants for {site.kind}s of layer"
            f" {site.layer} are {has}"
        )
    return values


def _bias_with(
    found: Projection, at: Int[Tensor, " silenced"], values: Float[np.ndarray, " input"]
) -> Float[Tensor, " output"]:
    """The bias, and what the silenced inputs write when they have these values."""
    rows = found.by_input[at].double().cpu()
    written = torch.from_numpy(values).double()[at.cpu()] @ rows
    if found.bias is not None:
        written += found.bias.double().cpu()
    return written.to(found.weight.device, found.weight.dtype)


def _hash(constants: Constants) -> str:
    digest = hashlib.sha256()
    for site in sorted(constants):
        digest.update(f"{site.kind} {site.layer}\n".encode())
        digest.update(np.ascontiguousarray(constants[site], dtype=np.float64).tobytes())
    return digest.hexdigest()
