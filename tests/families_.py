"""The table of model types: configurations of tiny models, and what each of them is there for."""

from __future__ import annotations

from tests.hybrids_ import COMMON, EXPERTS, GROUPS, HYBRIDS, LATENT, Special

_GPT2 = {"n_embd": 32, "n_layer": 3, "n_head": 4, "n_positions": 128}
_OPT = COMMON | {"ffn_dim": 48, "word_embed_proj_dim": 32}

FAMILIES: dict[str, tuple[str, dict]] = {
    "gpt2": ("gpt2", _GPT2),
    "gpt_neox": ("gpt_neox", COMMON),
    "gpt_neox_sequential": ("gpt_neox", COMMON | {"use_parallel_residual": False}),
    "llama": ("llama", COMMON),
    "mistral": ("mistral", COMMON | {"sliding_window": 6}),
    "qwen2": ("qwen2", COMMON),
    "qwen3": ("qwen3", COMMON),
    "gemma2": ("gemma2", COMMON | {"sliding_window": 6, "final_logit_softcapping": 3.0}),
    "gemma3_text": ("gemma3_text", COMMON | {"sliding_window": 6, "layer_types": None}),
    "phi3": ("phi3", COMMON | {"pad_token_id": 0}),
    "olmo2": ("olmo2", COMMON),
    "opt": ("opt", _OPT),
    "opt_post_norm": (
        "opt",
        _OPT | {"word_embed_proj_dim": 16, "do_layer_norm_before": False},
    ),
}
OTHERS: dict[str, tuple[str, dict]] = {
    "bloom": ("bloom", {"hidden_size": 32, "n_layer": 3, "n_head": 4}),
    "cohere": ("cohere", COMMON | {"logit_scale": 0.25}),
    "granite": ("granite", COMMON | {"logits_scaling": 4.0, "residual_multiplier": 0.5}),
    "mixtral": ("mixtral", COMMON | {"num_local_experts": 4, "intermediate_size": 24}),
    "olmo3": ("olmo3", COMMON | {"sliding_window": 6}),
    "phi": ("phi", COMMON),
    "stablelm": ("stablelm", COMMON),
}

_TWO = COMMON | {"num_hidden_layers": 2, "sliding_window": 6}
_FALCON = {
    "hidden_size": 32,
    "ffn_hidden_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
}
_EXPERTS = _TWO | EXPERTS | {"n_routed_experts": 4}
_GROUPS = _EXPERTS | GROUPS
_LATENT = _GROUPS | LATENT


MORE: dict[str, Special] = {
    "gptj": Special("gptj", _GPT2 | {"n_layer": 2, "rotary_dim": 4}, "parallel blocks"),
    "gpt_neo": Special(
        "gpt_neo",
        {
            "hidden_size": 32,
            "num_layers": 2,
            "attention_types": [[["global", "local"], 1]],
            "num_heads": 4,
            "max_position_embeddings": 128,
            "intermediate_size": 48,
            "window_size": 6,
        },
        "local attention in turn",
    ),
    "gpt_bigcode": Special("gpt_bigcode", _GPT2 | {"n_layer": 2}, "one head of keys and values"),
    "falcon": Special("falcon", _FALCON | {"alibi": False}, "parallel blocks"),
    "falcon_new": Special(
        "falcon",
        _FALCON | {"new_decoder_architecture": True, "num_kv_heads": 2},
        "two norms side by side",
    ),
    "falcon_alibi": Special(
        "falcon",
        _FALCON | {"alibi": True, "parallel_attn": False, "multi_query": False, "bias": True},
        "ALiBi, blocks in sequence",
    ),
    "mpt": Special(
        "mpt", {"d_model": 32, "n_heads": 4, "n_layers": 2, "max_seq_len": 128}, "ALiBi"
    ),
    "xglm": Special(
        "xglm",
        {"d_model": 32, "ffn_dim": 48, "num_layers": 2, "attention_heads": 4},
        "scaled embeddings, sinusoidal positions",
    ),
    "ministral": Special("ministral", _TWO, "sliding windows"),
    "ministral3": Special(
        "ministral3",
        _TWO
        | {
            "rope_parameters": {
                "rope_type": "yarn",
                "rope_theta": 10000.0,
                "factor": 32.0,
                "original_max_position_embeddings": 4,
                "llama_4_scaling_beta": 0.1,
            }
        },
        "queries scaled by position",
    ),
    "qwen3_5_text": Special(
        "qwen3_5_text", _TWO | {"layer_types": ["full_attention"] * 2}, "gated attention"
    ),
    "gemma": Special("gemma", _TWO, "scaled embeddings"),
    "olmo": Special("olmo", _TWO, "norms without weights"),
    "stablelm_parallel": Special(
        "stablelm", _TWO | {"use_parallel_residual": True, "qk_layernorm": True}, "parallel blocks"
    ),
    "starcoder2": Special("starcoder2", _TWO, "sliding windows, biases"),
    "cohere2": Special("cohere2", _TWO, "parallel blocks, sliding windows, scaled logits"),
    "smollm3": Special(
        "smollm3", _TWO | {"no_rope_layer_interval": 2}, "no positions in every second block"
    ),
    "glm": Special("glm", _TWO, "partial rotary positions"),
    "glm4": Special("glm4", _TWO, "post-norms"),
    "exaone4": Special("exaone4", _TWO, "post-norms alone, sliding windows"),
    "nemotron": Special("nemotron", _TWO, "squared ReLU, LayerNorm of one plus weights"),
    "internlm3": Special("internlm3", _TWO | {"bias": True, "qkv_bias": True}, "biases"),
    "ernie4_5": Special("ernie4_5", _TWO, "interleaved rotary positions"),
    "hunyuan_v1_dense": Special("hunyuan_v1_dense", _TWO, "norms of queries and keys"),
    "helium": Special("helium", _TWO, "rotary positions, RMSNorm, a gated MLP"),
    "apertus": Special("apertus", _TWO, "xIELU, no gate"),
    "arcee": Special("arcee", _TWO, "squared ReLU, no gate"),
    "seed_oss": Special("seed_oss", _TWO, "biases"),
    "llama4_text": Special(
        "llama4_text",
        _EXPERTS | {"intermediate_size_mlp": 48, "interleave_moe_layer_step": 2},
        "experts in every second block, a shared one, complex rotary positions",
    ),
    "qwen2_moe": Special(
        "qwen2_moe",
        _EXPERTS | {"shared_expert_intermediate_size": 16},
        "experts and a gated shared one",
    ),
    "qwen3_moe": Special("qwen3_moe", _EXPERTS | {"decoder_sparse_step": 1}, "experts"),
    "qwen3_next": Special(
        "qwen3_next",
        _EXPERTS | {"layer_types": ["full_attention"] * 2, "shared_expert_intermediate_size": 16},
        "experts and a gated shared one, gated attention",
    ),
    "olmoe": Special("olmoe", _EXPERTS, "experts"),
    "flex_olmo": Special("flex_olmo", _EXPERTS, "experts, post-norms"),
    "phimoe": Special(
        "phimoe", _EXPERTS | {"lm_head_bias": True}, "experts, a bias of the unembedding"
    ),
    "granitemoe": Special(
        "granitemoe", _EXPERTS | {"residual_multiplier": 0.5}, "experts, scaled sub-blocks"
    ),
    "deepseek_v2": Special(
        "deepseek_v2",
        _LATENT | {"topk_method": "group_limited_greedy"},
        "experts in groups, a shared one, a dense first block, latent attention",
    ),
    "deepseek_v3": Special(
        "deepseek_v3",
        _LATENT,
        "experts in groups, a shared one, a dense first block, latent attention",
    ),
    "glm4_moe": Special("glm4_moe", _GROUPS, "experts, a shared one, a dense first block"),
    "gpt_oss": Special(
        "gpt_oss", _EXPERTS, "experts with biases, attention sinks, sliding windows"
    ),
    "minimax_m2": Special("minimax_m2", _EXPERTS, "experts"),
    "ernie4_5_moe": Special(
        "ernie4_5_moe",
        _EXPERTS | {"moe_num_experts": 4, "moe_k": 2},
        "experts, a shared one, a dense first block",
    ),
    "hunyuan_v1_moe": Special("hunyuan_v1_moe", _EXPERTS, "experts and a shared one"),
}

TOLD = {  # of the types that other tests have, too
    "gpt2": "learned positions, LayerNorm",
    "gpt_neox": "parallel blocks, partial rotary positions",
    "gpt_neox_sequential": "blocks in sequence",
    "llama": "rotary positions, RMSNorm, a gated MLP",
    "mistral": "sliding windows",
    "qwen2": "biases of queries and keys",
    "qwen3": "norms of queries and keys",
    "gemma2": "post-norms, soft caps of attention and logits, sliding windows",
    "gemma3_text": "post-norms, sliding windows of another frequency",
    "phi3": "fused projections",
    "olmo2": "post-norms alone",
    "opt": "learned positions, ReLU",
    "opt_post_norm": "norms on the residual itself, a projection before the unembedding",
    "bloom": "ALiBi, the residual added inside the sub-blocks",
    "cohere": "parallel blocks, scaled logits",
    "granite": "scaled sub-blocks, scaled logits",
    "mixtral": "experts",
    "olmo3": "post-norms alone, sliding windows",
    "phi": "parallel blocks, a bias of the unembedding",
    "stablelm": "LayerNorm, partial rotary positions",
}

TABLE: dict[str, Special] = {
    **{name: Special(*row, TOLD[name]) for name, row in (FAMILIES | OTHERS).items()},
    **MORE,
    **HYBRIDS,
}

REFUSED: dict[str, tuple[str, dict]] = {
    "mamba": ("mamba", {"hidden_size": 32}),
    "mamba2": ("mamba2", {"hidden_size": 32, "num_heads": 8, "head_dim": 8, "n_groups": 1}),
    "falcon_mamba": ("falcon_mamba", {"hidden_size": 32}),
    "rwkv": ("rwkv", {"hidden_size": 32}),
    "t5": ("t5", {"d_model": 32, "num_layers": 2, "d_ff": 32, "num_heads": 2}),
    "bart": ("bart", {"d_model": 32}),
}
ABSENT = {
    "EXAONE 3": "its checkpoints bring code of their own, and transformers has no model type of"
    " that name; `exaone4` is above",
    "InternLM 1 and 2": "the same; `internlm3` is above",
    "Phi 4": "its checkpoints are of the type `phi3`",
    "Mistral Small, Ministral 8B": "their text models are `mistral`, `ministral` and `ministral3`",
}
