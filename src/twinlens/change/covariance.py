"""The second moment of what enters a down-projection, over a text; kept in a cache of files."""

from __future__ import annotations

import hashlib
import json
import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from twinlens.change.forward import down_projection
from twinlens.errors import InputError, ResultFileError
from twinlens.model.anatomy import Site
from twinlens.model.model import Model
from twinlens.results.writing import replacing
from twinlens.run.batches import Progress, counting, in_batches
from twinlens.run.check import require
from twinlens.run.hooks import hooked
from twinlens.run.sampling import sampled
from twinlens.see.question import whole
from twinlens.see.texts import Text, Windows, joined, windows

Cache = str | Path | None
_HEADER = "twinlens_covariance"
_DEFAULT = "default"


@dataclass(frozen=True, eq=False)
class Covariance:
    """The uncentred second moment of a down-projection's input, its mean over tokens.

    `matrix` is in float64, on the CPU. `about`: weights, text and length that it was read from.
    """

    layer: int
    matrix: Float[Tensor, "neuron neuron"]
    n_tokens: int
    about: Mapping[str, Any]
    notes: tuple[str, ...] = ()

    def solve(self, key: Float[Tensor, " neuron"], ridge: float = 0.0) -> Float[Tensor, " neuron"]:
        """C^-1 key in float64, with `ridge` times the mean of the diagonal added to the diagonal.

        Raises `InputError` where the matrix is singular.
        """
        matrix = self.matrix.clone()
        matrix.diagonal().add_(ridge * matrix.diagonal().mean())
        factor, failed = torch.linalg.cholesky_ex(matrix)
        if int(failed) or (not ridge and self.n_tokens < len(matrix)):
            raise InputError(
                f"the covariance of {len(matrix)} inputs over {self.n_tokens} tokens is singular;"
                " give more text, or a ridge, e.g. ridge=1e-4"
            )
        return torch.cholesky_solve(key.double()[:, None], factor)[:, 0]


def key_covariance(
    model: Model,
    layer: int,
    text: Text | None = None,
    *,
    samples: int | None = None,
    length: int = 128,
    batch_tokens: int = 2048,
    seed: int = 1,
    cache: Cache = _DEFAULT,
    progress: Progress = None,
) -> Covariance:
    """C = E[x x^T] of what enters the down-projection of a layer (Meng et al. 2022, appendix E.1).

    Over `text` (a file, "hamlet", or documents, in windows of `length` tokens), or over `samples`
    texts of `length` tokens that the model says by itself, drawn by `seed`. All tokens count, those
    that the tokenizer puts before a prompt too. Float64 sums of float32 products of a pass.

    `cache`: a folder of files, one for each weights, text and layer ("default": `twinlens` in the
    user's cache folder; None: none). A damaged file is made anew, with a note. Raises `InputError`
    for a layer, text or number that does not fit, `ChangeError` where the model has no plain
    down-projection, and `ResultFileError` where a folder that was given cannot be written.
    """
    whole("batch_tokens", batch_tokens)
    width = down_projection(model, layer).by_input.shape[0]
    require(model, ("neuron", "block"))
    about, read = _asked(model, text, samples, length, seed)
    about |= {"weights": model.weights_hash(), "layer": layer, "length": length}
    file = _file(cache, about)
    kept, note = (None, None) if file is None else _open(file, about, width)
    if kept is not None:
        return kept
    made = _measured(model, layer, read or _said(model, about), about, batch_tokens, progress)
    if note is not None:
        warnings.warn(note, stacklevel=2)
        made = replace(made, notes=(note,))
    if file is not None:
        _save(file, made)
    return made


def _asked(
    model: Model, text: Text | None, samples: int | None, length: int, seed: int
) -> tuple[dict[str, Any], Windows | None]:
    """What is read, in plain values, and the text, unless the model is to say it."""
    if (text is None) == (samples is None):
        raise InputError("a covariance is over text or over samples: give one of them")
    if text is not None:
        read = joined(windows(model, text, length))
        return {"text": read.sha256}, read
    whole("samples", samples)
    whole("seed", seed, 0)
    whole("length", length, 2)
    if model.context is not None and length > model.context:
        raise InputError(f"length={length} is more than the {model.context} tokens that it reads")
    return {"samples": samples, "seed": seed}, None


def cache_folder() -> Path:
    """`twinlens` in the user's folder for caches."""
    given = os.environ.get("XDG_CACHE_HOME")
    return (Path(given) if given else Path.home() / ".cache") / "twinlens" / "covariance"


def _said(model: Model, about: Mapping[str, Any]) -> Windows:
    ids = sampled(model, about["samples"], about["length"] - 1, seed=about["seed"])
    return Windows(tuple(ids))


def _measured(
    model: Model,
    layer: int,
    read: Windows,
    about: Mapping[str, Any],
    batch_tokens: int,
    progress: Progress,
) -> Covariance:
    per_batch = max(1, batch_tokens // max(len(window) for window in read.ids))
    total: Tensor | None = None
    with counting(read.n_tokens, f"covariance of layer {layer}", progress) as advance:
        for product, n_tokens in in_batches(
            range(len(read)), per_batch, lambda rows: _product(model, layer, read, rows)
        ):
            total = product if total is None else total.add_(product)
            advance(n_tokens)
    assert total is not None
    matrix = (total + total.T) / (2 * read.n_tokens)
    return Covariance(layer, matrix, read.n_tokens, dict(about))


def _product(
    model: Model, layer: int, read: Windows, numbers: Sequence[int]
) -> tuple[Float[Tensor, "neuron neuron"], int]:
    batch = read.batch(numbers)
    found: list[Tensor] = []

    def keep(value: Tensor) -> Tensor:
        kept = value[batch.real.to(value.device)].float()
        found.append((kept.T @ kept).cpu().double())
        return value

    with torch.no_grad(), hooked(model, {Site("neuron", layer): keep}, len(batch.ids)):
        model.hf(input_ids=batch.ids.to(model.device), use_cache=False, **model.last_logits_only)
    return found[0], int(batch.real.sum())


def _file(cache: Cache, about: Mapping[str, Any]) -> Path | None:
    """Where such a covariance is kept; None for nowhere."""
    if cache is None:
        return None
    folder = cache_folder() if cache == _DEFAULT else Path(cache)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        if cache == _DEFAULT:
            return None  # a home that cannot be written is no reason to stop
        raise ResultFileError(f"cannot make the folder {folder}: {error.strerror}") from error
    name = hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:32]
    return folder / f"{name}.safetensors"


def _open(file: Path, about: Mapping[str, Any], width: int) -> tuple[Covariance | None, str | None]:
    """What a file holds, or None, and why it was not used."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="pt") as opened:
            header = json.loads((opened.metadata() or {})[_HEADER])
            matrix = opened.get_tensor("matrix")
        n_tokens = int(header["n_tokens"])
        if header["about"] != dict(about) or matrix.shape != (width, width) or n_tokens < 1:
            raise ValueError("it is that of another model or text")
        if matrix.dtype != torch.float64 or header["sha256"] != _hash(matrix):
            raise ValueError("its bytes are others than were written")
    except FileNotFoundError:
        return None, None
    except (SafetensorError, OSError, ValueError, TypeError, KeyError, RecursionError) as error:
        return None, f"the covariance kept in {file} is damaged ({error}); it was made anew"
    return Covariance(about["layer"], matrix, n_tokens, dict(about)), None


def _save(file: Path, made: Covariance) -> None:
    from safetensors.torch import save

    header = {"about": made.about, "n_tokens": made.n_tokens, "sha256": _hash(made.matrix)}
    payload = save({"matrix": made.matrix.contiguous()}, metadata={_HEADER: json.dumps(header)})
    try:
        with replacing(file) as temporary:
            temporary.write_bytes(payload)
    except ResultFileError as error:
        warnings.warn(f"the covariance was not kept: {error}", stacklevel=3)


def _hash(matrix: Tensor) -> str:
    return hashlib.sha256(matrix.contiguous().numpy().tobytes()).hexdigest()
