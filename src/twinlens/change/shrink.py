"""Neurons that write nothing are really removed: the same model, narrower and faster.

The one idea: a neuron whose row of the down-projection is zero can go, with all that computes it.
A config has one width for all layers, so the layer that needs most neurons sets it; others keep
some that write nothing.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor, nn

from twinlens.change.parts import n_parts, projection
from twinlens.errors import ChangeError
from twinlens.model.model import Model
from twinlens.paths import expanded
from twinlens.results.writing import making
from twinlens.see.question import whole


@dataclass(frozen=True)
class Inner:
    """Where a family's neurons are computed: the maps of a block whose outputs they are, how many
    times over (gate and up in one matrix: 2), and the width's name in the config."""

    into: tuple[str, ...]
    width: str = "intermediate_size"
    fused: int = 1


_GATED = Inner(("mlp.gate_proj", "mlp.up_proj"))

FAMILIES: dict[str, Inner] = {
    "gpt2": Inner(("mlp.c_fc",), "n_inner"),
    "gpt_neox": Inner(("mlp.dense_h_to_4h",)),
    "opt": Inner(("fc1",), "ffn_dim"),
    "phi3": Inner(("mlp.gate_up_proj",), fused=2),
    **dict.fromkeys(
        ("llama", "mistral", "qwen2", "qwen3", "gemma2", "gemma3_text", "olmo2"), _GATED
    ),
}


@dataclass(frozen=True, eq=False)
class Shrunk:
    """A narrower `model`, `width` and `parameters` before and after, and `kept`: which neuron of
    the wider model each neuron was. `alive` is how many neurons of each layer write anything."""

    model: Model
    width: tuple[int, int]
    parameters: tuple[int, int]
    alive: tuple[int, ...]
    kept: Int[np.ndarray, "layer neuron"]

    def save(self, folder: str | Path) -> Path:
        """Write the model and its tokenizer into a new folder that plain transformers loads.

        Raises `ChangeError` where the folder holds something or cannot be written.
        """
        path = expanded(folder)
        _refuse_taken(path)
        with making(path, ChangeError) as folder:
            self.model.hf.save_pretrained(folder)
            self.model.tokenizer.save_pretrained(folder)
        return path


def shrink(model: Model, *, multiple: int = 1) -> Shrunk:
    """A model without the neurons that write nothing: those whose row of the down-projection is
    zero, as `Silence` leaves them.

    All layers get the same width: what the layer with the most neurons left needs, rounded up to a
    `multiple` (of 64, say, for GPUs), never more than before. The given model is not touched; the
    new one is of the same class, and its logits differ by rounding only, since sums are taken in
    another order.

    Raises `ChangeError` where the family is not known, the MLP is not what the family's is, or the
    model has what its config does not describe (a bias that `to="mean"` put in).
    """
    whole("multiple", multiple)
    inner = _inner(model)
    alive = [_alive(model, layer) for layer in range(model.n_layers)]
    before = len(alive[0])
    most = max(1, *(int(one.sum()) for one in alive))
    width = min(before, -(-most // multiple) * multiple)
    kept = [_kept(one, width) for one in alive]
    hf = copy.deepcopy(model.hf)
    made = Model(hf, model.tokenizer, model.anatomy, f"{model.name}-shrunk")
    for layer, numbers in enumerate(kept):
        _slice(made, inner, layer, numbers)
    setattr(hf.config, inner.width, width)
    _refuse_other_than_config(made)
    return Shrunk(
        model=made,
        width=(before, width),
        parameters=(_size(model), _size(made)),
        alive=tuple(int(one.sum()) for one in alive),
        kept=np.stack([one.numpy() for one in kept]),
    )


def _inner(model: Model) -> Inner:
    """The family's row, if this model is as the row says."""
    config = model.hf.config
    inner = FAMILIES.get(config.model_type)
    for layer in range(model.n_layers):
        if (mixture := model.experts(layer)) is not None:
            raise ChangeError(
                f"{model.name}: block {layer} has {mixture.units.experts} experts, and a shrunk"
                " model has one width of plain MLPs in all blocks; neurons of experts can be"
                " silenced"
            )
    if inner is None:
        raise ChangeError(
            f"{model.name}: how neurons are computed in the family {config.model_type!r} is not"
            f" known, so none can be removed; known are {', '.join(sorted(FAMILIES))}"
        )
    if any(parameter.device.type == "meta" for parameter in model.hf.parameters()):
        raise ChangeError(f"{model.name} is offloaded in part; load it without offloading")
    width = n_parts(model, "neuron", 0)
    for layer in range(model.n_layers):
        if (other := n_parts(model, "neuron", layer)) != width:
            raise ChangeError(
                f"{model.name}: layer {layer} has {other} neurons and layer 0 has {width}; only"
                " models of one width are shrunk"
            )
        for path in inner.into:
            module = model.module(_path(model, layer, path))
            there = _outputs(module)
            if there != inner.fused * width:
                raise ChangeError(
                    f"{model.name}: {path} of layer {layer} gives {there or 'no plain'} outputs for"
                    f" {width} neurons; the family's gives {inner.fused * width}"
                )
    return inner


def _refuse_taken(path: Path) -> None:
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise ChangeError(f"{path} is there already; give a new folder")


def _alive(model: Model, layer: int) -> Tensor:
    return (projection(model, "neuron", layer).by_input != 0).any(1).cpu()


def _kept(alive: Tensor, width: int) -> Tensor:
    """The living, and as many of the first others as fill the width; in their old order."""
    order = torch.argsort(~alive, stable=True)
    return order[:width].sort().values


def _slice(model: Model, inner: Inner, layer: int, kept: Tensor) -> None:
    """Only these neurons in a layer, in place."""
    down = projection(model, "neuron", layer)
    before = down.by_input.shape[0]
    _narrow(down.module, "weight", kept, 1 if down.transposed else 0)
    for path in inner.into:
        module = model.module(_path(model, layer, path))
        rows = torch.cat([kept + part * before for part in range(inner.fused)])
        _narrow(module, "weight", rows, 0 if isinstance(module, nn.Linear) else 1)
        if getattr(module, "bias", None) is not None:
            _narrow(module, "bias", rows, 0)
        _tell(module, out_features=len(rows), nf=len(rows))
    _tell(down.module, in_features=len(kept), nx=len(kept))
    mlp = model.module(_path(model, layer, inner.into[0]).rpartition(".")[0])
    _tell(mlp, intermediate_size=len(kept))


def _narrow(module: nn.Module, name: str, kept: Tensor, axis: int) -> None:
    whole_ = cast(nn.Parameter, getattr(module, name))
    part = whole_.detach().index_select(axis, kept.to(whole_.device)).contiguous()
    module.register_parameter(name, nn.Parameter(part, requires_grad=whole_.requires_grad))


def _tell(module: nn.Module, **widths: int) -> None:
    """What the module itself says of its width, where it does."""
    for name, width in widths.items():
        if hasattr(module, name):
            setattr(module, name, width)


def _outputs(module: nn.Module) -> int:
    """How many outputs a plain linear map has; 0 for anything else."""
    if isinstance(module, nn.Linear):
        return int(module.weight.shape[0])
    if type(module).__name__ == "Conv1D":
        return int(cast(Tensor, module.weight).shape[1])
    return 0


def _refuse_other_than_config(model: Model) -> None:
    """The config alone must give these parameters, or the folder would load as something else."""
    with torch.device("meta"):
        planned = type(model.hf)(copy.deepcopy(model.hf.config))
        planned.tie_weights()  # what older transformers leave out here
    expected, found = (_shapes(hf) for hf in (planned, model.hf))
    if other := sorted(name for name, _ in expected ^ found):
        raise ChangeError(
            f"{model.name}: {other[0]} is not as the config says, and a folder with it would not"
            " load; set parts to zero instead of a constant"
        )


def _shapes(hf: Any) -> set[tuple[str, Sequence[int]]]:
    return {(name, tuple(parameter.shape)) for name, parameter in hf.named_parameters()}


def _size(model: Model) -> int:
    return sum(parameter.numel() for parameter in model.hf.parameters())


def _path(model: Model, layer: int, relative: str) -> str:
    return f"{model.anatomy.blocks}.{layer}.{relative}"
