"""Neurons of experts have names, and what cannot be done to them is refused by name."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import twinlens as tl
from tests.conftest import STORY
from twinlens.change.parts import Part, part_of
from twinlens.errors import ChangeError, InputError
from twinlens.results.units import SHARED, ExpertUnits, expert_unit

INSTEAD = tl.Replace(prompt=STORY.replace("Lily", "Paris"))


@pytest.fixture
def model(make_model) -> tl.Model:
    return make_model("qwen2_moe")


def test_numbers_and_names_lead_to_each_other():
    units = ExpertUnits(3, 5, 4)
    names = [units.name(number) for number in range(units.total)]
    assert names[:6] == ["E0.N0", "E0.N1", "E0.N2", "E0.N3", "E0.N4", "E1.N0"]
    assert names[-1] == "S.N3"
    assert [units.number(*expert_unit(name)) for name in names] == list(range(19))
    assert units.number(3, 0) is units.number(0, 5) is units.number(SHARED, 4) is None
    for name in ("3.E2.N17", "3.S.N17", "3.N17"):
        assert part_of(name.lower()).name == name
    assert part_of("3.E2.N17") == Part("neuron", 3, 17, 2)


def test_results_name_the_neurons_of_experts(model, tmp_path):
    cells = [(0, 12), (1, 17)]
    found = tl.neuron_trace(model, STORY, "Lily", cells=cells, method="exact", corruption=INSTEAD)
    name, token, effect = found.top(1)[0]
    layer, unit, *_ = found.strongest(1)[0]
    assert (
        name == found.unit_name(layer, unit) == f"{layer}.{model.experts(layer).units.name(unit)}"
    )
    assert effect == pytest.approx(np.nanmax(found.effects()))
    table = found.to_dataframe()
    row = table[(table.name == name) & (table.token == token)]
    assert row.effect.item() == pytest.approx(effect)
    found.save(tmp_path / "neurons.safetensors")
    assert tl.open_result(tmp_path / "neurons.safetensors").top(1)[0][0] == name


def test_estimates_follow_what_experts_do(model):
    guessed = tl.neuron_trace(
        model, STORY, "Lily", method="atp", corruption=INSTEAD, restored=40, metric="logit"
    )
    assert guessed.agreement["pearson"] > 0.8
    assert guessed.agreement["restored"] == 40


def test_blocks_with_other_numbers_of_neurons_stand_in_one_result(make_model):
    mixed = make_model("deepseek_v3")  # dense, then with experts
    found = tl.neuron_trace(mixed, STORY, "Lily", method="atp", corruption=INSTEAD, restored=4)
    n_dense = mixed.module("model.layers.0.mlp.down_proj").in_features
    assert np.isnan(found.scores[0, :, n_dense:]).all()
    assert np.isfinite(found.scores[0, :, :n_dense]).all()
    assert np.isfinite(found.scores[1]).all()
    assert found.scores.shape[2] == found.n_units == mixed.experts(1).units.total
    assert found.mean[0] == pytest.approx(found.effects()[0, :, :n_dense].mean(1))
    assert np.isfinite(found.max).all()
    assert np.isfinite(found.positive).all()
    assert found.unit_name(0, 3) == "0.3"


def test_the_card_of_a_neuron_of_an_expert(model):
    experts = model.module("model.layers.1.mlp.experts")
    card = tl.neuron_card(model, 1, "E2.N3", STORY)
    assert card.name == "1.E2.N3"
    assert card.norm == pytest.approx(float(experts.down_proj[2, :, 3].detach().norm()), rel=1e-5)
    assert card.activations.shape == (18,)
    shared = model.module("model.layers.1.mlp.shared_expert.down_proj").weight[:, 3].detach()
    assert tl.neuron_card(model, 1, "S.N3").norm == pytest.approx(float(shared.norm()), rel=1e-5)


def test_both_at_once_and_a_fraction(model):
    """Parts of one block share its tensors."""
    values = tl.Silence("1.E0.N1,1.E2.N3,1.S.N0", factor=0.5).values(model)
    experts = model.module("model.layers.1.mlp.experts").down_proj.detach()
    changed = values["model.layers.1.mlp.experts.down_proj"]
    torch.testing.assert_close(changed[0, :, 1], experts[0, :, 1] / 2)
    torch.testing.assert_close(changed[2, :, 3], experts[2, :, 3] / 2)
    assert int((changed != experts).any(1).sum()) == 2
    assert values.keys() == {
        "model.layers.1.mlp.experts.down_proj", "model.layers.1.mlp.shared_expert.down_proj.weight"
    }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "part", "said"),
    [
        (
            "qwen2_moe",
            "1.N3",
            "1.N3: block 1 of .* has experts E0 to E3 with neurons N0 to N11, and",
        ),
        ("qwen2_moe", "1.E4.N0", "has experts E0 to E3"),
        ("qwen2_moe", "1.E0.N12", "neurons N0 to N11"),
        ("qwen3_moe", "1.S.N0", "with neurons N0 to N11"),
        ("deepseek_v3", "0.E0.N0", "block 0 of .* has no experts"),
        ("qwen2_moe", "1.E2", "no part of a model"),
    ],
)
def test_neurons_that_are_not_there_are_refused(make_model, name, part, said):
    with pytest.raises(InputError, match=said):
        tl.silence(make_model(name), part)


def test_what_experts_cannot_have_is_refused(model):
    with pytest.raises(ChangeError, match="has no place in the weights of experts"):
        tl.silence(model, "1.E2.N3", to="mean", text="no/such/file")  # before it is read
    assert tl.zero_weights(model, 0.1, by="magnitude").plain()["kept"].endswith("of experts")
    with pytest.raises(ChangeError, match="block 0 has 4 experts, and a shrunk model has one"):
        tl.shrink(model)
    with pytest.raises(ChangeError, match="block 1 has experts, no one projection by which"):
        tl.key_covariance(model, 1, [STORY])
    with pytest.raises(ChangeError, match="block 1 has experts, no one projection by which"):
        tl.fine_tune(model, STORY, "Lily", " to", layer=1)
    with pytest.raises(ChangeError, match="block 0 has experts"):
        tl.use_map(model, [STORY])
    with pytest.raises(InputError, match="no rules for experts"):
        tl.neuron_trace(model, STORY, "Lily", method="relp")
    for name in ("E9.N0", "N3"):
        with pytest.raises(InputError):
            tl.neuron_card(model, 1, name)
