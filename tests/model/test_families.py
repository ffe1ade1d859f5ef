"""Every model type of the table: what twinlens says of it agrees with hooks written by hand."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

import twinlens as tl
from tests.conftest import STORY
from tests.families_ import TABLE
from tests.families_page import PAGE, page, refusals, row_of
from twinlens.errors import ReplayError
from twinlens.results.units import SHARED, expert_unit
from twinlens.run.check import checked

OTHER = STORY.replace("Lily", "Paris")  # as many tokens, another one in the place of one
INSTEAD = tl.Replace(prompt=OTHER)
TOKEN = 12  # where both differ
ENGINES: dict[int, tuple[str, str]] = {}  # by model, which the session keeps


@pytest.fixture(params=list(TABLE))
def model(request, make_model) -> tl.Model:
    return make_model(request.param)


def _ids(model, text=STORY):
    return torch.from_numpy(model.encode(text).ids)[None]


def _logits(hf, ids):
    with torch.no_grad():
        return hf(ids).logits[0].float()


def _answers(hf, ids, answer):
    return float(_logits(hf, ids)[-1].softmax(-1)[answer])


def test_the_lens_ends_with_the_models_own_logits(model):
    report = checked(model)
    assert report.passed, report.failed()
    lens = tl.logit_lens(model, STORY, top_k=model.n_vocab)
    own = _logits(model.hf, _ids(model)).double().numpy()
    found = np.empty_like(own)
    np.put_along_axis(found, lens.top_ids[-1], lens.top_logits[-1], axis=-1)
    np.testing.assert_allclose(found, own, atol=1e-4, rtol=1e-4)


def test_a_trace_by_the_replay_is_that_of_whole_passes(model):
    """And the state of the one corrupted token brings everything back."""
    for kind in ("block", *(k for k in model.site_kinds if k == "head")):
        plain, fast = (_trace(model, kind, engine) for engine in ("hooks", engine_of(model)[0]))
        assert np.abs(plain.samples - fast.samples).max() < 1e-5
        assert np.abs(fast.effects()).max() > 1e-6
        for prompt, score in ((STORY, plain.clean), (OTHER, plain.corrupted)):
            by_hand = _answers(model.hf, _ids(model, prompt), plain.answer)
            assert score == pytest.approx(by_hand, abs=1e-5)
        if kind == "block":
            assert fast.scores[0, TOKEN] == pytest.approx(fast.clean, abs=1e-5)
            assert fast.scores[-1, -1] == pytest.approx(fast.clean, abs=1e-5)


def _trace(model, kind, engine):
    return tl.causal_trace(model, STORY, "Lily", kind=kind, corruption=INSTEAD, engine=engine)


def engine_of(model) -> tuple[str, str]:
    """Which engine to ask for, and why where it is not the replay."""
    if id(model.hf) not in ENGINES:
        ENGINES[id(model.hf)] = _engine_of(model)
    return ENGINES[id(model.hf)]


def _engine_of(model) -> tuple[str, str]:
    try:
        _trace(model, "block", "replay")
        return "replay", ""
    except ReplayError as error:
        why = str(error)
    auto = _trace(model, "block", "auto")
    assert auto.settings["engine"] == "hooks"
    assert any("engine: hooks, since" in note and why in note for note in auto.notes)
    return "auto", why.partition(": ")[2]


def test_a_neuron_restored_by_hand_has_the_effect_of_the_trace(model):
    if not model.anatomy.has("neuron"):
        pytest.skip(f"{model.anatomy.family}: its neurons are not found")
    cells = [(layer, TOKEN) for layer in range(model.n_layers)]
    units = tl.neuron_trace(
        model, STORY, "Lily", cells=cells, method="exact", corruption=INSTEAD,
        engine=engine_of(model)[0],
    )  # fmt: skip
    largest = np.nan_to_num(np.abs(units.effects()[:, TOKEN]))
    assert largest.max() > 1e-7
    for layer in range(model.n_layers):
        mixture = model.experts(layer)
        groups = [slice(None)]
        if mixture is not None and mixture.units.shared:
            groups = [slice(0, mixture.units.routed), slice(mixture.units.routed, None)]
        for group in groups:
            unit = int(largest[layer, group].argmax()) + (group.start or 0)
            by_hand = _restored(model, layer, units.unit_name(layer, unit), units.answer)
            assert units.scores[layer, TOKEN, unit] == pytest.approx(by_hand, abs=1e-5)


def _restored(model, layer, name, answer) -> float:
    """The answer's probability in the other prompt, with one neuron as it is in the clean one."""
    of_expert = expert_unit(name.partition(".")[2])
    block = model.blocks[layer]
    if of_expert is not None and of_expert[0] != SHARED:
        module, put = block.get_submodule(model.anatomy.experts), _expert_put(*of_expert)
        hook = module.register_forward_hook
    else:
        path = model.anatomy.neurons if of_expert is None else model.anatomy.shared
        number = int(name.partition(".")[2]) if of_expert is None else of_expert[1]
        module, put = block.get_submodule(path), _plain_put(number)
        hook = module.register_forward_pre_hook
    clean = {}
    handle = hook(lambda *call: put(clean, *call))
    _logits(model.hf, _ids(model))
    assert "value" in clean
    found = _answers(model.hf, _ids(model, OTHER), answer)
    handle.remove()
    return found


def _plain_put(number):
    """Keep a neuron's value in the first pass and put it there in the second."""

    def put(clean, _module, args):
        rows = args[0].clone().reshape(-1, args[0].shape[-1])
        if "value" not in clean:
            clean["value"] = rows[TOKEN, number].clone()
            return None
        rows[TOKEN, number] = clean["value"]
        return (rows.view(args[0].shape), *args[1:])

    return put


def _expert_put(expert, number):
    """The same for what a neuron of an expert puts into the output, reckoned for one token."""

    def put(clean, module, args, made):
        value = _expert_value(module, args, expert, number)
        if "value" not in clean:
            clean["value"] = value
            return None
        down = module.down_proj[expert]
        row = down[number] if down.shape[0] != made.shape[-1] else down[:, number]
        place = TOKEN
        if len(args) == 1:  # rows for each expert
            place += expert * (len(made) // len(module.down_proj))
        changed = made.clone()
        changed[place] += (clean["value"] - value) * row
        return changed

    return put


def _expert_value(module, args, expert, number) -> torch.Tensor:
    """Activation times the router's weight: nothing where the expert is not chosen."""
    states, weight = args[0], None
    if len(args) == 1:  # scaled by the router already, for all experts one after the other
        x, weight = states.view(len(module.down_proj), -1, states.shape[-1])[expert, TOKEN], 1.0
    else:
        x = states[TOKEN]
        for place, chosen in enumerate(args[1][TOKEN].tolist()):
            weight = args[2][TOKEN, place] if chosen == expert else weight
    if weight is None:
        return torch.zeros(())
    up = module.gate_up_proj[expert]
    made = x @ up if up.shape[0] == len(x) else up @ x
    if hasattr(module, "gate_up_proj_bias"):  # gpt-oss: interleaved, clamped, plus one
        made = made + module.gate_up_proj_bias[expert]
        gate, value = made[::2].clamp(max=module.limit), made[1::2]
        value = value.clamp(-module.limit, module.limit) + 1
        gate = gate * torch.sigmoid(module.alpha * gate)
    else:
        gate, value = made.chunk(2)
        gate = module.act_fn(gate)
    return (gate * value)[number] * weight


def test_silenced_weights_are_weights_set_to_zero_by_hand(model):
    last, before = model.n_layers - 1, _logits(model.hf, _ids(model))
    hash_before = model.weights_hash()
    for part in _parts(model, last):
        with tl.changed(model, tl.Silence(part)):
            silenced = _logits(model.hf, _ids(model))
        expected = _logits(_zeroed(model, last, part), _ids(model))
        torch.testing.assert_close(silenced, expected, atol=1e-5, rtol=1e-5)
        if not part[-1].isdigit() or ".H" in part:  # one neuron may be silent on a story
            assert float((silenced - before).abs().max()) > 1e-6, part
    assert model.weights_hash() == hash_before


def _parts(model, layer):
    mixture = model.experts(layer)
    if model.anatomy.has("neuron"):
        names = [f"{layer}.N3"]
        if mixture is not None:
            names = [f"{layer}.E{_busiest(model, layer)}.N3"]
            names += [f"{layer}.S.N3"] if mixture.units.shared else []
        yield from (*names, f"{layer}.MLP")
    if model.anatomy.has("head"):
        yield f"{layer}.H1"


def _busiest(model, layer) -> int:
    """The expert whose neurons are active most often on the story."""
    mixture, kept = model.experts(layer), []
    handle = mixture.module.register_forward_hook(lambda m, args, made: kept.append(args))
    _logits(model.hf, _ids(model))
    handle.remove()
    values = mixture.values(kept[0]).unflatten(1, (mixture.units.experts, -1))
    return int((values != 0).any(2).sum(0).argmax())


def _zeroed(model, layer, part):
    """A copy whose weights of this part are zero."""
    hf = copy.deepcopy(model.hf)
    block = hf.get_submodule(model.anatomy.blocks)[layer]
    mixture, name = model.experts(layer), part.partition(".")[2]
    with torch.no_grad():
        if name.startswith("H"):
            module = block.get_submodule(model.anatomy.heads)
            width = _inputs(module).shape[0] // model.n_heads
            _inputs(module)[width : 2 * width] = 0
        elif mixture is None:
            module = block.get_submodule(model.anatomy.neurons)
            _inputs(module)[slice(None) if name == "MLP" else 3] = 0
            if name == "MLP" and module.bias is not None:
                module.bias.zero_()
        if mixture is not None and not name.startswith("H"):
            experts = block.get_submodule(model.anatomy.experts)
            if name == "MLP":
                for key in ("down_proj", "down_proj_bias"):
                    if hasattr(experts, key):
                        getattr(experts, key).zero_()
            if name.startswith("E"):
                down = experts.down_proj[int(name[1 : name.index(".")])]
                (down if down.shape[1] == model.d_model else down.T)[3] = 0
            if mixture.shared is not None and name[0] in "SM":
                shared = _inputs(block.get_submodule(model.anatomy.shared))
                shared[slice(None) if name == "MLP" else 3] = 0
    return hf


def _inputs(module):
    """The weight as [input, output]."""
    return module.weight if type(module).__name__ == "Conv1D" else module.weight.T


def test_the_page_says_what_was_found(request, make_model, tokenizer, tmp_path):
    rows = [row_of(name, made := make_model(name), engine_of(made)[1]) for name in TABLE]
    made = page(rows, refusals(tmp_path, tokenizer))
    if request.config.getoption("--write-families"):
        PAGE.write_text(made, encoding="utf-8")
    assert PAGE.read_text(encoding="utf-8") == made, (
        "docs/families.md is not what was found; write it anew with --write-families"
    )
