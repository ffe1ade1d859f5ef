from __future__ import annotations

import pytest
import torch

import twinlens as tl
from tests.conftest import STORY
from twinlens.change.beside import logit_gap, speed_ratio
from twinlens.change.change import Assigned
from twinlens.change.shrink import shrink
from twinlens.errors import ChangeError


def test_the_gap_is_the_largest_difference_of_any_logit(make_model):
    model = make_model("opt")
    other = shrink(model).model
    assert logit_gap(model, other, [STORY]).difference == 0
    name = "model.decoder.layers.2.fc2.bias"
    moved = dict(other.hf.named_parameters())[name].detach() + 0.01
    ids = torch.from_numpy(model.encode(STORY).ids)[None]
    with tl.changed(other, Assigned({name: moved})), torch.no_grad():
        gap = logit_gap(model, other, [STORY])
        before, after = model.hf(ids).logits, other.hf(ids).logits
    assert gap.n_tokens == ids.numel()
    assert gap.difference == pytest.approx(float((before - after).abs().max()), rel=1e-5)
    assert gap.largest == pytest.approx(float(before.abs().max()), rel=1e-5)
    assert gap.difference > 0


def test_no_more_is_read_than_asked_for(make_model):
    model = make_model("opt")
    every = model.encode(STORY).ids.size
    read = [logit_gap(model, model, [STORY] * 9, length=8, limit=n).n_tokens for n in (1, 17, 999)]
    assert read == [8, 16, min(9 * every, 999 // every * every)]


def test_models_with_other_logits_are_refused(make_model, stories):
    with pytest.raises(ChangeError, match="not as many logits"):
        logit_gap(make_model("opt"), stories, ["A cat."])


def test_the_ratio_is_within_its_quartiles(make_model):
    model = make_model("opt")
    speed = speed_ratio(model, model, rows=1, length=999, pairs=3)
    assert 0 < speed.low <= speed.ratio <= speed.high
    assert speed.pairs == 3
