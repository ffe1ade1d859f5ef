"""What the engines do, once more by hand: hooks on the model's own modules, weights set to zero.

Where a part is comes from the model's anatomy; how it is read, replaced and silenced does not come
from twinlens.
"""

from __future__ import annotations

import torch

from twinlens.results.units import SHARED, expert_unit


def logits_of(hf, ids):
    """The logits of every token, `[token, vocab]`."""
    with torch.no_grad():
        return hf(ids).logits[0].float()


def block_restored(model, layer, token, clean, other):
    """The last logits of the ids `other`, with what a block gives at a token as in `clean`."""
    seen = {}

    def hook(_block, _args, made):
        state = made[0] if isinstance(made, tuple) else made
        if "value" not in seen:
            seen["value"] = state[0, token].clone()
            return None
        changed = state.clone()
        changed[0, token] = seen["value"]
        return (changed, *made[1:]) if isinstance(made, tuple) else changed

    block = model.hf.get_submodule(model.anatomy.blocks)[layer]
    return _twice(model, block.register_forward_hook(hook), clean, other)


def neuron_restored(model, layer, name, token, clean, other):
    """The same for one neuron, named as results name it."""
    of_expert = expert_unit(name.partition(".")[2])
    block = model.hf.get_submodule(model.anatomy.blocks)[layer]
    if of_expert is not None and of_expert[0] != SHARED:
        module, put = block.get_submodule(model.anatomy.experts), _expert_put(*of_expert, token)
        hook = module.register_forward_hook
    else:
        path = model.anatomy.neurons if of_expert is None else model.anatomy.shared
        number = int(name.partition(".")[2]) if of_expert is None else of_expert[1]
        module, put = block.get_submodule(path), _plain_put(number, token)
        hook = module.register_forward_pre_hook
    seen = {}
    return _twice(model, hook(lambda *call: put(seen, *call)), clean, other)


def _twice(model, handle, clean, other):
    """A pass over each, with a hook that keeps in the first what it puts in the second."""
    try:
        logits_of(model.hf, clean)
        return logits_of(model.hf, other)[-1]
    finally:
        handle.remove()


def _plain_put(number, token):
    """Keep a neuron's value in the first pass and put it there in the second."""

    def put(seen, _module, args):
        rows = args[0].clone().reshape(-1, args[0].shape[-1])
        if "value" not in seen:
            seen["value"] = rows[token, number].clone()
            return None
        rows[token, number] = seen["value"]
        return (rows.view(args[0].shape), *args[1:])

    return put


def _expert_put(expert, number, token):
    """The same for what a neuron of an expert puts into the output, reckoned for one token."""

    def put(seen, module, args, made):
        value = _expert_value(module, args, expert, number, token)
        if "value" not in seen:
            seen["value"] = value
            return None
        down = module.down_proj[expert]
        row = down[number] if down.shape[0] != made.shape[-1] else down[:, number]
        place = token
        if len(args) == 1:  # rows for each expert
            place += expert * (len(made) // len(module.down_proj))
        changed = made.clone()
        changed[place] += (seen["value"] - value) * row
        return changed

    return put


def _expert_value(module, args, expert, number, token) -> torch.Tensor:
    """Activation times the router's weight: nothing where the expert is not chosen."""
    states, weight = args[0], None
    if len(args) == 1:  # scaled by the router already, for all experts one after the other
        x, weight = states.view(len(module.down_proj), -1, states.shape[-1])[expert, token], 1.0
    else:
        x = states[token]
        for place, chosen in enumerate(args[1][token].tolist()):
            weight = args[2][token, place] if chosen == expert else weight
    if weight is None:
        return torch.zeros(())
    up = module.gate_up_proj[expert]
    made = x @ up if up.shape[0] == len(x) else up @ x
    if hasattr(module, "gate_up_proj_bias"):  # gpt-oss: interleaved, clamped, plus one
        made = made + module.gate_up_proj_bias[expert]
        gate, value = made[::2].clamp(max=module.limit), made[1::2]
        value = value.clamp(-module.limit, module.limit) + 1
        gate = gate * torch.sigmoid(module.alpha * gate)
    else:
        gate, value = made.chunk(2)
        gate = module.act_fn(gate)
    return (gate * value)[number] * weight


def logits_of_zeroed(model, part, ids):
    """The logits with the weights of a part (`2.MLP`, `0.H1`, `1.E2.N3`) set to zero."""
    kept = {name: weight.detach().clone() for name, weight in model.hf.named_parameters()}
    with torch.no_grad():
        try:
            _zero(model, *part.split(".", 1))
            return logits_of(model.hf, ids)
        finally:
            for name, weight in model.hf.named_parameters():
                weight.copy_(kept[name])


def _zero(model, layer, name):
    block = model.hf.get_submodule(model.anatomy.blocks)[int(layer)]
    mixture = model.experts(int(layer))
    if name.startswith("H"):
        written = _inputs(block.get_submodule(model.anatomy.heads))
        width, head = written.shape[0] // model.n_heads, int(name[1:])
        written[width * head : width * (head + 1)] = 0
    elif name == "ATTN":
        _silent(block.get_submodule(model.anatomy.heads))
    elif mixture is not None:
        _zero_experts(model, block, mixture, name)
    elif name == "MLP":
        _silent(block.get_submodule(model.anatomy.neurons))
    else:
        _inputs(block.get_submodule(model.anatomy.neurons))[int(name[1:])] = 0


def _zero_experts(model, block, mixture, name):
    experts = block.get_submodule(model.anatomy.experts)
    number = int(name.rpartition("N")[2]) if "N" in name else None
    if name == "MLP":
        for key in ("down_proj", "down_proj_bias"):
            if hasattr(experts, key):
                getattr(experts, key).zero_()
    if name.startswith("E"):
        down = experts.down_proj[int(name[1 : name.index(".")])]
        (down if down.shape[1] == model.d_model else down.T)[number] = 0
    if mixture.shared is not None and name[0] in "SM":
        shared = _inputs(block.get_submodule(model.anatomy.shared))
        shared[slice(None) if name == "MLP" else number] = 0


def _silent(module):
    module.weight.zero_()
    if module.bias is not None:
        module.bias.zero_()


def _inputs(module):
    """The weight as [input, output]."""
    return module.weight if type(module).__name__ == "Conv1D" else module.weight.T
