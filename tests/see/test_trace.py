from __future__ import annotations

import numpy as np
import pytest
import torch

import twinlens as tl
from tests.conftest import STORY
from tests.see.rome import hidden_flow
from twinlens.errors import AnatomyError
from twinlens.model.anatomy import Site
from twinlens.run.passes import Inputs, State, read, restore
from twinlens.see.trace import asking, traces

KINDS = ("block", "mlp", "attn", "head")


@pytest.mark.parametrize("engine", ["hooks", "replay"])
@pytest.mark.parametrize("window", [1, 3])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["gpt2", "gpt_neox", "gpt_neox_sequential", "llama"])
def test_agrees_with_the_published_loop_on_random_models(make_model, name, kind, window, engine):
    model = make_model(name)
    _agrees(model, "The Eiffel Tower is in", "Eiffel Tower", kind, window, engine)


@pytest.mark.slow
@pytest.mark.parametrize("window", [1, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_agrees_with_the_published_loop_on_a_real_model(stories, kind, window):
    _agrees(stories, "there was a little girl named Lily.", "Lily", kind, window, "auto")


def _agrees(model, prompt, subject, kind, window, engine):
    trace = tl.causal_trace(model, prompt, subject, kind=kind, window=window, engine=engine)
    assert trace.settings["engine"] == ("hooks" if engine == "hooks" else "replay")
    where = np.flatnonzero(trace.subject_mask)
    table, low = hidden_flow(
        model.hf,
        trace.tokens.ids.tolist(),
        (where[0], where[-1] + 1),
        sigma=trace.settings["sigma"],
        answer=trace.answer,
        kind=kind,
        window=window,
    )
    assert trace.scores.shape == table.shape
    assert np.abs(trace.scores - table).max() < 1e-4
    assert abs(trace.corrupted - low) < 1e-4
    assert np.ptp(table) > 1e-3, "the states must matter, or agreement shows nothing"


def test_cells_after_the_focus_have_no_effect(family):
    prompt = "Mr and Mrs Dursley lived in a small house."
    for direction in ("denoise", "noise"):
        trace = tl.causal_trace(family, prompt, "Mrs", focus=-4, direction=direction)
        assert (trace.effects()[:, trace.focus + 1 :] == 0).all()
        assert np.abs(trace.effects()[:, : trace.focus + 1]).max() > 1e-6
    # and truly so: the plain full pass, with a later state replaced, gives the same logits
    ids = torch.from_numpy(trace.tokens.ids)[None]
    sites = family.sites("block")
    clean = read(family, Inputs(ids), sites)
    late = len(trace.tokens) - 1
    states = tuple(State(site, late) for site in sites[:-1])
    with torch.no_grad():
        before = family.hf(input_ids=ids).logits[0, trace.focus]
    shifted = {site: value.flip(-1) for site, value in clean.values.items()}
    seen: list[torch.Tensor] = []
    handle = family.hf.register_forward_hook(lambda m, a, out: seen.append(out.logits))
    family.__dict__["last_logits_only"] = {}
    try:
        list(restore(family, Inputs(ids), shifted, [states], lambda z: z[:, 0], batch_tokens=99))
    finally:
        handle.remove()
        del family.__dict__["last_logits_only"]
    assert torch.allclose(seen[0][0, trace.focus], before, atol=1e-5)
    assert not torch.allclose(seen[0][0, late], clean.logits[0], atol=1e-5)


def test_restoring_every_state_gives_the_clean_score(family):
    trace = tl.causal_trace(family, STORY, "girl")
    ids = torch.from_numpy(trace.tokens.ids)[None]
    noise = np.random.RandomState(1).randn(10, int(trace.subject_mask.sum()), _width(family))
    inputs = Inputs(
        ids.expand(10, -1),
        trace.settings["sigma"] * torch.from_numpy(noise),
        torch.from_numpy(trace.subject_mask),
    )
    sites = [Site("embed", 0), *family.sites("block")]
    clean = read(family, Inputs(ids), sites)

    def score(logits):
        return logits.softmax(-1)[:, trace.answer]

    nothing = read(family, inputs, []).logits
    assert np.allclose(score(nothing).numpy(), trace.corrupted_samples, atol=1e-6)
    for site in sites:
        cell = tuple(State(site, t) for t in range(ids.shape[1]))
        [(_, scores)] = restore(family, inputs, clean.values, [cell], score, batch_tokens=9999)
        assert np.allclose(scores.numpy(), trace.clean, atol=1e-5)


def _width(model):
    return model.embedding_weight.shape[1]


def test_the_last_block_at_the_focus_decides(family):
    trace = tl.causal_trace(family, STORY, "girl")
    assert trace.scores[-1, trace.focus] == pytest.approx(trace.clean, abs=1e-5)
    assert np.allclose(trace.scores[-1, : trace.focus], trace.corrupted, atol=1e-6)


def test_tokens_before_the_subject_have_no_effect_of_their_own(gpt2):
    trace = tl.causal_trace(gpt2, STORY, "Lily")
    first = int(np.flatnonzero(trace.subject_mask)[0])
    assert np.abs(trace.effects()[:, :first]).max() < 1e-6


def test_batches_do_not_change_the_numbers(gpt2):
    one = tl.causal_trace(gpt2, "The Eiffel Tower is in", "Eiffel", batch_tokens=1)
    many = tl.causal_trace(gpt2, "The Eiffel Tower is in", "Eiffel", batch_tokens=100_000)
    assert np.allclose(one.samples, many.samples, atol=1e-6)


def test_a_later_name_is_traced_to_the_earlier_ones(gpt2):
    prompt = "Mr and Mrs Quimbly were proud. The Quimblys lived near Mr Quimbly"
    pieces = len(gpt2.encode("Quimbly"))
    last = len(gpt2.encode(prompt)) - pieces
    trace = tl.causal_trace(gpt2, prompt, "Quimbly", focus=last, answer="next")
    assert pieces > 2
    assert trace.subject_mask.sum() == pieces, "the earlier whole word, not the later one"
    assert not trace.subject_mask[last:].any()
    assert trace.answer == trace.tokens.ids[last + 1]
    both = tl.causal_trace(gpt2, prompt, ["Quimbly", "Quimblys"], focus=last, answer="next")
    assert both.subject_mask.sum() > 2 * pieces - 1
    assert both.corrupted != trace.corrupted


@pytest.mark.parametrize("metric", ["probability", "log_probability", "logit", "kl"])
def test_metrics_are_those_of_the_runs(gpt2, metric):
    trace = tl.causal_trace(gpt2, STORY, "Lily", metric=metric)
    with torch.no_grad():
        logits = gpt2.hf(input_ids=torch.from_numpy(trace.tokens.ids)[None]).logits[0, -1]
    log_probs = logits.log_softmax(-1)
    expected = {
        "probability": log_probs.exp()[trace.answer],
        "log_probability": log_probs[trace.answer],
        "logit": logits[trace.answer],
        "kl": torch.tensor(0.0),
    }[metric]
    assert trace.clean == pytest.approx(float(expected), abs=1e-5)
    assert trace.scores[-1, -1] == pytest.approx(float(expected), abs=1e-5)
    normalised = trace.effects(normalise=True)
    assert normalised[-1, -1] == pytest.approx(1.0, abs=1e-4)


def test_logit_difference_to_a_foil(gpt2):
    trace = tl.causal_trace(gpt2, STORY, "Lily", metric="logit_difference", foil=7)
    alone = [
        tl.causal_trace(gpt2, STORY, "Lily", metric="logit", answer=token)
        for token in (trace.answer, 7)
    ]
    assert np.allclose(trace.scores, alone[0].scores - alone[1].scores, atol=1e-4)


def test_both_directions_meet_at_the_ends(gpt2):
    denoise = tl.causal_trace(gpt2, STORY, "Lily")
    noise = tl.causal_trace(gpt2, STORY, "Lily", direction="noise")
    assert denoise.clean == pytest.approx(noise.clean)
    assert denoise.corrupted == pytest.approx(noise.corrupted, abs=1e-6)
    assert noise.scores[-1, -1] == pytest.approx(noise.corrupted, abs=1e-5)
    assert noise.effects()[-1, -1] == pytest.approx(noise.total_effect, abs=1e-5)


def test_a_counterfactual_prompt_and_other_subjects(gpt2):
    prompt, other = "Once upon a time", "Once upon a park"
    if len(gpt2.encode(prompt)) != len(gpt2.encode(other)):
        other = "Once upon a girl"
    trace = tl.causal_trace(gpt2, prompt, corruption=tl.Replace(prompt=other), answer=5)
    with torch.no_grad():
        ids = torch.from_numpy(gpt2.encode(other).ids)[None]
        expected = float(gpt2.hf(input_ids=ids).logits[0, -1].softmax(-1)[5])
    assert trace.corrupted == pytest.approx(expected, abs=1e-6)
    word = other.split()[-1]
    same = tl.causal_trace(
        gpt2, prompt, "time", corruption=tl.Replace(subjects=[word, word]), answer=5
    )
    assert same.samples.shape[-1] == 2
    assert np.allclose(same.scores, trace.scores, atol=1e-6)


def test_spread_is_over_the_samples(gpt2):
    trace = tl.causal_trace(gpt2, STORY, "Lily", corruption=tl.Noise(samples=4))
    assert trace.samples.shape == (*trace.scores.shape, 4)
    assert np.allclose(trace.scores, trace.samples.mean(-1))
    assert np.allclose(trace.spread(), trace.samples.std(-1, ddof=1))


def test_warns_where_the_effect_is_small_or_the_answer_is_not_predicted(gpt2):
    with pytest.warns(UserWarning, match="effects this small"):
        trace = tl.causal_trace(gpt2, STORY, "Lily", corruption=tl.Noise(sigma=1e-9))
    assert any("effects this small" in note for note in trace.notes)
    top = tl.causal_trace(gpt2, STORY, "Lily").answer
    with pytest.warns(UserWarning, match="not the model's prediction"):
        tl.causal_trace(gpt2, STORY, "Lily", answer=(top + 1) % gpt2.n_vocab)


def test_progress_is_told(gpt2):
    told: list[tuple[int, int]] = []
    tl.causal_trace(
        gpt2, "Once upon a time", "time", batch_tokens=200,
        progress=lambda done, total: told.append((done, total)),
    )  # fmt: skip
    assert len(told) > 1
    assert told[-1][0] == told[-1][1]


def test_a_model_without_heads_is_refused_for_heads_only(make_model, tokenizer):
    from dataclasses import replace

    model = make_model("gpt2")
    headless = tl.load(model.hf, tokenizer=tokenizer, anatomy=replace(model.anatomy, heads=None))
    assert tl.causal_trace(headless, STORY, "Lily").scores.shape[0] == 4
    with pytest.raises(AnatomyError, match="no site 'head'"):
        tl.causal_trace(headless, STORY, "Lily", kind="head")


def test_traces_of_several_prompts_share_passes(family: tl.Model):
    """Each has the scores that it has alone, though their subjects stand at other tokens."""
    story = "One day Lily loved to play"
    prompts = [(story, "Lily"), (story, "loved"), (story, "Lily loved")]
    noise = tl.Noise(samples=2)
    for kind in ("block", "mlp", "attn"):
        asked = [
            asking(
                family, prompt, subject, noise, focus=-1, answer=None, kind=kind, window=1,
                metric="kl", foil=None, direction="denoise",
            )
            for prompt, subject in prompts
        ]  # fmt: skip
        found = traces(family, asked, progress=False)
        for (prompt, subject), made in zip(prompts, found, strict=True):
            alone = tl.causal_trace(
                family, prompt, subject, kind=kind, corruption=noise, metric="kl", progress=False
            )
            assert made.settings == alone.settings
            np.testing.assert_allclose(made.samples, alone.samples, atol=1e-4)
            assert (made.effects()[alone.effects() == 0] == 0).all()
