"""More of the table of model types: blocks in which tokens are mixed in other ways than attention,
and blocks that take more than the residual."""

from __future__ import annotations

from typing import Any, NamedTuple

COMMON: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 128,
}
_COMMON = COMMON | {"sliding_window": 6}
EXPERTS = {
    "num_experts": 4,
    "num_local_experts": 4,
    "num_experts_per_tok": 2,
    "intermediate_size": 24,
    "moe_intermediate_size": 12,
}
_EXPERTS = _COMMON | EXPERTS
GROUPS = {"n_group": 2, "topk_group": 1, "first_k_dense_replace": 1}
LATENT = {
    "num_key_value_heads": 4,
    "kv_lora_rank": 8,
    "q_lora_rank": 16,
    "qk_nope_head_dim": 8,
    "qk_rope_head_dim": 4,
    "head_dim": 4,
    "v_head_dim": 8,
    "n_shared_experts": 1,
}
_LATENT = _EXPERTS | GROUPS | LATENT | {"num_hidden_layers": 2}
_MAMBA = {
    "mamba_d_state": 8,
    "mamba_expand": 2,
    "mamba_n_heads": 8,
    "mamba_d_head": 8,
    "mamba_n_groups": 1,
    "mamba_chunk_size": 8,
    "use_mamba_kernels": False,
}
_LINEAR = {
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "layer_types": ["linear_attention", "full_attention", "linear_attention"],
}
_GEMMA_4 = {
    "global_head_dim": 8,
    "layer_types": ["sliding_attention", "full_attention", "full_attention"],
    "hidden_size_per_layer_input": 0,
    "num_kv_shared_layers": 0,
    "final_logit_softcapping": 3.0,
}
_BESIDE = {
    "num_hidden_layers": 4,
    "layer_types": ["sliding_attention", "full_attention"] * 2,
    "hidden_size_per_layer_input": 8,
    "vocab_size_per_layer_input": 400,
    "num_kv_shared_layers": 2,
}


class Special(NamedTuple):
    """A model type, its settings, and what is special about it."""

    model_type: str
    settings: dict[str, Any]
    special: str


HYBRIDS: dict[str, Special] = {
    "jamba": Special(
        "jamba",
        _EXPERTS
        | _MAMBA
        | {
            "mamba_dt_rank": 4,
            "attn_layer_period": 2,
            "attn_layer_offset": 1,
            "expert_layer_period": 2,
            "expert_layer_offset": 1,
        },
        "hybrid: Mamba and attention in turn, experts in every second block",
    ),
    "zamba2": Special(
        "zamba2",
        _COMMON
        | {
            "num_key_value_heads": 4,
            "head_dim": None,
            "num_hidden_layers": 4,
            "layers_block_type": ["mamba", "hybrid", "mamba", "hybrid"],
            "mamba_d_state": 8,
            "n_mamba_heads": 8,
            "chunk_size": 8,
            "use_mamba_kernels": False,
        },
        "hybrid: Mamba 2, and a shared block that also takes the embeddings",
    ),
    "falcon_h1": Special(
        "falcon_h1",
        _COMMON | _MAMBA | {"num_hidden_layers": 2, "mamba_d_ssm": 64},
        "hybrid: Mamba 2 and attention side by side",
    ),
    "granitemoehybrid": Special(
        "granitemoehybrid",
        _EXPERTS
        | _MAMBA
        | {
            "layer_types": ["mamba", "attention", "mamba"],
            "shared_intermediate_size": 16,
            "residual_multiplier": 0.5,
        },
        "hybrid: Mamba 2 and attention, experts and shared ones, scaled sub-blocks",
    ),
    "lfm2": Special(
        "lfm2",
        _COMMON | {"layer_types": ["conv", "full_attention", "conv"], "block_multiple_of": 8},
        "hybrid: short convolutions and attention",
    ),
    "minimax": Special(
        "minimax",
        _EXPERTS | {"layer_types": _LINEAR["layer_types"], "block_size": 8},
        "hybrid: lightning attention and attention, experts, scaled norms",
    ),
    "qwen3_next_hybrid": Special(
        "qwen3_next",
        _EXPERTS | _LINEAR | {"shared_expert_intermediate_size": 16},
        "hybrid: gated delta nets and gated attention, experts",
    ),
    "recurrent_gemma": Special(
        "recurrent_gemma",
        _COMMON
        | {
            "attention_window_size": 6,
            "lru_width": 32,
            "block_types": ["recurrent", "attention"],
            "logits_soft_cap": 3.0,
        },
        "hybrid: gated recurrences and local attention, soft caps",
    ),
    "nemotron_h": Special(
        "nemotron_h",
        _COMMON
        | {
            "num_hidden_layers": None,
            "layers_block_type": ["mamba", "attention", "mlp"],
            "ssm_state_size": 8,
            "mamba_num_heads": 8,
            "mamba_head_dim": 8,
            "n_groups": 1,
            "chunk_size": 8,
            "use_mamba_kernels": False,
        },
        "hybrid: blocks of Mamba 2, of attention or of an MLP alone",
    ),
    "kimi_linear": Special(
        "kimi_linear",
        _LATENT
        | {
            "layer_types": ["linear_attention", "full_attention"],
            "linear_head_dim": 8,
            "linear_num_heads": 2,
        },
        "hybrid: Kimi delta attention with other heads, latent attention, experts",
    ),
    "gemma4_text": Special(
        "gemma4_text",
        _COMMON | _GEMMA_4,
        "post-norms, scaled blocks, soft caps of logits, sliding windows",
    ),
    "gemma4_text_moe": Special(
        "gemma4_text",
        _EXPERTS | _GEMMA_4 | {"enable_moe_block": True, "top_k_experts": 2},
        "the same with experts beside the MLP",
    ),
    "gemma4_text_beside": Special(
        "gemma4_text",
        _COMMON | _GEMMA_4 | _BESIDE,
        "the same with embeddings for each block, and keys and values from earlier blocks",
    ),
}

UNREAD: dict[str, Special] = {
    "gemma3n_text": Special(
        "gemma3n_text",
        _COMMON
        | _GEMMA_4
        | _BESIDE
        | {"altup_num_inputs": 4, "laurel_rank": 8, "activation_sparsity_pattern": [0.0] * 4},
        "several residual streams",
    ),
}

HOOKED = HYBRIDS.keys() - {"gemma4_text", "gemma4_text_moe"}
"""Where the replay does not serve: states of a block's own, and keys and values from elsewhere."""
