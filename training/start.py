"""The untrained model: at random, but for four heads that start as an induction circuit.

Two heads of block 0 look at the token before, two heads of block 1 look for tokens that came after
an earlier copy of their own token and say them again (Olsson et al. 2022, "In-context Learning and
Induction Heads"). From random weights no trial of a few minutes had learned to copy; from here the
copies of random tokens are learned in some 200 steps. All of it is trained on like the rest.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from transformers import GPT2Config, GPT2LMHeadModel

VOCABULARY = 2000
CONTEXT = 512
HEADS = 2  # that look back, and that match
_STD = 0.02  # GPT-2's, of embeddings and of weights
_LOOK, _LOUDER, _MATCH = 2.8, 3.0, 2.0  # gains, by trial: clear at once, and still to be moved


def new_model(seed: int, layers: int = 6, width: int = 192, heads: int = 6) -> GPT2LMHeadModel:
    """The untrained model. The activation is GPT-2's own `gelu_new`, in its fast spelling."""
    torch.manual_seed(seed)
    model = GPT2LMHeadModel(
        GPT2Config(
            vocab_size=VOCABULARY, n_positions=CONTEXT, n_embd=width, n_layer=layers, n_head=heads,
            activation_function="gelu_pytorch_tanh", resid_pdrop=0.0, embd_pdrop=0.0,
            attn_pdrop=0.0, bos_token_id=0, eos_token_id=0,
        )
    )  # fmt: skip
    with torch.no_grad():
        _look_back(model)
        _match(model)
    return model


def _look_back(model: GPT2LMHeadModel) -> None:
    """Positions become waves, and heads of block 0 match each with the one before it."""
    width, size = model.config.n_embd, _head_size(model)
    fast = (torch.arange(size // 2) + 0.5) / (size // 2) * math.pi
    slow = 10_000 ** -torch.linspace(0, 1, width // 2 - size // 2)
    angles = torch.arange(CONTEXT)[:, None] * torch.cat([fast, slow])
    waves = torch.cat([angles.sin(), angles.cos()], dim=1)
    model.transformer.wpe.weight.copy_(waves * _STD * math.sqrt(2))

    here = torch.zeros(width, size)  # a head's query or key: the fast waves' sines, then cosines
    sines, cosines = torch.arange(size // 2), width // 2 + torch.arange(size // 2)
    here[sines, sines] = here[cosines, size // 2 + sines] = 1.0
    before = torch.zeros(width, size)  # the same waves one token earlier
    before[sines, sines] = before[cosines, size // 2 + sines] = fast.cos()
    before[cosines, sines], before[sines, size // 2 + sines] = -fast.sin(), fast.sin()
    for head in range(HEADS):
        query, key, _, out = _parts(model, 0, head)
        query.copy_(before * math.sqrt(_LOOK))
        key.copy_(here * math.sqrt(_LOOK))
        out.mul_(_LOUDER)


def _match(model: GPT2LMHeadModel) -> None:
    """Heads of block 1: what block 0 wrote of the token before, matched with the own token."""
    for head in range(HEADS):
        _, _, seen, written = _parts(model, 0, head)
        query, key, value, out = _parts(model, 1, head)
        query.copy_(_MATCH * seen / seen.norm(dim=0))
        key.copy_(_MATCH * (written.T / written.norm(dim=1)))
        out.copy_(value.T)  # what is looked at is said


def _parts(model: GPT2LMHeadModel, block: int, head: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """A head's query, key and value matrices `[width, size]` and its output matrix, as views."""
    attention, size = model.transformer.h[block].attn, _head_size(model)
    own = slice(head * size, (head + 1) * size)
    query, key, value = (m[:, own] for m in attention.c_attn.weight.chunk(3, dim=1))
    return query, key, value, attention.c_proj.weight[own]


def _head_size(model: GPT2LMHeadModel) -> int:
    return model.config.n_embd // model.config.n_head
