"""A look is the lens and the traces that its settings ask for, and nothing else."""

from __future__ import annotations

import dataclasses
import inspect
import warnings

import numpy as np
import pytest
import torch

import twinlens as tl
from twinlens.cli import options
from twinlens.errors import AnswerError, CorruptionError, FocusError, InputError, SubjectError
from twinlens.see.look import LookSettings, look, refuse_wrong, the_story

PROMPT = "Once upon a time Lily saw Tom. She"
LILY = LookSettings(PROMPT, subject=["Lily"], samples=2)


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Passes this small are slower with two."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def _with(**changes):
    return dataclasses.replace(LILY, **changes)


def test_without_a_subject_there_is_only_the_lens(gpt2):
    (lens,) = look(gpt2, LookSettings(PROMPT, top_k=3, targets=[5], rows="mid"))
    expected = tl.logit_lens(gpt2, PROMPT, top_k=3, targets=[5], rows="mid")
    assert isinstance(lens, tl.LensResult)
    assert lens.settings == expected.settings
    np.testing.assert_array_equal(lens.top_ids, expected.top_ids)


def test_each_kind_has_its_trace_in_the_order_asked_for(gpt2):
    made = look(gpt2, _with(kinds=["mlp", "block", "mlp"], window=2, seed=3))
    assert [r.settings.get("kind") for r in made] == [None, "mlp", "block"]
    corruption = tl.Noise(samples=2, seed=3)
    alone = tl.causal_trace(gpt2, PROMPT, ["Lily"], kind="mlp", window=2, corruption=corruption)
    np.testing.assert_array_equal(made[1].scores, alone.scores)


def test_neurons_answer_the_same_question(gpt2):
    settings = _with(kinds=[], neurons=True, method="atp", subject_tokens=[(2, 4)], focus=-2)
    lens, neurons = look(gpt2, settings)
    assert isinstance(lens, tl.LensResult)
    assert isinstance(neurons, tl.NeuronResult)
    assert neurons.method == "atp"
    assert neurons.focus == len(neurons.tokens) - 2
    assert {2, 3} < set(np.flatnonzero(neurons.subject_mask).tolist())


def test_progress_is_told_by_stages_and_what_it_raises_ends_the_work(gpt2):
    told = []
    settings = _with(kinds=["block", "attn"], neurons=True, method="atp")
    made = look(gpt2, settings, progress=lambda *now: told.append(now))
    stages = list(dict.fromkeys(stage for stage, _, _ in told))
    assert stages == ["lens", "trace block", "trace attn", "neurons"]
    for stage in stages:
        counts = [(done, total) for name, done, total in told if name == stage]
        assert counts[0] == (0, 0)
        assert counts[-1][0] == counts[-1][1] > 0

    def enough(stage, done, total):
        if stage == "trace block" and done:
            raise KeyError(stage)

    with pytest.raises(KeyError):
        look(gpt2, settings, progress=enough)
    after = look(gpt2, LILY)[1]
    np.testing.assert_array_equal(after.scores, made[1].scores, "nothing is left behind")


def test_the_model_is_free_where_progress_is_told(gpt2):
    """The server makes the card of a neuron between two batches of a look."""
    settings = _with(kinds=["head"], neurons=True, method="atp", samples=1)
    card, cards = tl.neuron_card(gpt2, 1, 7, PROMPT).to_dict(), []
    expected = look(gpt2, settings)
    seen: set[str] = set()

    def busy(stage: str, done: int, total: int) -> None:
        if done and stage not in seen:
            seen.add(stage)
            cards.append(tl.neuron_card(gpt2, 1, 7, PROMPT).to_dict())

    made = look(gpt2, settings, progress=busy)
    assert cards == [card] * 3
    for result, same in zip(made[1:], expected[1:], strict=True):
        np.testing.assert_array_equal(result.scores, same.scores)


def test_notes_are_in_the_results_and_not_warned_of(gpt2):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        made = look(gpt2, _with(answer="next", focus=-2))
    assert "not the model's prediction" in " ".join(made[1].notes)


def test_the_story_is_the_look_without_a_prompt():
    settings = the_story()
    assert settings.has_trace
    assert isinstance(settings.corruption, tl.Replace)
    tokens = refuse_wrong(tl.load("hamlet"), settings)
    assert tokens.text == tl.hamlet.story()


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"subject": ["Dora"]}, SubjectError),
        ({"subject_tokens": [(3, 99)]}, SubjectError),
        ({"focus": 99}, FocusError),
        ({"answer": " Constantinople"}, AnswerError),
        ({"targets": [" Constantinople"]}, AnswerError),
        ({"counterfactual": "Once"}, CorruptionError),
        ({"replace": ["the brave old man"]}, CorruptionError),
        ({"rule": "t", "df": 1.0}, CorruptionError),
        ({"window": 9}, tl.errors.InputError),
        ({"kinds": [], "window": 9}, tl.errors.InputError),
    ],
)
def test_what_is_refused_shows_without_a_run_as_with_one(gpt2, changes, error):
    said = []
    for ask in (refuse_wrong, look):
        if ask is look and changes.get("kinds") == []:
            continue  # without a trace nothing uses the window
        with pytest.raises(error) as raised:
            ask(gpt2, _with(**changes))
        said.append(str(raised.value))
    assert len(set(said)) == 1


def test_names_and_defaults_are_those_of_the_command_line():
    settings = {f.name: f for f in dataclasses.fields(LookSettings)}
    groups = (
        options.TraceOptions(),
        options.CorruptionOptions(),
        options.NeuronOptions(),
        options.HeadOptions(),
    )
    ours = {"subject", "subject_tokens", "kinds", "prompt", "rows", "top_k", "targets"}
    theirs = {name: value for group in groups for name, value in vars(group).items()}
    assert set(settings) - ours == set(theirs) - {"subject", "subject_tokens", "kind", "reduce"}
    for name in set(settings) - ours - {"replace", "restored_cells"}:  # lists
        assert settings[name].default == theirs[name], name
    assert settings["top_k"].default == inspect.signature(tl.logit_lens).parameters["top_k"].default


def test_attention_and_scores_of_heads_are_made_where_they_are_asked_for(gpt2, monkeypatch):
    lens, attention, heads = look(gpt2, LookSettings(PROMPT, attention=True, heads=True))
    assert [r.kind_of_result for r in (lens, attention, heads)] == ["lens", "attention", "heads"]
    n = len(lens.tokens)
    assert attention.queries.tolist() == list(range(n))
    monkeypatch.setattr("twinlens.see.look.MOST_ATTENTION", 10)
    _, from_last = look(gpt2, LookSettings(PROMPT, attention=True))
    assert from_last.queries.tolist() == [n - 1]
    _, from_focus = look(gpt2, LookSettings(PROMPT, attention=True, focus=2))
    assert from_focus.queries.tolist() == [2]
    assert np.allclose(from_focus.patterns[:, 0], attention.patterns[:, 2], atol=1e-6)


def test_lenses_of_other_runs(gpt2):
    settings = LookSettings(
        PROMPT, subject=["Lily"], samples=2, corrupted_lens=True, restored_cells=["1:4", "mlp:0:4"]
    )
    made = look(gpt2, settings)
    runs = [r.settings.get("run") for r in made if r.kind_of_result == "lens"]
    assert runs == [
        None, "corrupted", "restored block 1 at token 4", "restored mlp 0 at token 4",
    ]  # fmt: skip
    refuse_wrong(gpt2, settings)
    for wrong in ("1-2", "1:2:3:4", ":2", "1:x"):
        with pytest.raises(InputError, match="is no cell of a trace"):
            refuse_wrong(gpt2, dataclasses.replace(settings, restored_cells=[wrong]))
    begun: list[str] = []
    for wrong, says in (("9:4", "layer '9'"), ("1:99", "token 99"), ("head:1:4", "head")):
        asked = dataclasses.replace(settings, restored_cells=[wrong])
        with pytest.raises(InputError, match=says):
            look(gpt2, asked, progress=lambda stage, *_: begun.append(stage))
    assert not begun  # before anything is computed
    with pytest.raises(InputError, match="need a subject"):
        refuse_wrong(gpt2, LookSettings(PROMPT, corrupted_lens=True))
