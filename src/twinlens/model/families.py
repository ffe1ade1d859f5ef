"""The table of families. A new family is a new row; `twinlens check` says whether it is right."""

from __future__ import annotations

from dataclasses import replace

from twinlens.model.anatomy import Anatomy

_LLAMA = Anatomy(
    family="llama",
    embed="model.embed_tokens",
    blocks="model.layers",
    tail=("model.norm",),
    unembed="lm_head",
    attn="self_attn",
    mlp="mlp",
    heads="self_attn.o_proj",
    neurons="mlp.down_proj",
)

# The sub-block's output passes a norm before it is added: the norm's output is the contribution.
_POST_NORMED = replace(_LLAMA, attn="post_attention_layernorm", mlp="post_feedforward_layernorm")

_GPT2 = Anatomy(
    family="gpt2",
    embed="transformer.wte",
    blocks="transformer.h",
    tail=("transformer.ln_f",),
    unembed="lm_head",
    attn="attn",
    mlp="mlp",
    heads="attn.c_proj",
    neurons="mlp.c_proj",
)

_GPT_NEOX = Anatomy(
    family="gpt_neox",
    embed="gpt_neox.embed_in",
    blocks="gpt_neox.layers",
    tail=("gpt_neox.final_layer_norm",),
    unembed="lm_head",
    attn="attention",
    mlp="mlp",
    heads="attention.dense",
    neurons="mlp.dense_4h_to_h",
)

_OPT = Anatomy(
    family="opt",
    embed="model.decoder.embed_tokens",
    blocks="model.decoder.layers",
    tail=("model.decoder.final_layer_norm", "model.decoder.project_out"),
    unembed="lm_head",
    attn="self_attn",
    mlp="fc2",
    heads="self_attn.out_proj",
    neurons="fc2",
    adds_up_if="do_layer_norm_before",
)

_ROWS = (
    _GPT2,
    _GPT_NEOX,
    _OPT,
    _LLAMA,
    replace(_LLAMA, family="mistral"),
    replace(_LLAMA, family="qwen2"),
    replace(_LLAMA, family="qwen3"),
    replace(_LLAMA, family="phi3"),
    replace(_POST_NORMED, family="olmo2"),
    replace(_POST_NORMED, family="gemma2", logit_softcap="final_logit_softcapping"),
    replace(_POST_NORMED, family="gemma3_text", logit_softcap="final_logit_softcapping"),
    replace(
        _POST_NORMED,
        family="gemma4_text",
        logit_softcap="final_logit_softcapping",
        adds_up=False,  # a number of its own multiplies what each block gives
        no_neurons_if="enable_moe_block",
    ),
)

FAMILIES: dict[str, Anatomy] = {row.family: row for row in _ROWS}
