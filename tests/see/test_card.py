"""The card of a neuron, against the weights themselves."""

from __future__ import annotations

import pytest
import torch

import twinlens as tl
from tests.conftest import STORY
from twinlens.errors import InputError
from twinlens.see.card import neuron_name


def test_promoted_and_suppressed_are_the_row_through_the_unembedding(make_model):
    model = make_model("llama")
    card = tl.neuron_card(model, 1, 7, top_k=4)
    with torch.no_grad():
        row = model.hf.model.layers[1].mlp.down_proj.weight[:, 7]
        logits = model.hf.lm_head(model.hf.model.norm(row))
    order = logits.argsort(descending=True)
    assert [i for i, *_ in card.promoted] == order[:4].tolist()
    assert [i for i, *_ in card.suppressed] == order.flip(0)[:4].tolist()
    assert card.promoted[0][2] == pytest.approx(float(logits.max()), abs=1e-4)
    assert card.promoted[0][1] == model.label(card.promoted[0][0])
    assert card.norm == pytest.approx(float(row.norm()), abs=1e-5)
    assert card.activations is None


def test_activations_are_the_inputs_of_the_down_projection(gpt2):
    card = tl.neuron_card(gpt2, 2, 100, STORY)
    kept = []
    handle = gpt2.hf.transformer.h[2].mlp.c_proj.register_forward_pre_hook(
        lambda _m, args: kept.append(args[0][0, :, 100])
    )
    with torch.no_grad():
        gpt2.hf(torch.from_numpy(gpt2.encode(STORY).ids)[None])
    handle.remove()
    assert card.activations == pytest.approx(kept[0].numpy(), abs=1e-6)
    assert len(card.to_dict()["activations"]) == len(gpt2.encode(STORY))


def test_every_family_has_cards(family):
    card = tl.neuron_card(family, 0, 3, top_k=2)
    assert card.promoted[0][2] > 0 > card.suppressed[0][2]


@pytest.mark.parametrize("text", ["4", "4.", ".3", "a.b", "1.2.3", "-1.2", ""])
def test_a_name_that_is_no_neuron(text):
    with pytest.raises(InputError, match=r"e\.g\. 4\.112"):
        neuron_name(text)
