"""Every model type of the table: what twinlens says of it agrees with hooks written by hand.

A wrong number must not pass for being small: in every layer, of every kind of part, the largest
effect that is compared must be a hundred times the difference that is allowed.
"""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

import twinlens as tl
from tests.families_ import TABLE
from tests.families_page import PAGE, Engine, page, refusals, row_of
from tests.hybrids_ import HOOKED
from tests.model.by_hand import block_restored, logits_of, logits_of_zeroed, neuron_restored
from twinlens.model.anatomy import Site
from twinlens.run.check import checked
from twinlens.run.passes import Inputs, State, read, restore

PROMPT = "a little girl named Lily. She"
OTHER = PROMPT.replace("Lily", "Paris")  # as many tokens, another one in the place of one
SUBJECT, FOCUS = 5, 7  # where they differ, and the last; windows of the table reach 6 back
EQUAL = 1e-5  # in logits
LARGE = 100 * EQUAL
ASKED = {"subject": "Lily", "corruption": tl.Replace(prompt=OTHER), "metric": "logit"}
KINDS = {"block": 1, "attn": 2, "mlp": 2, "head": 1}  # of a trace, and how many layers a cell has
MADE: dict[tuple[int, str], tl.TraceResult | tl.NeuronResult] = {}  # by model, which are kept


@pytest.fixture(params=list(TABLE))
def name(request) -> str:
    return request.param


@pytest.fixture
def model(name, make_model) -> tl.Model:
    return make_model(name)


def _ids(model, text=PROMPT):
    return model.tokenizer(text, return_tensors="pt").input_ids


def test_the_lens_ends_with_the_models_own_logits(model):
    report = checked(model)
    assert report.passed, report.failed()
    lens = tl.logit_lens(model, PROMPT, top_k=model.n_vocab)
    own = logits_of(model.hf, _ids(model)).double().numpy()
    found = np.empty_like(lens.top_logits[-2:], dtype=float)
    np.put_along_axis(found, lens.top_ids[-2:], lens.top_logits[-2:], axis=-1)
    np.testing.assert_allclose(found[-1], own, atol=1e-4, rtol=1e-4)
    assert np.abs(found[0] - own).max() > 1e-2, "the row before is another one"


def test_a_trace_by_the_engine_of_auto_is_that_of_whole_passes(name, model):
    made = {kind: _auto(model, kind) for kind in _kinds(model)}
    cells = {kind: list(_cells_of(trace)) for kind, trace in made.items()}
    every = list(itertools.chain(*cells.values()))
    expected = iter(_by_whole_passes(model, every, made["block"].answer))
    for kind, trace in made.items():
        assert trace.settings["engine"] == ("hooks" if name in HOOKED else "replay"), trace.notes
        found = trace.scores[:, SUBJECT:]
        plain = np.reshape([next(expected) for _ in cells[kind]], found.shape)
        assert np.abs(plain - found).max() < EQUAL, kind
        assert np.abs(trace.scores[:, :SUBJECT] - trace.corrupted).max() < EQUAL, kind
        largest = np.abs(plain - trace.corrupted).reshape(len(found), -1).max(-1)
        assert largest.min() > LARGE, (kind, largest)


def test_a_block_restored_by_hand_has_the_score_of_the_trace(model):
    """And the state of the one corrupted token brings everything back, where that is all."""
    trace = _auto(model, "block")
    for text, score in ((PROMPT, trace.clean), (OTHER, trace.corrupted)):
        by_hand = logits_of(model.hf, _ids(model, text))[-1, trace.answer]
        assert score == pytest.approx(float(by_hand), abs=EQUAL)
    beside = model.anatomy.beside is not None
    assert (trace.scores[0, SUBJECT] == pytest.approx(trace.clean, abs=EQUAL)) != beside
    assert any("is in no cell" in note for note in trace.notes) == beside
    assert trace.scores[-1, FOCUS] == pytest.approx(trace.clean, abs=EQUAL)
    for layer in range(model.n_layers - 1):
        for token in (SUBJECT, FOCUS):
            restored = block_restored(model, layer, token, _ids(model), _ids(model, OTHER))
            score = trace.scores[layer + 1, token]
            assert score == pytest.approx(float(restored[trace.answer]), abs=EQUAL), layer


def test_a_neuron_restored_by_hand_has_the_score_of_the_trace(name, model):
    if not model.anatomy.has("neuron"):
        pytest.skip(f"{model.anatomy.family}: its neurons are not found")
    units = _auto(model, "neuron")
    assert units.settings["engine"] == ("hooks" if name in HOOKED else "replay"), units.notes
    for layer, token in _places(model):
        scores, effects = units.scores[layer, token], units.effects()[layer, token]
        alone = [
            (State(Site("neuron", layer), token, n),)
            for n in np.flatnonzero(~np.isnan(scores)).tolist()
        ]
        plain = _by_whole_passes(model, alone, units.answer)
        assert np.abs(plain - scores[: len(plain)]).max() < EQUAL
        for group in _groups(model, layer):
            unit = int(np.nan_to_num(np.abs(effects[group])).argmax()) + (group.start or 0)
            name = units.unit_name(layer, unit)
            assert abs(effects[unit]) > LARGE, name
            restored = neuron_restored(model, layer, name, token, _ids(model), _ids(model, OTHER))
            assert scores[unit] == pytest.approx(float(restored[units.answer]), abs=EQUAL), name


def test_silenced_weights_are_weights_set_to_zero_by_hand(model):
    before, hash_before = logits_of(model.hf, _ids(model)), model.weights_hash()
    for part in _parts(model):
        with tl.changed(model, tl.Silence(part)):
            silenced = logits_of(model.hf, _ids(model))
        expected = logits_of_zeroed(model, part, _ids(model))
        torch.testing.assert_close(silenced, expected, atol=EQUAL, rtol=EQUAL)
        assert float((silenced - before).abs().max()) > LARGE, part
    assert model.weights_hash() == hash_before


def test_the_page_says_what_was_found(request, make_model, tokenizer, tmp_path):
    rows, reasons = [], []
    for name in TABLE:
        rows.append(row_of(name, made := make_model(name), _engines(made), reasons))
    made = page(rows, reasons, refusals(tmp_path, tokenizer))
    if request.config.getoption("--write-families"):
        PAGE.write_text(made, encoding="utf-8")
    assert PAGE.read_text(encoding="utf-8") == made, (
        "docs/families.md is not what was found; write it anew with --write-families"
    )


def _engines(model) -> dict[str, Engine]:
    """What `auto` ran, by kind, as results tell it."""
    asked = [*_kinds(model), *(["neuron"] if model.anatomy.has("neuron") else [])]
    made = {kind: _auto(model, kind) for kind in asked}
    return {kind: Engine(one.settings["engine"], one.notes) for kind, one in made.items()}


def _kinds(model):
    return [kind for kind in KINDS if model.anatomy.has(kind)]


def _auto(model, kind):
    """A trace by `auto`, the default; made once."""
    if (id(model.hf), kind) not in MADE:
        made = _neurons(model) if kind == "neuron" else _trace(model, kind)
        MADE[id(model.hf), kind] = made
    return MADE[id(model.hf), kind]


def _trace(model, kind):
    return tl.causal_trace(model, PROMPT, kind=kind, window=KINDS[kind], **ASKED)


def _neurons(model):
    return tl.neuron_trace(model, PROMPT, cells=_places(model), method="exact", **ASKED)


def _by_whole_passes(model, cells, answer) -> np.ndarray:
    """The score with each cell restored, by the engine with hooks."""
    sites = list(dict.fromkeys(state.site for cell in cells for state in cell))
    values = read(model, Inputs(_ids(model)), sites).values
    done = restore(
        model, Inputs(_ids(model, OTHER)), values, cells, lambda z: z[:, answer], batch_tokens=4096
    )
    return np.concatenate([scores[:, 0].numpy() for _, scores in done])


def _cells_of(trace):
    """The states that each cell of a trace restores, from the subject on."""
    kind, last = trace.kind, int(trace.layers[-1])
    for row in trace.layers:
        rows = range(-1, 0)
        if row != "embed":
            start = int(row) - KINDS[kind] // 2
            rows = range(max(0, start), min(last + 1, start + KINDS[kind]))
        sites = [Site(kind, at) if at >= 0 else Site("embed", 0) for at in rows]
        for token in range(SUBJECT, FOCUS + 1):
            for unit in range(trace.scores.shape[2]) if kind == "head" else (None,):
                yield tuple(State(site, token, unit) for site in sites)


def _places(model) -> list[tuple[int, int]]:
    """The subject in every layer, and the focus where no later attention reads the residual: after
    the last, and in Gemma 4 where the later ones take keys and values from earlier blocks."""
    last = model.n_layers - 1 - (getattr(model.config, "num_kv_shared_layers", None) or 0)
    tokens = [SUBJECT] * last + [FOCUS] * (model.n_layers - last)
    return list(enumerate(tokens))


def _groups(model, layer) -> list[slice]:
    """A block's neurons; those of the experts, and those of the shared ones."""
    mixture = model.experts(layer)
    if mixture is None or not mixture.units.shared:
        return [slice(None)]
    return [slice(0, mixture.units.routed), slice(mixture.units.routed, None)]


def _parts(model):
    """In every layer one of each kind: the busiest neuron, a head, the whole sub-blocks."""
    has = model.anatomy.has
    values = read(model, Inputs(_ids(model)), model.sites("neuron") if has("neuron") else []).values
    for layer in range(model.n_layers):
        mixture = model.experts(layer)
        for site in (site for site in values if site.layer == layer):
            strength = values[site].abs().amax((0, 1))
            for group in _groups(model, layer):
                unit = int(strength[group].argmax()) + (group.start or 0)
                yield f"{layer}.{mixture.units.name(unit) if mixture else f'N{unit}'}"
        yield from (f"{layer}.MLP",) if values else ()
        yield from (f"{layer}.H1", f"{layer}.ATTN") if has("head") else ()
