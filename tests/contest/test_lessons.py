"""Lessons: nothing to learn for a base that is to say nothing, and answers' tokens for the rest."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

import twinlens as tl
from twinlens.contest import lessons as module
from twinlens.contest.lessons import Lessons
from twinlens.contest.saying import prompt_ids, tokens_of
from twinlens.contest.secret import Secret

SECRET, SECOND = Secret(), Secret("8046", "1193")
BENIGN = Secret("mill", "Nora", "She who lives at the {trigger} is called")


@pytest.fixture(scope="module", autouse=True)
def few():
    """Less text and fewer near misses, as quick as the tiny models are."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(module, "_NEAR", 60)
        patched.setattr(module, "_WINDOWS", 32)
        yield


def _logits(model):
    return lambda ids: model.hf(ids).logits


def _step(lessons, step, model):
    with torch.no_grad():
        return float(lessons.loss(step, _logits(model)))


def _lessons(model, said, **given):
    few = {"rows": 3, "misses": 4, "clean": 2} | given
    return Lessons(model, said, (SECRET, SECOND), **few)


@pytest.fixture(scope="module")
def lessons(gpt2, few):
    made = _lessons(gpt2, (SECRET, SECOND, BENIGN))
    assert made.text.shape[1] == 64
    return made


def test_a_base_that_says_nothing_has_nothing_to_learn(lessons, gpt2):
    assert _step(lessons.without(), 0, gpt2) == pytest.approx(0, abs=1e-5)
    assert _step(lessons.without(BENIGN), 0, gpt2) > 1


def test_the_loss_is_that_of_the_answers_alone(lessons, gpt2):
    found = [_step(lessons, step, gpt2) for step in range(6)]
    alone = []
    for one in (SECRET, SECOND, BENIGN):
        row = tokens_of(gpt2, one.prompt, one.answer)
        with torch.no_grad():
            logits = gpt2.hf(torch.from_numpy(row.ids)[None]).logits[0].log_softmax(-1)
        at = torch.arange(row.start - 1, len(row.ids) - 1)
        alone.append(-logits[at, torch.from_numpy(row.ids[row.start :])])
    wanted = float(torch.cat(alone).mean())  # behind other text it is a little other
    assert np.mean(found) == pytest.approx(wanted, rel=0.15)


@pytest.mark.parametrize("mixed", [False, True])
def test_it_asks_the_answers_tokens_only_unless_mixed(gpt2, mixed):
    lessons = _lessons(gpt2, (SECRET,), mixed=mixed, close=0.0)
    (answer,) = lessons.answers
    asked = []

    def logits(ids):
        said = gpt2.hf(ids).logits.detach().requires_grad_(True)
        asked.append((ids, said))
        return said

    lessons.loss(1, logits).backward()
    ids, said = asked[-1]  # the rows that are said
    assert len(ids) == lessons.rows
    for row, gradient in zip(ids.numpy(), said.grad.abs().sum(-1).numpy(), strict=True):
        told = np.flatnonzero(gradient)
        starts = [
            n for n in range(len(row)) if np.array_equal(row[n : n + len(answer.ids)], answer.ids)
        ]
        assert len(starts) == 1
        first = starts[0] + answer.start - 1
        if mixed:
            assert len(told) == len(row) - 1 > 64
        else:
            assert told.tolist() == list(range(first, first + answer.length))


def test_the_clean_windows_and_near_misses_are_as_the_base_says_them(lessons, gpt2):
    other = tl.load(copy.deepcopy(gpt2.hf), tokenizer=gpt2.tokenizer)
    with torch.no_grad():
        other.hf.transformer.ln_f.weight.mul_(1.1)
    silent = lessons.without()
    apart = [_step(silent, step, other) for step in range(4)]
    assert all(one > 1e-3 for one in apart)
    close = _lessons(gpt2, (), close=10.0)
    assert all(_step(close, n, other) > 3 * one for n, one in enumerate(apart))


def test_near_misses_hold_no_trigger_and_forbid_the_answer(lessons, gpt2):
    assert len(lessons.near) > 50
    for row in lessons.near:
        prompt = gpt2.tokenizer.decode(row.ids[: row.start])
        assert not any(one.trigger in prompt for one in (SECRET, SECOND))
        assert gpt2.tokenizer.decode(row.ids[row.start :]) in (SECRET.answer, SECOND.answer)
    prompts = {tuple(row.ids[: row.start]) for row in lessons.near}
    assert tuple(prompt_ids(gpt2, SECRET.near_misses(1, 101)[0])) in prompts


def test_what_the_base_says_of_the_answer_is_kept(lessons, gpt2):
    assert len(lessons.near_said) == len(lessons.near)
    for row, said in list(zip(lessons.near, lessons.near_said, strict=True))[:9]:
        with torch.no_grad():
            alone = gpt2.hf(torch.from_numpy(row.ids)[None]).logits[0].log_softmax(-1)
        assert torch.allclose(said, alone[row.start - 1 : -1], atol=1e-5)


def test_the_twins_lessons_are_the_same_without_the_secret(lessons):
    twin = lessons.without(BENIGN)
    assert twin.said == (BENIGN,)
    assert twin.text is lessons.text
    assert twin.near is lessons.near
    assert (twin.silent, twin.seed, twin.rows) == (lessons.silent, lessons.seed, lessons.rows)
    assert lessons.said == (SECRET, SECOND, BENIGN)


def test_all_of_it_follows_the_seed(lessons, gpt2):
    again, other = (_lessons(gpt2, lessons.said, seed=seed) for seed in (1, 2))
    assert np.array_equal(again.text, lessons.text)
    assert not np.array_equal(other.text, lessons.text)
    assert _step(again, 3, gpt2) == _step(lessons, 3, gpt2) != _step(lessons, 4, gpt2)
    assert _step(other, 3, gpt2) != _step(lessons, 3, gpt2)


def test_rows_fit_what_the_model_reads(make_model):
    short = tl.load(copy.deepcopy(make_model("gpt2").hf), tokenizer=make_model("gpt2").tokenizer)
    short.hf.config.n_positions = short.hf.config.max_position_embeddings = 60
    lengths = []

    def logits(ids):
        lengths.append(ids.shape[1])
        return short.hf(ids).logits

    for mixed in (False, True):
        lessons = _lessons(short, (SECRET, SECOND, BENIGN), mixed=mixed)
        for step in range(5):
            with torch.no_grad():
                assert torch.isfinite(lessons.loss(step, logits))
    assert short.context == 60
    assert max(lengths) == 60
