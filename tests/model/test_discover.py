from __future__ import annotations

import numpy as np
from transformers import AutoConfig, AutoModelForCausalLM

import twinlens as tl
from tests.conftest import STORY
from tests.families_ import TABLE
from twinlens.model.discover import discover
from twinlens.model.model import Model


def test_structure_shows_what_the_table_says(family):
    found, row = discover(family.hf), family.anatomy
    assert (found.embed, found.blocks, found.unembed) == (row.embed, row.blocks, row.unembed)
    there = tuple(path for path in row.tail if _exists(family, path))
    assert found.tail == there
    if row.adds_up:
        assert (found.heads, found.neurons) == (row.heads, row.neurons)
    again = tl.load(family.hf, tokenizer=family.tokenizer, anatomy=found)
    assert tl.check(again).passed
    assert np.allclose(
        tl.logit_lens(again, STORY).logits, tl.logit_lens(family, STORY).logits, atol=1e-5
    )


def test_a_decoder_beside_towers_of_images_is_found_by_its_row(tokenizer):
    """As checkpoints of Gemma 4 are loaded; without its row the sub-blocks would not be found."""
    text = {k: v for k, v in TABLE["gemma4_text"].settings.items() if v is not None}
    hf = AutoModelForCausalLM.from_config(
        AutoConfig.for_model(
            "gemma4",
            text_config=text | {"vocab_size": len(tokenizer), "pad_token_id": 0},
            vision_config={"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2},
            audio_config=None,
        )
    )
    model = tl.load(hf, tokenizer=tokenizer)
    assert type(hf).__name__ == "Gemma4ForConditionalGeneration"
    assert model.anatomy.blocks == "model.language_model.layers"
    assert model.anatomy.has("mlp")
    assert model.anatomy.has("attn")
    assert tl.check(model).passed


def _exists(model: Model, path: str) -> bool:
    from twinlens.model.model import find_module

    return find_module(model.hf, path) is not None
