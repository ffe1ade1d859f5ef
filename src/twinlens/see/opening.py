"""Fitted lenses from disk: ours, and those that the tuned-lens library has saved."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32
from torch import Tensor

from twinlens.errors import ResultFileError
from twinlens.results import FittedLens, Provenance, open_result
from twinlens.results.fitted import UNKNOWN, no_tokens

_CONFIG, _PARAMETERS = "config.json", "params.pt"
_NAME = re.compile(r"(?:layer_translators\.)?(\d+)\.(weight|bias)")


def open_lens(path: str | Path) -> FittedLens:
    """A fitted lens: a file of `twinlens lens fit`, or a folder that the tuned-lens library saved.

    Such a folder has `config.json` and `params.pt`; of the latter only tensors are read, nothing in
    it is run. It does not say which weights it was fitted to: its shape is checked when it is used,
    and what it reads has a note where its `unembed_hash` is another model's. Raises
    `ResultFileError` where the file is missing, damaged or no lens. Format: tuned-lens 0.2
    (Belrose et al. 2023).
    """
    path = Path(path)
    if path.is_dir():
        return _of_tuned_lens(path)
    opened = open_result(path)
    if not isinstance(opened, FittedLens):
        raise ResultFileError(
            f"{path} is a {type(opened).__name__}; expected a lens, as twinlens lens fit writes it"
        )
    return opened


def _of_tuned_lens(folder: Path) -> FittedLens:
    config = _config(folder / _CONFIG)
    weights = _parameters(folder / _PARAMETERS)
    rows, width = config["num_hidden_layers"], config["d_model"]
    matrix, bias = _translators(weights, rows, width, folder / _PARAMETERS)
    unknown = np.full(rows, np.nan)
    return FittedLens(
        tokens=no_tokens(),
        layers=("embed", *map(str, range(rows - 1))),
        vocabulary={},
        settings={"source": "tuned-lens", **config},
        provenance=Provenance(config["model"], "", UNKNOWN, "float32", "", {}),
        kind="tuned",
        name="tuned",
        matrix=matrix,
        reading=np.zeros((rows, 0, width), np.float32),
        bias=bias,
        kept=np.ones(rows),
        kl=unknown,
        kl_plain=unknown,
    )


def _translators(
    weights: dict[str, Tensor], rows: int, width: int, path: Path
) -> tuple[Float32[np.ndarray, "layer d_model d_model"], Float32[np.ndarray, "layer d_model"]]:
    """The maps as arrays, made only once all of them are known to be there; a bias may be left
    out."""
    named: dict[str, Tensor] = {}
    for name, value in weights.items():
        found = _NAME.fullmatch(name)
        if found is None or int(found[1]) >= rows:
            raise ResultFileError(f"{path} has {name!r}, which is no translator")
        shape = (width, width) if found[2] == "weight" else (width,)
        plain = value.layout == torch.strided and value.is_contiguous() and not value.is_meta
        if tuple(value.shape) != shape or not (plain and value.is_floating_point()):
            raise ResultFileError(
                f"{path}: {name} is {value.dtype} {tuple(value.shape)}, expected numbers {shape}"
            )
        named[f"{int(found[1])}.{found[2]}"] = value.float()
    for row in range(rows):
        if f"{row}.weight" not in named:
            raise ResultFileError(f"{path} has no translator of row {row}")
    matrix = torch.stack([named[f"{row}.weight"] for row in range(rows)]).numpy()
    none = torch.zeros(width)
    bias = torch.stack([named.get(f"{row}.bias", none) for row in range(rows)]).numpy()
    if not (np.isfinite(matrix).all() and np.isfinite(bias).all()):
        raise ResultFileError(f"{path} has numbers that are not finite")
    return matrix, bias


def _config(path: Path) -> dict[str, Any]:
    try:
        given = json.loads(path.read_text(encoding="utf-8"))
        rows, width = given["num_hidden_layers"], given["d_model"]
        if not all(isinstance(n, int) and 1 <= n < 100_000 for n in (rows, width)):
            raise ValueError(f"num_hidden_layers is {rows!r}, d_model {width!r}")
    except FileNotFoundError as error:
        raise ResultFileError(
            f"{path.parent} is no lens of the tuned-lens library: it has no {_CONFIG}"
        ) from error
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise ResultFileError(f"{path} is damaged or no lens' configuration: {error}") from error
    if given.get("lens_type", "linear_tuned_lens") != "linear_tuned_lens":
        raise ResultFileError(f"{path}: lens_type {given['lens_type']!r} is not known")
    name, told = str(given.get("base_model_name_or_path", UNKNOWN)), given.get("unembed_hash")
    return {
        "num_hidden_layers": rows,
        "d_model": width,
        "model": name,
        "unembed_hash": told if isinstance(told, str) else None,
    }


def _parameters(path: Path) -> dict[str, Tensor]:
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise ResultFileError(f"{path.parent} has no {_PARAMETERS}") from error
    except Exception as error:  # torch raises many kinds for a damaged file: all become one
        told = (str(error).splitlines() or [type(error).__name__])[0]
        raise ResultFileError(f"{path} is damaged or holds more than tensors: {told}") from error
    if not isinstance(state, dict) or not all(
        isinstance(name, str) and isinstance(value, Tensor) for name, value in state.items()
    ):
        raise ResultFileError(f"{path} is no table of named tensors")
    return state
