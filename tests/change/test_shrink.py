"""What is narrower computes the same, and plain transformers loads it."""

from __future__ import annotations

import copy
import json

import numpy as np
import pytest
import torch
from torch import nn
from transformers import AutoModelForCausalLM

import twinlens as tl
from tests.conftest import FAMILIES, STORY
from twinlens.change.parts import projection
from twinlens.change.shrink import shrink
from twinlens.change.silence import Silence
from twinlens.errors import ChangeError

# by family: the name of the width in the config
WIDTHS = dict.fromkeys(FAMILIES, "intermediate_size") | {
    "gpt2": "n_inner", "opt": "ffn_dim", "opt_post_norm": "ffn_dim",
}  # fmt: skip


def _silenced(model, left):
    """So many neurons of each layer are left, drawn at random."""
    width = projection(model, "neuron", 0).by_input.shape[0]
    random, names, alive = np.random.default_rng(3), [], []
    for layer, count in enumerate(left):
        order = random.permutation(width)
        alive.append(set(order[:count].tolist()))
        names += [f"{layer}.N{number}" for number in order[count:]]
    return Silence(names), alive, width


def _logits(hf, model):
    ids = torch.from_numpy(model.encode(STORY).ids)[None]
    with torch.no_grad():
        return hf(ids).logits[0]


@pytest.mark.parametrize("name", list(FAMILIES))
def test_the_logits_stay_and_plain_transformers_loads_them(name, make_model, tmp_path):
    model = make_model(name)
    untouched = model.weights_hash()
    silenced, alive, width = _silenced(model, (9, 21, 4))
    with tl.changed(model, silenced):
        expected = _logits(model.hf, model)
        made = shrink(model)
    assert model.weights_hash() == untouched
    assert made.width == (width, 21)
    assert made.alive == (9, 21, 4)
    for living, kept in zip(alive, made.kept.tolist(), strict=True):
        assert living <= set(kept)
        assert kept == sorted(set(kept))
    per_neuron = 32 * (2 if name.startswith(("gpt", "opt")) else 3)
    per_neuron += name.startswith(("gpt", "opt"))  # its bias
    assert made.parameters[0] - made.parameters[1] == 3 * (width - 21) * per_neuron
    got = _logits(made.model.hf, model)
    torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-5 * float(expected.abs().max()))

    made.save(tmp_path / "new")
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "new").eval()
    assert type(loaded) is type(model.hf)
    assert torch.equal(_logits(loaded, model), got)
    config = json.loads((tmp_path / "new" / "config.json").read_text("utf-8"))
    assert config[WIDTHS[name]] == 21


def test_what_was_saved_can_be_looked_into(make_model, tmp_path):
    model = make_model("phi3")
    with tl.changed(model, _silenced(model, (9, 21, 4))[0]):
        made = shrink(model)
    assert made.save(tmp_path / "new") == tmp_path / "new"
    assert tl.check(tl.load(tmp_path / "new")).passed


def test_the_width_is_rounded_up_and_never_grows(make_model):
    model = make_model("llama")
    silenced, _, width = _silenced(model, (9, 21, 4))
    with tl.changed(model, silenced):
        assert shrink(model, multiple=8).width == (width, 24)
        assert shrink(model, multiple=40).width == (width, 40)
        assert shrink(model, multiple=64).width == (width, width)
    with tl.changed(model, Silence(["0.MLP", "1.MLP", "2.MLP"])):
        assert shrink(model).width == (width, 1)


def test_a_model_without_dead_neurons_stays_as_wide(make_model):
    model = make_model("gpt2")
    made = shrink(model)
    assert made.width == (128, 128)
    assert made.parameters[0] == made.parameters[1]
    assert torch.equal(_logits(made.model.hf, model), _logits(model.hf, model))


def test_weights_and_their_numbers_belong_together(make_model):
    model = make_model("qwen3")
    silenced, _, _ = _silenced(model, (9, 21, 5))
    with tl.changed(model, silenced):
        made = shrink(model)
        for layer, kept in enumerate(made.kept):
            wide, narrow = (projection(m, "neuron", layer).by_input for m in (model, made.model))
            assert torch.equal(wide[kept], narrow)


@pytest.mark.parametrize("name", ["bloom", "cohere"])
def test_a_family_that_is_not_known_is_refused(name, make_model):
    with pytest.raises(ChangeError, match=f"family '{name}' is not known"):
        shrink(make_model(name))


def test_an_mlp_that_is_not_the_family_s_is_refused(make_model):
    model = make_model("opt")
    for path, made, said in (
        ("fc1", nn.Identity(), "gives no plain outputs"),
        ("fc1", nn.Linear(32, 47), "gives 47 outputs for 48 neurons"),
        ("fc2", nn.Linear(47, 32), "one width"),
    ):
        hf = copy.deepcopy(model.hf)
        setattr(hf.model.decoder.layers[1], path, made)
        with pytest.raises(ChangeError, match=said):
            shrink(tl.load(hf, tokenizer=model.tokenizer))


def test_a_bias_that_the_config_does_not_have_is_refused(make_model):
    model = make_model("llama")
    with (
        tl.changed(model, tl.silence(model, "1.N3", to="mean", text=[STORY])),
        pytest.raises(ChangeError, match=r"down_proj\.bias is not as the config says"),
    ):
        shrink(model)
    gpt2 = make_model("gpt2")  # there it has one, which stays
    with tl.changed(gpt2, tl.silence(gpt2, "1.N3", to="mean", text=[STORY])):
        shrink(gpt2)


def test_a_folder_that_holds_something_is_left_alone(make_model, tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(ChangeError, match="there already"):
        shrink(make_model("gpt2")).save(tmp_path)
    with pytest.raises(ChangeError, match="cannot write"):
        shrink(make_model("gpt2")).save(tmp_path / "mine.txt" / "new")
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
