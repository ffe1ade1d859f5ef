"""A changed copy: bit-exact ways back, files that transformers loads, nothing half-written."""

from __future__ import annotations

import gc
import json
import weakref

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM

import twinlens as tl
import twinlens.change.copy
from twinlens.change.change import Assigned
from twinlens.change.delta import bits, difference, taken_back
from twinlens.change.ledger import read_ledger
from twinlens.change.noise import WeightNoise
from twinlens.change.silence import Silence
from twinlens.errors import ChangeError, InputError

IDS = torch.arange(8)[None]


def _bits(model):
    return {name: bits(p).clone() for name, p in model.hf.named_parameters()}


def _same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


_CHANGES = st.one_of(
    st.builds(WeightNoise, st.floats(1e-9, 10.0), st.integers(0, 99)),
    st.builds(
        lambda layer, neuron, factor: Silence([f"{layer}.N{neuron}"], factor=factor),
        st.integers(0, 2), st.integers(0, 47), st.floats(-2, 2),
    ),
    st.builds(lambda layer, head: Silence([f"{layer}.H{head}"]), *[st.integers(0, 2)] * 2),
    st.integers(0, 3),  # undo to one of the first steps
)  # fmt: skip


def test_a_copy_appears_with_its_changes_or_not_at_all(gpt2, tmp_path, monkeypatch):
    changes = [WeightNoise(0.1, 1), Silence(["1.N3"])]
    made = tl.Copy.create(gpt2, tmp_path / "made", changes, {"increase": 0.5})
    plain = tl.Copy.create(gpt2, tmp_path / "plain")
    for change in changes:
        plain.apply(change)
    assert _same(_bits(made.model), _bits(plain.model))
    assert [step.after for step in made.steps] == [step.after for step in plain.steps]
    assert [step.cost for step in made.steps] == [{}, {}, {"increase": 0.5}]
    apply = tl.Copy.apply

    def interrupted(copy, change, cost=None):
        if change is changes[1]:
            raise KeyboardInterrupt
        return apply(copy, change, cost)

    monkeypatch.setattr(tl.Copy, "apply", interrupted)
    with pytest.raises(KeyboardInterrupt):
        tl.Copy.create(gpt2, tmp_path / "broken", changes)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["made", "plain"]


def test_a_copy_made_with_changes_is_in_memory_once(gpt2, tmp_path, monkeypatch):
    opened, before = [], []

    def watched(path, **options):
        gc.collect()
        before.append(sum(one() is not None for one in opened))
        model = load(path, **options)
        opened.append(weakref.ref(model.hf))
        return model

    load = twinlens.change.copy.load
    monkeypatch.setattr(twinlens.change.copy, "load", watched)
    tl.Copy.create(gpt2, tmp_path / "made", [WeightNoise(0.1, 1)])
    assert before == [0, 0]


@settings(max_examples=4, deadline=None, suppress_health_check=list(HealthCheck))
@given(changes=st.lists(_CHANGES, min_size=20, max_size=20))
def test_any_earlier_step_is_given_back_bit_for_bit(changes, make_model, tmp_path_factory):
    copy = tl.Copy.create(make_model("llama"), tmp_path_factory.mktemp("copies") / "copy")
    states = [_bits(copy.model)]
    for change in changes:
        if isinstance(change, int):
            copy.undo(min(change, len(states) - 1))
        else:
            copy.apply(change)
        states.append(_bits(copy.model))
    for to in (13, 0, len(states) - 1):
        copy.undo(to)
        assert _same(_bits(copy.model), states[to])
    opened = tl.Copy.open(copy.folder)
    assert _same(_bits(opened.model), states[-1])
    assert [step.step for step in opened.steps] == list(range(24))


def test_a_difference_of_any_bits_is_taken_back():
    before = {"a": torch.randn(7, 5), "b": torch.tensor([0.0, torch.nan, 1.0]), "c": torch.ones(3)}
    after = {"a": before["a"].clone(), "b": torch.tensor([-0.0, 1.0, 1.0]), "c": torch.ones(3)}
    after["a"][3, 2] += 1
    kept = difference(before, after)
    assert set(kept) == {"a|at", "a|was", "b|all"}
    back = taken_back(after, kept, "here")
    assert all(torch.equal(bits(back[name]), bits(before[name])) for name in ("a", "b"))


@pytest.mark.parametrize("family", ["gpt2", "llama", "gemma2", "gpt_neox"])
def test_a_copy_loads_in_plain_transformers_with_the_same_logits(family, make_model, tmp_path):
    model = make_model(family)
    before = model.weights_hash()
    copy = tl.Copy.create(model, tmp_path / "copy")
    with torch.no_grad():
        for change in (
            Silence(["1.N3,0.H1,2.MLP"]),
            WeightNoise(0.1),
            Assigned({name: p * 1.5 for name, p in list(copy.model.hf.named_parameters())[:1]}),
        ):
            copy.apply(change, cost={"increase": 0.5})
            plain = AutoModelForCausalLM.from_pretrained(copy.folder)
            assert torch.equal(plain(IDS).logits, copy.model.hf(IDS).logits)
            assert not torch.equal(plain(IDS).logits, model.hf(IDS).logits)
        copy.undo(0)
        plain = AutoModelForCausalLM.from_pretrained(copy.folder)
        assert torch.equal(plain(IDS).logits, model.hf(IDS).logits)
    assert model.weights_hash() == before
    assert read_ledger(copy.folder)[2].cost == {"increase": 0.5}


def test_the_ledger_tells_what_a_step_did(make_model, tmp_path):
    copy = tl.Copy.create(make_model("gpt2"), tmp_path / "copy")
    step = copy.apply(Silence(["1.N3"]))
    assert step.change["parts"] == ["1.N3"]
    assert step.changed == copy.model.d_model  # one row of the projection
    assert 0 < step.relative < 1
    noisy = copy.apply(WeightNoise(0.05))
    assert noisy.relative == pytest.approx(0.05, rel=0.2)


@pytest.mark.parametrize("at", ["ledger", "weights"])
def test_a_step_that_is_broken_off_leaves_the_copy_as_it_was(at, make_model, tmp_path, monkeypatch):
    copy = tl.Copy.create(make_model("gpt2"), tmp_path / "copy")
    copy.apply(WeightNoise(0.01))
    before, name = copy.model.weights_hash(), {"ledger": "write_ledger", "weights": "_save_weights"}
    real, calls = getattr(twinlens.change.copy, name[at]), []

    def broken(*args):
        calls.append(1)
        if len(calls) == 1:
            raise OSError("no space left on device")
        return real(*args)

    monkeypatch.setattr(f"twinlens.change.copy.{name[at]}", broken)
    with pytest.raises(ChangeError, match="no space left"):
        copy.apply(WeightNoise(0.02))
    assert copy.model.weights_hash() == before
    opened = tl.Copy.open(copy.folder)
    assert opened.model.weights_hash() == before
    assert len(opened.steps) == 2
    assert opened.apply(WeightNoise(0.02)).step == 2


def test_a_copy_whose_process_was_killed_before_the_weights_were_written(make_model, tmp_path):
    copy = tl.Copy.create(make_model("gpt2"), tmp_path / "copy")
    weights = (copy.folder / "model.safetensors").read_bytes()
    before = copy.model.weights_hash()
    copy.apply(WeightNoise(0.02))
    (copy.folder / "model.safetensors").write_bytes(weights)  # the rename that did not happen
    opened = tl.Copy.open(copy.folder)
    assert opened.model.weights_hash() == before
    assert len(opened.steps) == 1


def test_what_is_damaged_is_told_and_nothing_is_changed(make_model, tmp_path):
    copy = tl.Copy.create(make_model("gpt2"), tmp_path / "copy")
    copy.apply(WeightNoise(0.02))
    now = copy.model.weights_hash()
    undo = copy.folder / "undo" / "0001.safetensors"
    undo.write_bytes(undo.read_bytes()[:-1] + b"\x00")
    with pytest.raises(ChangeError, match="damaged"):
        copy.undo(0)
    assert copy.model.weights_hash() == now
    assert len(copy.steps) == 2
    undo.unlink()
    with pytest.raises(ChangeError, match="cannot be read"):
        copy.undo(0)
    with pytest.raises(InputError, match="no step 7"):
        copy.undo(7)
    AutoModelForCausalLM.from_pretrained(copy.folder).half().save_pretrained(copy.folder)
    with pytest.raises(ChangeError, match="not those that the ledger ends with"):
        tl.Copy.open(copy.folder)
    for broken in ("{", json.dumps({"step": 0}), ""):
        (copy.folder / "ledger.jsonl").write_text(broken)
        with pytest.raises(ChangeError, match=r"ledger\.jsonl"):
            tl.Copy.open(copy.folder)
    with pytest.raises(ChangeError, match="no changed copy"):
        tl.Copy.open(tmp_path)
    with pytest.raises(ChangeError, match="there already"):
        tl.Copy.create(make_model("gpt2"), copy.folder)


def test_a_bias_that_the_architecture_does_not_have_is_not_saved(make_model, tmp_path):
    copy = tl.Copy.create(make_model("llama"), tmp_path / "copy")
    before = copy.model.weights_hash()
    bias = Assigned({"model.layers.1.mlp.down_proj.bias": torch.ones(32)})
    with pytest.raises(ChangeError, match=r"no model\.layers\.1\.mlp\.down_proj\.bias"):
        copy.apply(bias)
    assert copy.model.weights_hash() == before
    assert len(copy.steps) == 1
