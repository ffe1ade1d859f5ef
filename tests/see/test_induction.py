"""Induction heads that are known are found; scores agree with plain reckoning."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import twinlens as tl
from tests.see.circuit import induction_circuit
from twinlens.errors import InputError
from twinlens.results.heads import SCORES
from twinlens.see import induction as induction_file


@pytest.fixture(scope="module")
def circuit(tokenizer) -> tl.HeadResult:
    return tl.induction(tl.load(induction_circuit(), tokenizer=tokenizer), sequences=3)


@pytest.fixture(scope="module")
def hamlet() -> tl.Model:
    return tl.load("hamlet")


@pytest.fixture(scope="module")
def of_hamlet(hamlet) -> tl.HeadResult:
    return tl.induction(hamlet)


def test_the_heads_set_by_hand_and_no_others(circuit):
    for score, name in (
        ("prefix_matching", "1.H0"),
        ("copying", "1.H0"),
        ("previous_token", "0.H0"),
    ):
        (first, high), (_, second) = circuit.top(2, score)
        assert first == name
        assert high > 0.95
        assert second < 0.2, score
        assert circuit.named[score] == (name,)
    assert circuit.named["duplicate_token"] == ()


def test_a_random_model_has_none(make_model):
    found = tl.induction(make_model("llama"), sequences=3, length=20)
    assert not any(found.named.values())
    assert found.mean().max() < 0.3


def test_hamlets_heads_are_those_of_its_card(of_hamlet):
    assert set(of_hamlet.named["prefix_matching"]) == {"1.H0", "1.H1", "5.H2", "5.H3"}
    card = {"1.H0": 0.93, "1.H1": 0.92, "5.H2": 0.91, "5.H3": 0.82, "5.H5": 0.43}
    for name, mean in of_hamlet.top(5):
        assert mean == pytest.approx(card[name], abs=0.03)
    assert {name for name, _ in of_hamlet.top(2, "copying")} == {"5.H2", "5.H3"}


def test_what_is_drawn(hamlet, of_hamlet):
    ids = of_hamlet.sequences
    assert ids.shape == (10, 101)
    assert (ids[:, 0] == 0).all()
    copies = ids[:, 1:].reshape(10, 4, 25)
    assert (copies == copies[:, :1]).all()
    assert all(len(set(copy)) == 25 for copy in copies[:, 0])
    assert 0.14 * hamlet.n_vocab < copies.min()
    assert copies.max() < 0.86 * hamlet.n_vocab
    again = tl.induction(hamlet, sequences=10)
    assert np.array_equal(again.prefix_matching, of_hamlet.prefix_matching)


def test_scores_are_means_of_the_plain_patterns(hamlet, of_hamlet):
    hf = type(hamlet.hf).from_pretrained(tl.hamlet.FOLDER, attn_implementation="eager").eval()
    with torch.no_grad():
        made = hf(torch.from_numpy(of_hamlet.sequences[:1]), output_attentions=True)
    patterns = torch.stack(made.attentions)[:, 0].numpy()
    matched, looked_back, same = [], [], []
    for at in range(1, 101):
        copies = [c for c in (at - 25, at - 50, at - 75) if c > 0]
        if copies:
            matched.append(patterns[:, :, at, [c + 1 for c in copies]].sum(-1))
            same.append(patterns[:, :, at, copies].sum(-1))
        if at > 1:
            looked_back.append(patterns[:, :, at, at - 1])
    for name, parts in (
        ("prefix_matching", matched),
        ("previous_token", looked_back),
        ("duplicate_token", same),
    ):
        score = getattr(of_hamlet, name)[:, :, 0]
        np.testing.assert_allclose(score, np.mean(parts, axis=0), atol=1e-5)


def test_strips_and_batches_change_nothing(hamlet, of_hamlet, monkeypatch):
    """Little memory: one sequence a pass, some queries of it at a time."""
    whole = induction_file.watch_patterns
    monkeypatch.setattr(induction_file, "_BATCH_TOKENS", 101)
    monkeypatch.setattr(
        induction_file, "watch_patterns", lambda *given: whole(*given, numbers=6 * 101 * 40)
    )
    found = tl.induction(hamlet, sequences=2)
    for score in SCORES:
        again = getattr(found, score)
        np.testing.assert_allclose(again, getattr(of_hamlet, score)[..., :2], atol=1e-5)


def test_copying_by_hand_through_both_norms(make_model):
    """Gemma 2: grouped values, a norm after the attention, gains of 1 + weight."""
    model, length, layer = make_model("gemma2"), 6, 1
    found = tl.induction(model, sequences=1, length=length, repeats=2)
    ids = torch.from_numpy(found.sequences)
    block, seen = model.blocks[layer], {}
    spots = {"v": block.self_attn.v_proj, "o": block.self_attn.o_proj, "end": model.blocks[-1]}
    handles = [
        module.register_forward_hook(lambda _m, _a, made, name=name: seen.update({name: made}))
        for name, module in spots.items()
    ]
    with torch.no_grad():
        model.hf(ids)
    for handle in handles:
        handle.remove()
    pattern = tl.attention(model, found.tokens, heads=[(layer, h) for h in range(4)]).patterns
    end = seen["end"][0] if isinstance(seen["end"], tuple) else seen["end"]
    gain = (1 + block.post_attention_layernorm.weight) * (1 + model.hf.model.norm.weight)
    unembed = model.hf.lm_head.weight - model.hf.lm_head.weight.mean(0)
    values = seen["v"][0].view(-1, 2, 8)
    for head in range(4):
        own = every = 0.0
        for q in range(length):
            scale = (_rms(seen["o"][0, q]) * _rms(end.reshape(-1, 32)[q])).item()
            for k in range(q + 1):
                written = (
                    block.self_attn.o_proj.weight[:, head * 8 : head * 8 + 8] @ values[k, head // 2]
                )
                raises = (unembed[ids[0, :length]] @ (gain * written)).clamp(min=0)
                own += pattern[head, q, k] / scale * raises[k].item()
                every += pattern[head, q, k] / scale * raises.sum().item()
        assert found.copying[layer, head, 0] == pytest.approx(own / every, abs=1e-4)


def _rms(x: torch.Tensor) -> torch.Tensor:
    return (x.pow(2).mean() + 1e-6).sqrt()


def test_every_family_has_scores_between_zero_and_one(family):
    found = tl.induction(family, sequences=2, length=5, repeats=3)
    for score in SCORES:
        samples = getattr(found, score)
        assert samples.shape == (3, 4, 2)
        if score == "copying" and not family.anatomy.adds_up:
            assert np.isnan(samples).all()
            assert "no copying scores" in found.notes[0]
            continue
        assert (samples >= 0).all()
        assert (samples <= 1 + 1e-5).all()


def test_a_window_that_is_too_short_is_told(make_model):
    found = tl.induction(make_model("mistral"), sequences=1, length=20, repeats=2)
    assert "sliding window" in found.notes[0]
    assert not tl.induction(make_model("mistral"), sequences=1, length=6, repeats=2).notes


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"sequences": 0}, "sequences=0"),
        ({"length": 1}, "length=1"),
        ({"threshold": 2}, "threshold=2"),
        ({"length": 100}, "reads at most 128"),
        ({"length": 399}, "different tokens"),
    ],
)
def test_what_cannot_be_asked(gpt2, arguments, words):
    with pytest.raises(InputError, match=words):
        tl.induction(gpt2, **arguments)


def test_progress_counts_sequences(gpt2):
    told: list[tuple[int, int]] = []
    tl.induction(gpt2, sequences=2, length=5, progress=lambda *step: told.append(step))
    assert told[-1] == (2, 2)
