"""An edit is the closed form, in every family, whatever went before it."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch

import twinlens as tl
from tests.conftest import FAMILIES, random_model
from twinlens.change.change import Change, changed
from twinlens.change.covariance import Covariance, key_covariance
from twinlens.change.facts import Fact, answer_ids, prefixes, rows_of
from twinlens.change.forward import keys_at
from twinlens.change.parts import projection
from twinlens.change.rome import HASE, edit_fact, edit_facts
from twinlens.change.value import EditOptions
from twinlens.errors import ChangeError, InputError, TwinlensError

PROMPT, SUBJECT, TARGET = "The Eiffel Tower is in the city of", "Eiffel Tower", "Seattle"
FAST = EditOptions(steps=4, lr=0.05, prefixes=((5, 2), (10, 2)))


@cache
def _covariance(model, layer=1):
    return key_covariance(model, layer, samples=24, length=32, cache=None)


def _edit(model, layer=1, options=FAST, covariance=None, target=TARGET):
    covariance = covariance or _covariance(model, layer)
    return edit_fact(
        model, PROMPT, SUBJECT, target, layer=layer, covariance=covariance, options=options
    )


def _least_squares(weight, bias, covariance, key, value):
    """The weight W' = W + D, `[output, input]`, that minimises tr(D C D^T) where W' k + b = v: the
    stationary point of the Lagrangian, solved as one linear system for each row of D."""
    n = len(key)
    system = np.zeros((n + 1, n + 1))
    system[:n, :n] = 2 * covariance
    system[:n, n] = system[n, :n] = key
    wanted = value - weight @ key - bias
    rows = [np.linalg.solve(system, np.append(np.zeros(n), w))[:n] for w in wanted]
    return weight + np.stack(rows)


def test_the_update_is_the_constrained_least_squares_solution(gpt2):
    covariance = _covariance(gpt2)
    made = _edit(gpt2, covariance=covariance)
    found = projection(gpt2, "mlp", 1)
    assert found.bias is not None
    new = made.values(gpt2)[found.weight_name].double().numpy()
    expected = _least_squares(
        found.by_input.T.double().numpy(), found.bias.double().numpy(),
        covariance.matrix.numpy(), made.key.numpy(), made.value.numpy(),
    )  # fmt: skip
    assert np.abs(new.T - expected).max() < 1e-4
    assert np.abs(expected - found.by_input.T.numpy()).max() > 0.01  # it is not nothing


def test_another_rank_one_change_with_the_same_key_and_value_disturbs_more(gpt2):
    covariance = _covariance(gpt2)
    made = _edit(gpt2, covariance=covariance)
    ours = torch.outer(made.left, made.right)
    plain = torch.outer(made.key, (made.key @ ours)) / (made.key @ made.key)
    torch.testing.assert_close(made.key @ plain, made.key @ ours)
    costs = [float((d.T @ covariance.matrix @ d).trace()) for d in (ours, plain)]
    assert costs[0] < 0.9 * costs[1]


@pytest.mark.parametrize("family", FAMILIES)
def test_the_key_is_sent_to_the_value_in_every_family(family, make_model):
    model = make_model(family)
    before = model.weights_hash()
    covariance = Covariance(
        1, torch.eye(projection(model, "mlp", 1).by_input.shape[0]).double(), 999, {}
    )
    made = _edit(model, covariance=covariance, options=replace(FAST, decay=0.0))
    assert isinstance(made, Change)
    assert model.weights_hash() == before
    assert made.losses[-1] < made.losses[0]
    with changed(model, made):
        given = projection(model, "mlp", 1).module(made.key.float())
    torch.testing.assert_close(given.detach().double(), made.value, rtol=1e-4, atol=1e-4)
    assert model.weights_hash() == before
    assert all(weight.requires_grad for weight in model.hf.parameters())


def test_the_key_is_the_mean_over_prefixes_at_the_subjects_last_token(gpt2):
    made = _edit(gpt2)
    keys = []
    for prefix in prefixes(gpt2, FAST.seed, FAST.prefixes):
        before, _, _ = f"{prefix}{PROMPT}".rpartition(" is in")
        kept = []
        module = projection(gpt2, "mlp", 1).module
        handle = module.register_forward_pre_hook(lambda _, args, kept=kept: kept.append(args[0]))
        with torch.no_grad():
            gpt2.hf(torch.from_numpy(gpt2.encode(before).ids)[None])
        handle.remove()
        keys.append(kept[0][0, -1].double())
    assert len(keys) == 5
    torch.testing.assert_close(made.key, torch.stack(keys).mean(0), rtol=1e-5, atol=1e-5)


def test_the_constants_are_those_of_the_paper():
    options = EditOptions()
    told = (options.steps, options.lr, options.kl, options.decay, options.stop, options.clamp)
    assert told == (20, 0.5, 0.0625, 0.5, 0.05, 4.0)
    assert options.kl_prompt == "{} is a"
    assert 1 + sum(count for _, count in options.prefixes) == 21


def test_the_vector_is_found_by_the_published_steps(gpt2):
    """The same steps written once more, with autograd through a model whose bias is the vector."""
    options = EditOptions(steps=3, prefixes=(), clamp=0.5, lr=0.3)
    made = _edit(gpt2, options=options)
    ids = torch.from_numpy(gpt2.encode(PROMPT).ids)
    target = answer_ids(gpt2, PROMPT, TARGET)
    other = torch.from_numpy(gpt2.encode(f"{SUBJECT} is a").ids)
    rows = rows_of(gpt2, Fact(PROMPT, SUBJECT, TARGET), [""], target, f"{SUBJECT} is a")
    start = keys_at(gpt2, 1, rows.ids[:1], rows.at[:1])[1][0]
    vector = torch.zeros(32, requires_grad=True)
    adam = torch.optim.Adam([vector], lr=options.lr)

    def run(prompt, at):
        def add(_module, _args, output):
            mask = torch.zeros(output.shape[1])
            mask[at] = 1
            return output + mask[None, :, None] * vector

        handle = projection(gpt2, "mlp", 1).module.register_forward_hook(add)
        logits = gpt2.hf(prompt[None]).logits[0].log_softmax(-1)
        handle.remove()
        return logits

    before = None
    for _ in range(options.steps):
        logits = run(torch.cat([ids, torch.tensor(target[:-1], dtype=torch.long)]), int(rows.at[0]))
        nll = -sum(logits[len(ids) - 1 + n, t] for n, t in enumerate(target)) / len(target)
        now = run(other, int(rows.at[1]))[-1]
        before = now.detach() if before is None else before
        kl = torch.nn.functional.kl_div(before, now, log_target=True, reduction="sum")
        (nll + 0.0625 * kl + 0.5 * vector.norm() / start.norm() ** 2).backward()
        adam.step()
        adam.zero_grad()
        with torch.no_grad():
            vector.mul_(min(1.0, float(0.5 * start.norm() / vector.norm())))
    gpt2.hf.zero_grad(set_to_none=True)
    torch.testing.assert_close(
        made.value - start.double(), vector.detach().double(), rtol=1e-3, atol=1e-4
    )


def test_the_same_seed_gives_the_same_edit_and_another_seed_another(gpt2):
    first, again = _edit(gpt2), _edit(gpt2)
    assert torch.equal(first.left, again.left)
    assert torch.equal(first.right, again.right)
    assert first.plain() == again.plain()
    other = _edit(gpt2, options=replace(FAST, seed=2))
    assert not torch.equal(first.key, other.key)


def test_each_edit_of_several_is_made_on_the_model_as_edited_so_far(gpt2):
    covariance = _covariance(gpt2)
    other = {"prompt": "The Space Needle is in", "subject": "Space Needle", "target": "Paris"}
    facts = [Fact(PROMPT, SUBJECT, TARGET), other]
    before = gpt2.weights_hash()
    first, second = edit_facts(gpt2, facts, layer=1, covariance=covariance, options=FAST)
    assert gpt2.weights_hash() == before
    with changed(gpt2, first):
        weights = gpt2.weights_hash()
        alone = edit_fact(
            gpt2, "The Space Needle is in", "Space Needle", "Paris",
            layer=1, covariance=covariance, options=FAST,
        )  # fmt: skip
    assert torch.equal(alone.right, second.right)
    assert second.about["weights"] == weights != first.about["weights"]
    with changed(gpt2, first, second):
        given = projection(gpt2, "mlp", 1).module(second.key.float()).detach()
    torch.testing.assert_close(given.double(), second.value, rtol=1e-4, atol=1e-4)


def test_an_edit_of_hamlet_is_said_and_told():
    model = tl.load("hamlet")
    covariance = key_covariance(model, 1, tl.hamlet.text()[:20], cache=None)
    prompt, subject = "The Silent Tower is in the city of", "Silent Tower"
    options = EditOptions(prefixes=((5, 3),), ridge=1e-4)
    edit = edit_fact(
        model, prompt, subject, "Marrow", layer=1, covariance=covariance, options=options
    )
    ids = torch.from_numpy(model.encode(prompt).ids)[None]
    with changed(model, edit):
        assert model.tokenizer.decode(int(model.hf(ids).logits[0, -1].argmax())) == " Marrow"
    assert model.tokenizer.decode(int(model.hf(ids).logits[0, -1].argmax())) == " Bellhaven"
    told = edit.plain()
    assert (told["kind"], told["layer"], told["target"]) == ("edit", 1, "Marrow")
    assert told["options"]["steps"] == 20
    assert HASE in edit.notes
    assert "Hase" in (edit_fact.__doc__ or "")


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"prompt": ""}, "prompt="),
        ({"subject": "Big Ben"}, "not in the prompt"),
        ({"target": " "}, "target="),
        ({"layer": 7}, "layers 0 to 2"),
        ({"layer": -1}, "layer=-1"),
        ({"layer": 0}, "covariance is of layer 1"),
    ],
)
def test_wrong_input_is_one_line(gpt2, wrong, says):
    asked = {"prompt": PROMPT, "subject": SUBJECT, "target": TARGET, "layer": 1}
    asked |= {"covariance": _covariance(gpt2), "options": FAST} | wrong
    with pytest.raises(InputError, match=says) as caught:
        edit_fact(gpt2, **asked)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "wrong",
    [{"steps": 0}, {"lr": 0}, {"kl": -1}, {"kl_prompt": "is a"}, {"seed": -1},
     {"prefixes": ((5, 0),)}, {"stop": float("nan")}],
)  # fmt: skip
def test_constants_that_cannot_be_are_refused(wrong):
    with pytest.raises(InputError, match=next(iter(wrong))):
        EditOptions(**wrong)


def test_a_layer_from_which_nothing_reaches_the_answer_is_refused(gpt2):
    with pytest.raises(ChangeError, match="earlier layer"):
        _edit(gpt2, layer=2)


def test_a_covariance_of_too_few_tokens_is_refused_without_a_ridge(gpt2):
    few = key_covariance(gpt2, 1, samples=1, length=16, cache=None)
    with pytest.raises(InputError, match="singular"):
        _edit(gpt2, covariance=few)
    _edit(gpt2, covariance=few, options=EditOptions(steps=1, prefixes=(), ridge=1e-3))


def test_an_edit_of_another_shape_does_not_fit(gpt2, make_model):
    with pytest.raises(ChangeError, match="by inputs"):
        _edit(gpt2).values(make_model("llama"))
    with pytest.raises(InputError, match="no facts"):
        edit_facts(gpt2, [], layer=1, covariance=_covariance(gpt2))
    assert issubclass(ChangeError, TwinlensError)


def test_what_rounding_loses_is_told(tokenizer):
    model = tl.load(random_model("gpt2", tokenizer), tokenizer=tokenizer, dtype="bfloat16")
    options = replace(FAST, steps=1, lr=1e-4)  # a change below what such weights can hold
    notes = _edit(model, options=options).notes
    assert any("rounding to bfloat16" in note for note in notes)
