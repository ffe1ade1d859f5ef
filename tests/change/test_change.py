import pytest
import torch

import twinlens as tl
from tests.conftest import FAMILIES
from twinlens.change.change import Assigned, changed
from twinlens.change.parts import Part, inputs_of, n_parts, part_of, parts_of, projection
from twinlens.errors import ChangeError, InputError


def _bytes(model):
    return {n: t.detach().clone().view(torch.int32) for n, t in model.hf.named_parameters()}


@pytest.mark.parametrize("text", ["3.N17", "4.H2", "5.MLP", "0.ATTN"])
def test_a_name_is_read_back(text):
    assert part_of(text).name == text


@pytest.mark.parametrize("text", ["3", "3.17", "N17", "3.N", "3.X1", "-1.N1", "", "3.MLP2"])
def test_what_is_no_part_is_refused(text):
    with pytest.raises(InputError, match="no part of a model"):
        part_of(text)


def test_several_parts_each_once():
    assert parts_of(["1.N2, 0.h3", "1.N2"]) == (Part("neuron", 1, 2), Part("head", 0, 3))


@pytest.mark.parametrize("family", FAMILIES)
def test_the_parts_of_a_layer_cover_its_projection_once(family, make_model):
    model = make_model(family)
    for kind, whole in (("neuron", "mlp"), ("head", "attn")):
        every = [
            i for n in range(n_parts(model, kind, 1)) for i in inputs_of(model, Part(kind, 1, n))
        ]
        assert every == inputs_of(model, Part(whole, 1)).tolist()
        assert len(every) == projection(model, kind, 1).by_input.shape[0]


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_what_a_projection_writes_is_its_inputs_times_its_rows(family, make_model):
    part = projection(make_model(family), "neuron", 0)
    x = torch.randn(3, part.by_input.shape[0])
    bias = 0 if part.bias is None else part.bias
    torch.testing.assert_close(part.module(x), x @ part.by_input + bias)


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_changed_weights_come_back_bit_for_bit(family, make_model):
    model = make_model(family)
    before, hash_before = _bytes(model), model.weights_hash()
    part = projection(model, "neuron", 1)
    new = {part.weight_name: torch.randn_like(part.weight)}
    new[part.bias_name] = torch.randn(model.d_model)  # Llama has none: it is added for a while

    def stopped_on_the_way():
        with changed(model, Assigned(new)):
            assert torch.equal(part.weight, new[part.weight_name])
            assert model.weights_hash() != hash_before
            raise RuntimeError("on the way")

    with pytest.raises(RuntimeError, match="on the way"):
        stopped_on_the_way()
    after = _bytes(model)
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert model.weights_hash() == hash_before


@pytest.mark.parametrize(
    ("name", "tensor"),
    [
        ("lm_head.nothing", torch.zeros(1)),
        ("nowhere.weight", torch.zeros(1)),
        ("transformer.ln_f.weight", torch.zeros(3)),
        ("transformer.ln_f.weight", torch.zeros(32, dtype=torch.float64)),
        ("transformer.ln_f.weight", torch.full((32,), torch.nan)),
    ],
)
def test_a_change_that_does_not_fit_changes_nothing(name, tensor, make_model):
    model = make_model("gpt2")
    before = model.weights_hash()
    new = {"transformer.ln_f.bias": torch.ones(32), name: tensor}
    with pytest.raises(ChangeError), changed(model, Assigned(new)):
        pass
    assert model.weights_hash() == before


def test_a_layer_beyond_the_model_is_refused(make_model):
    from twinlens.change.parts import refuse_missing

    model = make_model("llama")
    for part in (Part("head", 3), Part("head", 0, 4), Part("neuron", 0, 48)):
        with pytest.raises(InputError, match=part.name):
            refuse_missing(model, [part])
    refuse_missing(model, [Part("head", 2, 3), Part("neuron", 0, 47), Part("mlp", 1)])


def test_changes_are_part_of_the_public_face():
    assert tl.changed is changed
    assert tl.Assigned is Assigned
