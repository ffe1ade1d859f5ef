"""Which kinds of model are no decoder with attention, and what is inside a wrapper of one."""

from __future__ import annotations

from typing import Any

from twinlens.errors import LoadError

_STATE = ("state_size", "ssm_state_size", "mamba_d_state", "attention_hidden_size")
"""Fields by which a configuration without attention tells the size of its recurrent state."""


_BESIDE = {
    "hidden_size_per_layer_input": "embeddings of the tokens for each block",
    "num_mem_blocks": "the embeddings, which enter every shared block",
    "num_kv_shared_layers": "keys and values that later blocks take from earlier ones",
}


def beside(config: Any) -> str | None:
    """What a configuration says goes to blocks beside the residual (Gemma 4, Zamba 2), in words."""
    told = [words for field, words in _BESIDE.items() if getattr(config, field, None)]
    return ", and ".join(told) or None


def refuse_other_kinds(config: Any) -> None:
    """Raise `LoadError` for an encoder-decoder, and for a model without attention."""
    text = config.get_text_config()
    kind = str(text.model_type)
    if getattr(config, "is_encoder_decoder", False):
        raise LoadError(
            f"{kind} is an encoder-decoder: its answer depends on a second stack of blocks through"
            " cross-attention, so there is no one grid of layers and tokens; twinlens reads"
            " decoders (causal language models)"
        )
    if getattr(text, "num_attention_heads", None) is not None:
        return
    if any(getattr(text, field, None) is not None for field in _STATE):
        raise LoadError(
            f"{kind} is a state-space (recurrent) model: its blocks have no attention and hand a"
            " state of their own from token to token, which is no residual, head, or key and value"
            " that twinlens could restore; it reads decoders with attention"
        )
    raise LoadError(
        f"the configuration of {kind} has no `num_attention_heads`: it has no attention that"
        " twinlens knows"
    )


def unwrapped(hf: Any) -> Any:
    """The model inside a PEFT wrapper; its adapters stay where they are, in its layers.

    Raises `LoadError` for adapters that are no part of the layers (prompt and prefix tuning).
    """
    if not hasattr(hf, "get_base_model"):
        return hf
    if any(config.is_prompt_learning for config in hf.peft_config.values()):
        kinds = {str(config.peft_type).rpartition(".")[2] for config in hf.peft_config.values()}
        raise LoadError(
            f"a PEFT adapter of kind {', '.join(sorted(kinds))} puts tokens of its own before the"
            " prompt, which have no place on the grid; adapters inside the layers (LoRA) are read"
        )
    return hf.get_base_model()
