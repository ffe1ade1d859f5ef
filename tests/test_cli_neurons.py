"""Neurons on the command line: those of a look, and the card of one."""

from __future__ import annotations

import json

import pytest

import twinlens as tl
from tests.conftest import SAMPLES, STORY


def test_look_with_neurons(run, tmp_path):
    code, output, messages = run(
        "look", STORY, "-m", "MODEL", "-s", "Lily", *SAMPLES, "--neurons", "--save", "kept",
        "--reduce", "max",
    )  # fmt: skip
    assert code == 0, messages
    assert "neurons: max of each layer" in output
    made = tl.open_result(tmp_path / "kept" / "neurons.safetensors")
    assert isinstance(made, tl.NeuronResult)
    assert run("draw", "kept/neurons.safetensors", "--reduce", "joint")[0] == 0


def test_neurons_need_a_subject(run):
    code, _, messages = run("look", STORY, "-m", "MODEL", "--neurons")
    assert code == 2
    assert "--neurons is about the trace" in messages


def test_neuron_prints_its_card(run):
    code, output, _ = run("neuron", "MODEL", "1.7", "--prompt", STORY, "--top-k", 3)
    assert code == 0
    assert "neuron 1.7" in output
    assert "activation along the prompt" in output
    code, output, messages = run("neuron", "MODEL", "1.7", "--json")
    card = json.loads(output)
    assert (card["layer"], card["neuron"], len(card["promoted"])) == (1, 7, 10)
    assert messages == ""


@pytest.mark.parametrize(("name", "says"), [("7", "no neuron"), ("9.1", "layer 9"), ("1.99", "99")])
def test_a_neuron_that_is_not_there(run, name, says):
    code, _, messages = run("neuron", "MODEL", name)
    assert code == 2
    assert says in messages


def test_how_neurons_are_traced_needs_neurons(run):
    code, _, messages = run("look", STORY, "-m", "MODEL", "-s", "Lily", "--method", "atp")
    assert code == 2
    assert "give --neurons" in messages
