"""Anatomy by structure, for families that the table does not have.

The embedding and the unembedding are what transformers says they are; the blocks are the list as
long as the configuration has layers; the tail is what runs between the last block and the
unembedding; the sub-blocks are the children of a block whose outputs add up to what the block adds.
One forward pass on a few tokens shows all of it. Nothing found here is trusted before
`twinlens.run.check` has proved it.
"""

from __future__ import annotations

import itertools
from typing import Any

import torch
from torch import Tensor, nn

from twinlens.errors import AnatomyError
from twinlens.model.anatomy import Anatomy
from twinlens.model.experts import experts_path, shared_path

_SCALES = (
    ("logit_multiplier", "logit_scale"),
    ("logit_divisor", "logits_scaling"),
    ("logit_softcap", "final_logit_softcapping"),
    ("logit_softcap", "logits_soft_cap"),
)
_TIMES = "residual_multiplier"
_N_HEADS = ("num_heads", "num_v_heads")  # as modules of attention call them


def discover(hf: Any) -> Anatomy:
    """The anatomy of a causal LM of unknown family. Raises `AnatomyError` where it has none."""
    config = hf.config.get_text_config()
    family = str(config.model_type)
    names = {module: name for name, module in hf.named_modules()}
    blocks_path, blocks = _blocks(hf, config, family)
    dense, mixed, experts = _kinds_of_block(blocks)
    calls = _record(hf, [*_descendants(hf, blocks, {b for b in (dense, mixed) if b is not None})])
    _refuse_other_residuals(family, calls[blocks[0]].given)
    unembed = hf.get_output_embeddings()
    times = getattr(config, _TIMES, None)
    found = _sub_blocks(blocks[0], calls, 1.0 if times is None else float(times))
    attn, mlp = (path if _everywhere(path, blocks) else None for path in found)
    scales = {field: name for field, name in _SCALES if getattr(config, name, None) is not None}
    neurons = None if dense is None else _projection(dense, mlp, calls)
    if experts is None and not _everywhere(neurons, blocks):
        neurons = None
    return Anatomy(
        family=family,
        embed=names[hf.get_input_embeddings()],
        blocks=blocks_path,
        tail=_tail(hf, blocks, unembed, names, calls),
        unembed=names[unembed],
        attn=attn,
        mlp=mlp,
        heads=_heads(blocks, attn, calls, config),
        neurons=neurons,
        experts=experts if mlp and (dense is None or neurons) else None,
        shared=mixed and experts and shared_path(mixed, experts, config.hidden_size),
        added_times=None if times is None else _TIMES,
        adds_up=attn is not None and mlp is not None,
        **scales,
    )


class _Call:
    """One module's input and output in the recorded pass, in order of completion."""

    def __init__(self, order: int, given: Tensor | None, made: Tensor | None) -> None:
        self.order, self.given, self.made = order, given, made


def _blocks(hf: Any, config: Any, family: str) -> tuple[str, list[nn.Module]]:
    wanted = getattr(config, "num_hidden_layers", None)
    lists = [
        (path, list(module))
        for path, module in hf.named_modules()
        if isinstance(module, nn.ModuleList) and len(module) == wanted
    ]
    sized = sorted(lists, key=lambda item: -sum(p.numel() for b in item[1] for p in b.parameters()))
    if not sized:
        raise AnatomyError(
            f"{family}: no list of {wanted} decoder blocks was found in {type(hf).__name__};"
            " give tl.load(..., anatomy=tl.Anatomy(...))"
        )
    return sized[0]


def _refuse_other_residuals(family: str, given: Tensor | None) -> None:
    if given is not None and given.dim() != 3:
        raise AnatomyError(
            f"{family}: its blocks take states of the shape {list(given.shape)} for one prompt of"
            " six tokens: several residual streams that they mix (as Gemma 3n's AltUp does), where"
            " the grid of twinlens has one state for each layer and token"
        )


def _everywhere(path: str | None, blocks: list[nn.Module]) -> bool:
    """Whether every block has such a module: kinds of attention may alternate."""
    return path is not None and all(_has(block, path) for block in blocks)


def _heads(
    blocks: list[nn.Module], attn: str | None, calls: dict[nn.Module, _Call], config: Any
) -> str | None:
    """The projection that takes the heads' outputs, where every block has it and as many heads:
    linear attention, in turn with the other, may have another number."""
    path = _projection(blocks[0], attn, calls)
    if path is None or not _everywhere(path, blocks):
        return None
    holders = [block.get_submodule(path.rpartition(".")[0]) for block in blocks]
    told = {getattr(holder, name, None) for holder in holders for name in _N_HEADS}
    return path if told <= {None, config.num_attention_heads} else None


def _has(block: nn.Module, path: str) -> bool:
    return path in dict(block.named_modules())


def _kinds_of_block(
    blocks: list[nn.Module],
) -> tuple[nn.Module | None, nn.Module | None, str | None]:
    """The first block without and the first with experts, and where the latter has them."""
    paths = [experts_path(block) for block in blocks]
    there = next((path for path in paths if path is not None), "")
    if there and any(p is None and _has(b, there) for b, p in zip(blocks, paths, strict=True)):
        return None, None, None  # some are elsewhere (offloaded): not all can be reckoned
    dense = next((b for b, path in zip(blocks, paths, strict=True) if path is None), None)
    mixed = next((b for b, path in zip(blocks, paths, strict=True) if path is not None), None)
    return dense, mixed, there or None


def _descendants(hf: Any, blocks: list[nn.Module], wanted: set[nn.Module]) -> list[nn.Module]:
    """All modules, but of the blocks only the first, those `wanted`, and the last as a whole."""
    others = [block for block in blocks[1:] if block not in wanted]
    inner = {m for block in others for m in block.modules()} - {blocks[-1]}
    return [module for module in hf.modules() if module not in inner]


def _record(hf: Any, modules: list[nn.Module]) -> dict[nn.Module, _Call]:
    calls: dict[nn.Module, _Call] = {}
    order = itertools.count()

    def note(module: nn.Module, args: Any, kwargs: Any, made: Any) -> None:
        given = next((x for x in (*args, *kwargs.values()) if isinstance(x, Tensor)), None)
        made = made[0] if isinstance(made, tuple | list) and made else made
        kept = made.detach().clone() if isinstance(made, Tensor) else None
        calls[module] = _Call(next(order), None if given is None else given.detach().clone(), kept)

    hooks = [m.register_forward_hook(note, with_kwargs=True) for m in modules]
    training = hf.training
    ids = torch.arange(3, 9, device=hf.get_input_embeddings().weight.device)[None]
    try:
        hf.eval()
        with torch.no_grad():
            hf(input_ids=ids % hf.get_input_embeddings().weight.shape[0], use_cache=False)
    except Exception as error:
        raise AnatomyError(f"{type(hf).__name__} does not run on six tokens: {error}") from error
    finally:
        hf.train(training)
        for hook in hooks:
            hook.remove()
    return calls


def _tail(
    hf: Any,
    blocks: list[nn.Module],
    unembed: nn.Module,
    names: dict[nn.Module, str],
    calls: dict[nn.Module, _Call],
) -> tuple[str, ...]:
    """Outermost modules that ran after the last block and before the unembedding, in order."""
    last, end = calls[blocks[-1]].order, calls[unembed].order
    inside = [m for m, c in calls.items() if last < c.order < end and c.made is not None]
    wrappers = {m for m in inside if any(b in m.modules() for b in blocks)}
    parts = {child for m in inside for child in m.modules() if child is not m}
    tail = [m for m in inside if m not in wrappers and m not in (parts - wrappers)]
    return tuple(names[m] for m in sorted(tail, key=lambda m: calls[m].order))


def _sub_blocks(
    block: nn.Module, calls: dict[nn.Module, _Call], times: float
) -> tuple[str | None, str | None]:
    """Two children whose outputs, times a factor and added to the block's input, give its output;
    attention first."""
    whole = calls[block]
    if whole.given is None or whole.made is None:
        return None, None
    made, given = whole.made.double(), whole.given.double()
    added = (made - given) / times
    outputs = {
        name: call.made.double().reshape(added.shape)
        for name, module in block.named_modules()
        if name
        and not isinstance(module, nn.Dropout)  # a second name of what enters it
        and (call := calls.get(module)) is not None
        and call.made is not None
        and call.made.numel() == added.numel()
    }
    # a sum is rounded by its size, which in half precision is more than what is added can show
    rounding = 2 * torch.finfo(whole.made.dtype).eps * (made.abs() + given.abs()) / times
    tolerance = 1e-3 * added.abs().max() + 1e-6 + rounding
    errors: dict[tuple[str, str], float] = {}
    for first, second in itertools.combinations(outputs, 2):
        error = (outputs[first] + outputs[second] - added).abs()
        if bool((error < tolerance).all()):
            errors[first, second] = float(error.norm())
    if not errors:
        return None, None
    fitting = [pair for pair, error in errors.items() if error <= 2 * min(errors.values())]
    # Several names can carry the same value (a wrapper and its last part): take the outermost.
    first, second = min(fitting, key=lambda pair: (sum(n.count(".") for n in pair), pair))
    pair = sorted((first, second), key=lambda name: (_looks_like_mlp(name), name))
    by_order = sorted((first, second), key=lambda name: calls[block.get_submodule(name)].order)
    attn, mlp = pair if _looks_like_mlp(first) != _looks_like_mlp(second) else by_order
    return attn, mlp


def _looks_like_mlp(name: str) -> bool:
    return any(word in name.lower() for word in ("mlp", "feed", "ffn", "ff", "moe", "expert", "fc"))


def _projection(block: nn.Module, path: str | None, calls: dict[nn.Module, _Call]) -> str | None:
    """The linear map that makes the sub-block's output, or what a norm turns into that output:
    its input is the heads or the neurons."""
    if path is None:
        return None
    whole = calls[block.get_submodule(path)]
    wanted = [x for x in (whole.made, whole.given) if x is not None]
    for name, module in block.named_modules():
        call, weight = calls.get(module), getattr(module, "weight", None)
        if call is None or call.made is None or weight is None or weight.dim() != 2:
            continue
        if any(
            x.numel() == call.made.numel() and torch.equal(x.reshape(-1), call.made.reshape(-1))
            for x in wanted
        ):
            return name
    return None
