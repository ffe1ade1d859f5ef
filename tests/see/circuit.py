"""An attention-only model of two blocks, set by hand: head 0.H0 looks back, head 1.H0 copies."""

from __future__ import annotations

import torch
from transformers import GPT2Config, GPT2LMHeadModel

VOCABULARY, POSITIONS = 400, 100
_TOKEN, _PLACE = slice(0, VOCABULARY), slice(VOCABULARY, VOCABULARY + POSITIONS)
_BEFORE = slice(_PLACE.stop, _PLACE.stop + VOCABULARY)  # where 0.H0 writes the token before
_LOUD = 1.5  # the gain of queries


def induction_circuit() -> GPT2LMHeadModel:
    """One coordinate a token, one a position, one a token before; MLPs and other heads are zero."""
    width = _BEFORE.stop
    model = GPT2LMHeadModel(
        GPT2Config(
            vocab_size=VOCABULARY, n_positions=POSITIONS, n_embd=width, n_inner=1,
            n_layer=2, n_head=2, bos_token_id=None, eos_token_id=None,
        )
    ).eval()  # fmt: skip
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if ".ln_" not in name:
                parameter.zero_()
        model.transformer.wte.weight[:, _TOKEN] = torch.eye(VOCABULARY)
        model.transformer.wpe.weight[:, _PLACE] = torch.eye(POSITIONS)
        _set_head(model, 0, torch.eye(POSITIONS).roll(-1, 1), _PLACE, _PLACE, _BEFORE)
        _set_head(model, 1, torch.eye(VOCABULARY), _TOKEN, _BEFORE, _TOKEN)
    return model


def _set_head(
    model: GPT2LMHeadModel, block: int, match: torch.Tensor, query: slice, key: slice, out: slice
) -> None:
    """Head 0 of a block: what `query` says is looked for in `key`; the token there is written."""
    attention, width = model.transformer.h[block].attn, model.config.n_embd
    queries, keys, values = attention.c_attn.weight.split(width, dim=1)
    n = len(match)
    queries[query, :n] = _LOUD * match
    keys[key, :n] = torch.eye(n)
    values[_TOKEN, :VOCABULARY] = torch.eye(VOCABULARY)
    attention.c_proj.weight[:VOCABULARY, out] = 0.1 * torch.eye(VOCABULARY)
