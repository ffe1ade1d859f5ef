"""Single weights set to zero: those of the lowest score, in the linear maps of the blocks.

The one idea: a rule gives every weight a score, and within each group that is compared (an output's
weights, or a matrix) the same share goes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast, get_args

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from twinlens.change.change import Values
from twinlens.errors import ChangeError, InputError
from twinlens.model.model import Model
from twinlens.model.weights import refuse_other_weights
from twinlens.run.batches import Progress, counting, in_batches
from twinlens.run.check import require
from twinlens.see.question import whole
from twinlens.see.texts import Batch, Text, joined, windows

By = Literal["wanda", "magnitude", "random"]
Norms = Mapping[str, Float[Tensor, "..."]]  # name of a weight -> [input]
_ZERO = -1.0  # the score of what is zero already: below every other


@dataclass(frozen=True, eq=False)
class Zeroed:
    """A share of the weights of every linear map in the blocks, set to zero (a `Change`).

    Made by `zero_weights`. "wanda" compares within the weights of an output, the others within a
    matrix. Of a group of n weights round(`share` n) are zero afterwards, those counted that were
    zero before: so what a smaller share zeroes a larger one zeroes, too. `norms` are those of the
    inputs, for "wanda"; `about` says of which text. Raises `InputError` for an unknown rule, and
    for a share or norms that do not fit.
    """

    share: float
    by: By
    norms: Norms | None = None
    seed: int = 1
    about: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        _refuse_unknown(self.by)
        whole("seed", self.seed, 0)
        if not isinstance(self.share, int | float) or not 0 < self.share <= 1:
            raise InputError(f"share={self.share!r} must be more than 0 and at most 1")
        if (self.norms is None) == (self.by == "wanda"):
            raise InputError("norms go with by='wanda'; tl.zero_weights reads them from a text")

    def values(self, model: Model) -> Values:
        """The matrices with their weakest weights at zero.

        Raises `ChangeError` where the norms are not of this model's shape.
        """
        made: dict[str, Tensor] = {}
        for name, module in linear_maps(model).items():
            weight = _weight(module)
            score = _score(name, module, self.by, self.norms, self.seed)
            score.masked_fill_(weight == 0, _ZERO)
            out = _by_output(module, score)
            groups = out if self.by == "wanda" else out.reshape(1, -1)
            lowest = _by_output(module, _lowest(groups, self.share).view(out.shape))
            made[name] = weight.masked_fill(lowest, 0)
        return made

    def plain(self) -> dict[str, Any]:
        """The rule, the share, the seed, and which text the norms are from."""
        told = {"kind": "zero_weights", "by": self.by, "share": self.share, "seed": self.seed}
        return told | dict(self.about or {})


def zero_weights(
    model: Model,
    share: float,
    *,
    by: By = "wanda",
    text: Text | None = None,
    length: int = 128,
    batch_tokens: int = 2048,
    seed: int = 1,
    progress: Progress = None,
) -> Zeroed:
    """The change that sets a share of the weights to zero: those of the lowest score.

    `by="wanda"`: |weight| times the size of its input over `text` (a file, "hamlet", or documents,
    in windows of `length` tokens), the lowest of each output. Unlike Sun et al. (2023) the inputs
    are those of the model as it is, in all blocks, not of one whose earlier blocks are pruned
    already. `by="magnitude"`: |weight|, and `by="random"`: drawn by `seed`; the lowest of each
    matrix, without a text. Embeddings, unembedding, norms and biases stay, and so do the fused
    weights of experts: `plain()` says so of a model that has them.

    Raises `InputError` for a share that is none and for a missing or needless text, `ChangeError`
    where the text does not reach each matrix.
    """
    _refuse_unknown(by)
    Zeroed(share, "random", seed=seed)  # refuses what is wrong before the text is read
    norms, about = _norms_of(model, by, text, length, batch_tokens, progress)
    if any(model.experts(layer) is not None for layer in range(model.n_layers)):
        about |= {"kept": "the fused weights of experts"}
    return Zeroed(share, by, norms, seed, about)


def weight_scores(
    model: Model,
    by: By = "wanda",
    *,
    text: Text | None = None,
    length: int = 128,
    batch_tokens: int = 2048,
    seed: int = 1,
    progress: Progress = None,
) -> dict[str, Float[Tensor, "..."]]:
    """How much does each weight of the linear maps in the blocks matter, by a rule?

    Returns, by the parameter's name, float32 scores of the weight's own shape, none negative.
    "wanda": |W_ij| ||x_j||, the size of input j being its root mean square over `text` (Sun et al.
    2023; there the root of the sum, which ranks alike). "magnitude": |W_ij|. "random": even in
    [0, 1) by `seed` and name. Arguments and errors are those of `zero_weights`.
    """
    _refuse_unknown(by)
    whole("seed", seed, 0)
    norms, _ = _norms_of(model, by, text, length, batch_tokens, progress)
    return {name: _score(name, m, by, norms, seed) for name, m in linear_maps(model).items()}


def linear_maps(model: Model) -> dict[str, nn.Module]:
    """The linear maps within the blocks, by the name of their weight among the parameters.

    Raises `ChangeError` where an adapter stands beside one, where one is quantised, or none is
    there.
    """
    for layer, block in enumerate(model.blocks):
        for path, module in block.named_modules():
            if hasattr(module, "base_layer"):
                name = f"{model.anatomy.blocks}.{layer}.{path}"
                refuse_other_weights(model.name, name, module)
    found = {
        f"{model.anatomy.blocks}.{layer}.{path}.weight": module
        for layer, block in enumerate(model.blocks)
        for path, module in block.named_modules()
        if isinstance(module, nn.Linear) or type(module).__name__ == "Conv1D"
    }
    if not found:
        raise ChangeError(f"{model.name}: its blocks have no plain linear maps")
    for name, module in found.items():
        refuse_other_weights(model.name, name.removesuffix(".weight"), module)
    return found


def input_norms(
    model: Model, text: Text, length: int, batch_tokens: int, progress: Progress
) -> tuple[dict[str, Float[Tensor, "..."]], dict[str, Any]]:
    """The root mean square of each input of each linear map, and what to tell of the text.

    The text is read once; what is held does not grow with it.
    """
    whole("batch_tokens", batch_tokens)
    require(model, ("block",))
    read, maps = joined(windows(model, text, length)), linear_maps(model)
    per_batch = max(1, batch_tokens // max(len(window) for window in read.ids))
    total: dict[str, Tensor] = {}

    def work(numbers: Sequence[int]) -> tuple[dict[str, Tensor], int]:
        batch = read.batch(numbers)
        return _squares(model, maps, batch), int(batch.real.sum())

    with counting(read.n_tokens, "input norms", progress) as advance:
        for made, n_tokens in in_batches(range(len(read)), per_batch, work):
            total = {n: value + total[n] if n in total else value for n, value in made.items()}
            advance(n_tokens)
    norms = {name: (value / read.n_tokens).sqrt().float() for name, value in total.items()}
    digest = hashlib.sha256()
    for name in sorted(norms):
        digest.update(name.encode() + norms[name].cpu().numpy().tobytes())
    about = {"text": read.sha256, "n_tokens": read.n_tokens, "length": length}
    return norms, about | {"norms": digest.hexdigest()}


def _squares(model: Model, maps: Mapping[str, nn.Module], batch: Batch) -> dict[str, Tensor]:
    """Sums of the squares of the inputs over a batch's real tokens, in one pass."""
    found: dict[str, Tensor] = {}

    def adding(name: str) -> Any:
        def add(_module: nn.Module, args: tuple[Tensor, ...]) -> None:
            given = args[0].detach().reshape(-1, args[0].shape[-1])
            if len(given) != batch.real.numel():
                raise ChangeError(f"{model.name}: {name} does not see each token once")
            kept = given[batch.real.flatten().to(given.device)]
            found[name] = kept.double().square().sum(0)

        return add

    handles = [m.register_forward_pre_hook(adding(name)) for name, m in maps.items()]
    try:
        with torch.no_grad():
            model.hf(
                input_ids=batch.ids.to(model.device), use_cache=False, **model.last_logits_only
            )
    finally:
        for handle in handles:
            handle.remove()
    if missing := sorted(maps.keys() - found.keys()):
        raise ChangeError(f"{model.name}: the text does not reach {missing[0]}")
    return found


def _norms_of(
    model: Model,
    by: By,
    text: Text | None,
    length: int,
    batch_tokens: int,
    progress: Progress,
) -> tuple[Norms | None, dict[str, Any]]:
    if by == "wanda" and text is None:
        raise InputError("by='wanda' needs a text: text='hamlet', a file, or a list of documents")
    if by != "wanda" and text is not None:
        raise InputError(f"a text goes with by='wanda', not with by={by!r}")
    return (None, {}) if text is None else input_norms(model, text, length, batch_tokens, progress)


def _score(
    name: str, module: nn.Module, by: By, norms: Norms | None, seed: int
) -> Float[Tensor, "..."]:
    weight = _weight(module)
    if by == "random":
        digest = hashlib.sha256(f"{seed} {name}".encode()).digest()
        random = torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))
        return torch.rand(weight.shape, generator=random).to(weight.device)
    if by == "magnitude":
        return weight.float().abs()
    norm = None if norms is None else norms.get(name)
    if norm is None or norm.shape != (_by_output(module, weight).shape[1],):
        raise ChangeError(f"{name}: the norms are of inputs of another model")
    return _by_output(module, _by_output(module, weight.float().abs()) * norm.to(weight.device))


def _lowest(scores: Float[Tensor, "group weight"], share: float) -> Bool[Tensor, "group weight"]:
    """The lowest of each group, exactly so many; of equal scores the first ones."""
    count = round(share * scores.shape[1])
    if count == 0:
        return torch.zeros_like(scores, dtype=torch.bool)
    edge = scores.kthvalue(count, dim=1, keepdim=True).values
    below, equal = scores < edge, scores == edge
    room = count - below.sum(1, keepdim=True)
    return below | (equal & (equal.cumsum(1) <= room))


def _weight(module: nn.Module) -> Tensor:
    return cast(Tensor, module.weight).detach()


def _by_output(module: nn.Module, tensor: Tensor) -> Tensor:
    """What is stored as the weight is, seen as [output, input] (and back): the same memory."""
    return tensor if isinstance(module, nn.Linear) else tensor.T


def _refuse_unknown(by: Any) -> None:
    if by not in get_args(By):
        raise InputError(f"by={by!r} is not known; choose one of {', '.join(get_args(By))}")
