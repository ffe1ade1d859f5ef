"""A model whose facts stand in one MLP, set by hand: the subject's last word is looked up in block
`WHERE`, and the next block's attention carries what was found to the last token."""

from __future__ import annotations

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

WHERE, LAYERS, N_FACTS = 1, 4, 5
SUBJECTS = [f"subject{n}" for n in range(N_FACTS)]
ANSWERS = [f"answer{n}" for n in range(N_FACTS)]
WORDS = ["the", "old", "is", "in", "of", *SUBJECTS, *ANSWERS]
NEURON = {subject: n for n, subject in enumerate(SUBJECTS)}

_V = len(WORDS)
_TOKEN, _FOUND, _FLAG = slice(0, _V), slice(_V, 2 * _V), slice(2 * _V, 2 * _V + 1)
_WIDTH = 2 * _V + 2
_WEAK = 0.003


def facts() -> list[dict[str, str]]:
    return [
        {"prompt": f"the old {s} is in the of", "subject": f"old {s}", "answer": a}
        for s, a in zip(SUBJECTS, ANSWERS, strict=True)
    ]


def tokenizer() -> PreTrainedTokenizerFast:
    backend = Tokenizer(models.WordLevel({w: n for n, w in enumerate(WORDS)}, unk_token="the"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=backend)


def planted() -> GPT2LMHeadModel:
    """One coordinate a word, one a word that was found, and a flag of a subject's last word."""
    config = GPT2Config(
        vocab_size=_V, n_positions=32, n_embd=_WIDTH, n_inner=N_FACTS, n_layer=LAYERS, n_head=1,
        bos_token_id=None, eos_token_id=None, tie_word_embeddings=False,
        activation_function="relu",
    )  # fmt: skip
    model = GPT2LMHeadModel(config).eval()
    with torch.no_grad():
        random = torch.Generator().manual_seed(0)
        for name, parameter in model.named_parameters():  # no part is dead, but all others are weak
            if ".ln_" not in name:
                parameter.copy_(_WEAK * torch.randn(parameter.shape, generator=random))
        model.transformer.wte.weight[:, _TOKEN] = torch.eye(_V)
        lookup = model.transformer.h[WHERE].mlp
        for neuron, (subject, answer) in enumerate(zip(SUBJECTS, ANSWERS, strict=True)):
            said, found = WORDS.index(subject), _FOUND.start + WORDS.index(answer)
            lookup.c_fc.weight[said, neuron] = 1.0
            lookup.c_proj.weight[neuron, found] = 1.0
            lookup.c_proj.weight[neuron, _FLAG] = 2.0
        lookup.c_fc.bias[:] = -3.0  # a word alone has about 6.5 after the norm
        attention = model.transformer.h[WHERE + 1].attn
        _queries, keys, values = attention.c_attn.weight.split(_WIDTH, dim=1)
        attention.c_attn.bias[0] = 20.0  # every query looks for the flag
        keys[_FLAG, 0] = 1.0
        values[_FOUND, _FOUND] = torch.eye(_V)
        attention.c_proj.weight[_FOUND, _FOUND] = torch.eye(_V)
        model.lm_head.weight[:, _FOUND] = 4.0 * torch.eye(_V)
    return model
