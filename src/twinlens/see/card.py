"""One neuron: which tokens it writes for and against, and where in a prompt it is active."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from twinlens.errors import InputError
from twinlens.model.anatomy import Site
from twinlens.model.model import Model
from twinlens.model.weights import why_not_plain
from twinlens.results import Tokens
from twinlens.results.units import expert_unit, numbering_in, unit_name
from twinlens.run.check import require
from twinlens.run.passes import Inputs, read
from twinlens.see.between import alone_through, between
from twinlens.see.question import encoded, whole
from twinlens.see.units import numbering_of, widths_of

_AT_ONCE = 32  # neurons whose logits are held together


@dataclass(frozen=True, eq=False)
class NeuronCard:
    """What a neuron writes and when.

    `promoted` and `suppressed` are (token id, label, logit), strongest first: the neuron's row of
    the down-projection through final norm and unembedding, as if it were the whole residual.
    `norm` is the length of that row. With a prompt: its `tokens` and the `activations` there.
    `notes` say what stands between the experts of a block and the residual: a constant factor is in
    the logits, a norm is passed by the row alone, a gate that each token sets is left out.
    """

    name: str
    layer: int
    neuron: int
    norm: float
    promoted: tuple[tuple[int, str, float], ...]
    suppressed: tuple[tuple[int, str, float], ...]
    tokens: Tokens | None = None
    activations: Float[np.ndarray, " token"] | None = None
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """The card as plain lists, numbers and strings."""
        keys = ("id", "label", "logit")
        card: dict[str, Any] = {
            "name": self.name, "layer": self.layer, "neuron": self.neuron, "norm": self.norm,
            "notes": list(self.notes),
        }  # fmt: skip
        for name in ("promoted", "suppressed"):
            card[name] = [dict(zip(keys, row, strict=True)) for row in getattr(self, name)]
        if self.tokens is not None and self.activations is not None:
            card["activations"] = [
                {"token": t, "id": int(i), "label": label, "activation": float(a)}
                for t, (i, label, a) in enumerate(
                    zip(self.tokens.ids, self.tokens.labels, self.activations, strict=True)
                )
            ]
        return card


def neuron_card(
    model: Model,
    layer: int,
    neuron: int | str,
    prompt: str | Tokens | None = None,
    *,
    top_k: int = 10,
) -> NeuronCard:
    """What one neuron writes: the tokens it promotes and suppresses, and its activation.

    `neuron` counts the inputs of the down-projection of block `layer`; of a block with experts it
    is named: "E2.N17", or "S.N17" of the shared ones. A neuron that is negative writes the
    opposite. Raises `InputError` where the model has no such layer or neuron.
    """
    _refuse_no_number("layer", layer)
    if isinstance(neuron, str):
        neuron = _of_expert(model, layer, neuron)
    _refuse_no_number("neuron", neuron)
    whole("top_k", top_k)
    if top_k > model.n_vocab:
        raise InputError(f"top_k={top_k} must be from 1 to {model.n_vocab}, the vocabulary's size")
    require(model, ["neuron", "mlp"])
    row = _written(model, layer, neuron)
    logits = _through_unembedding(model, _contribution(model, layer, neuron)[None])[0]
    order = logits.argsort(descending=True, stable=True)
    ends = (order[:top_k].tolist(), order.flip(0)[:top_k].tolist())
    promoted, suppressed = (
        tuple((i, model.label(i), float(logits[i])) for i in ids) for ids in ends
    )
    tokens = None if prompt is None else encoded(model, prompt)
    note = between(model, layer, neuron).note
    name = unit_name(layer, neuron, numbering_in({"experts": numbering_of(model)}))
    return NeuronCard(
        name, layer, neuron, float(row.float().norm()), promoted, suppressed, tokens,
        None if tokens is None else _activations(model, Site("neuron", layer), neuron, tokens),
        (note,) if note else (),
    )  # fmt: skip


def written_tokens(
    model: Model, neurons: Sequence[tuple[int, int]], top_k: int = 6
) -> tuple[Int[np.ndarray, "neuron k"], Int[np.ndarray, "neuron k"]]:
    """Ids of the tokens that some neurons (layer, number) promote and suppress, strongest first."""
    top_k = min(top_k, model.n_vocab)
    if not neurons:
        return (none := np.zeros((0, top_k), np.int64)), none
    rows = [_contribution(model, at, n).to(model.device) for at, n in neurons]
    ids: tuple[list[np.ndarray], list[np.ndarray]] = ([], [])
    for start in range(0, len(rows), _AT_ONCE):
        logits = _through_unembedding(model, torch.stack(rows[start : start + _AT_ONCE]))
        for kept, largest in zip(ids, (True, False), strict=True):
            kept.append(logits.topk(top_k, dim=-1, largest=largest).indices.numpy())
    return np.concatenate(ids[0]), np.concatenate(ids[1])


def neuron_name(text: str) -> tuple[int, int | str]:
    """`4.112` is neuron 112 of block 4, `4.E2.N17` neuron "E2.N17" of its experts.

    Raises `InputError` for anything else.
    """
    layer, _, neuron = text.partition(".")
    if layer.isdecimal() and neuron.isdecimal():
        return int(layer), int(neuron)
    if layer.isdecimal() and expert_unit(neuron) is not None:
        return int(layer), neuron.upper()
    raise InputError(
        f"{text!r} is no neuron; expected LAYER.NEURON, e.g. 4.112, or of an expert 4.E2.N17"
    )


def _of_expert(model: Model, layer: int, name: str) -> int:
    """The number of a neuron of an expert in the row of its block."""
    _refuse_layer(model, layer)
    mixture, unit = model.experts(layer), expert_unit(name)
    if mixture is None or unit is None:
        has = "" if mixture is None else "; expected e.g. E2.N17"
        raise InputError(f"{name!r} is no neuron of an expert in block {layer}{has}")
    if (number := mixture.units.number(*unit)) is None:
        raise InputError(f"{layer}.{name} is not in {model.name}: {mixture.units.range}")
    return number


def _refuse_layer(model: Model, layer: int) -> None:
    if not 0 <= layer < model.n_layers:
        raise InputError(f"layer {layer} is not in {model.name}: it has 0 to {model.n_layers - 1}")


def _written(model: Model, layer: int, neuron: int) -> Float[Tensor, " d_model"]:
    """The neuron's row of the down-projection."""
    _refuse_layer(model, layer)
    n_neurons, mixture = widths_of(model, "neuron")[layer], model.experts(layer)
    if not 0 <= neuron < n_neurons:
        named = "" if mixture is None else f", {mixture.units.range}"
        raise InputError(
            f"neuron {neuron} is not in block {layer} of {model.name}: it has 0 to"
            f" {n_neurons - 1}{named}"
        )
    inner: Any = model.module(model.path(Site("neuron", layer)))
    if mixture is not None:
        units = mixture.units
        if neuron < units.routed:
            return mixture.down[divmod(neuron, units.width)]
        inner, neuron, n_neurons = mixture.shared, neuron - units.routed, units.shared
    weight = next(inner.parameters())
    kind = model.dtype if why_not_plain(weight) else weight.dtype
    one = torch.zeros(2, n_neurons, device=weight.device, dtype=kind)
    one[1, neuron] = 1.0
    with torch.no_grad():
        made = inner(one)
    return made[1] - made[0]


def _refuse_no_number(name: str, value: object) -> None:
    if not isinstance(value, int | np.integer):
        raise InputError(f"{name} {value!r} is no whole number")


def _contribution(model: Model, layer: int, neuron: int) -> Float[Tensor, " d_model"]:
    """What reaches the residual: the row times what it is multiplied by, alone through the norm
    behind it where there is one."""
    row = _written(model, layer, neuron)
    row = between(model, layer, neuron).passed(model, row)
    if not model.writes_alone(layer):
        row = alone_through(model.module(model.anatomy.path(Site("mlp", layer))), row)
    return row * model.added_times


def _through_unembedding(
    model: Model, rows: Float[Tensor, "row d_model"]
) -> Float[Tensor, "row vocab"]:
    """Logits of each row alone, without the biases that every residual gets."""
    value = torch.cat([torch.zeros_like(rows[:1]), rows]).to(model.dtype)
    unembed = model.module(model.anatomy.unembed)
    with torch.no_grad():
        for module in [*model.tail, unembed]:
            parameter = next(module.parameters(), None)
            value = module(value if parameter is None else value.to(parameter.device))
            value = value - value[:1]
    return model.scale_logits(value[1:].float(), softcap=False).cpu()


def _activations(
    model: Model, site: Site, neuron: int, tokens: Tokens
) -> Float[np.ndarray, " token"]:
    values = read(model, Inputs(torch.from_numpy(tokens.ids)[None]), [site]).values[site]
    return values[0, :, neuron].double().cpu().numpy()
